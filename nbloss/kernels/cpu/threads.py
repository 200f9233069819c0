"""Floor 1: how many threads, and whether it is safe to use them at all.

Numba's parallel loops run on TBB, OpenMP or its own work queue, whichever loads first in a process. TBB is the one to have: it may be
entered by several Python threads, survives a fork, and does not fight OpenBLAS (docs/design.md). Pip puts its library where the loader
does not look, so it is loaded here, unless the user chose a layer. Where only the others exist: one thread at a time enters the work
queue (it aborts the process otherwise), and a forked child does not enter OpenMP (it would be killed).
"""

import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

SERIAL_BELOW = 98304  # numbers; below, waking a thread (10 to 30 us) is not worth it

_chosen = None
_forked = False
_queue = threading.Lock()
_entered = False


def _after_fork():
    global _forked, _queue
    _forked, _queue = _entered, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def load_tbb():
    """Make pip's TBB loadable for Numba; does nothing if the user named a threading layer or there is no such package."""
    import numba

    if numba.config.THREADING_LAYER != "default":
        return
    try:
        files = [Path(f.locate()) for f in metadata.files("tbb") or () if Path(f).name in ("libtbb.so.12", "tbb12.dll")]
    except metadata.PackageNotFoundError:
        return
    for path in [f.resolve() for f in files]:
        try:
            ctypes.CDLL(str(path))
            return
        except OSError:
            continue


def _cgroup_limit():
    """Processors that the container may use, rounded up; a large number if nothing says so."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return sys.maxsize


@cache
def _default():
    import numba

    wanted = os.environ.get("NBLOSS_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"NBLOSS_NUM_THREADS should be a whole number from 1; got {wanted!r}")
        return int(wanted)
    return min(numba.config.NUMBA_NUM_THREADS, _cgroup_limit())


def get_num_threads() -> int:
    """How many threads the CPU kernels may use.

    Returns
    -------
    int
        What `set_num_threads` chose; else the variable ``NBLOSS_NUM_THREADS``; else Numba's number (``NUMBA_NUM_THREADS``, or the
        processors that this process may run on), within the limit of the container.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.get_num_threads() >= 1
    True
    """
    return _default() if _chosen is None else _chosen


def set_num_threads(n: int | None) -> None:
    """Let the CPU kernels use ``n`` threads, in this process, from the next call on. Results do not depend on it, to the last bit.

    Parameters
    ----------
    n : int or None
        At least 1. More than Numba started with (``NUMBA_NUM_THREADS``) gives no more. None: back to the default.

    Raises
    ------
    ValueError
        If ``n`` is not a whole number from 1.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.set_num_threads(1)
    >>> nbloss.get_num_threads()
    1
    >>> nbloss.set_num_threads(None)
    """
    global _chosen
    if n is not None and (isinstance(n, bool) or not hasattr(n, "__index__") or n.__index__() < 1):
        raise ValueError(f"n should be a whole number from 1, or None; got {n!r}")
    _chosen = None if n is None else n.__index__()


def layer():
    """The threading layer in use, None before the first parallel loop of the process."""
    import numba

    try:
        return numba.threading_layer()
    except ValueError:
        return None


@contextmanager
def team():
    """How many threads a call may use, for as long as it runs."""
    global _entered
    wanted = get_num_threads()
    if wanted > 1 and _forked and layer() == "omp":
        wanted = 1
    if wanted == 1:
        yield 1
        return
    load_tbb()
    _entered = True
    if layer() in ("tbb", "omp"):
        yield wanted
    elif _queue.acquire(blocking=False):  # the work queue, or not known yet
        try:
            yield wanted
        finally:
            _queue.release()
    else:
        yield 1


def describe():
    """One line for ``python -m nbloss info``."""
    load_tbb()
    return f"{get_num_threads()}, layer: {layer() or 'not started'}"
