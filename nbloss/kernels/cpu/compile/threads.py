"""How many threads, and whether it is safe to use them at all.

Numba's parallel loops run on TBB, OpenMP or its own work queue, whichever loads first in a process. TBB is the one to have: it may be
entered by several Python threads, survives a fork, and does not fight OpenBLAS (docs/how-it-works/threads.md). Pip puts its library where the loader
does not look, so it is loaded here, unless the user chose another layer. Where only the others exist: one thread at a time enters the
work queue (it aborts the process otherwise), and a forked child does not enter OpenMP (it would be killed, or hang).
"""

import ctypes
import multiprocessing
import os
import sys
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path

from nbloss import _fork_safety

_chosen = None


@cache
def load_tbb():
    """Make pip's TBB loadable for Numba; does nothing if the user named a layer that is not TBB or there is no such package."""
    import numba

    if str(numba.config.THREADING_LAYER).lower() in ("omp", "workqueue"):
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


def _cgroup_limit(root=Path("/sys/fs/cgroup"), membership=Path("/proc/self/cgroup")):
    """Processors that the container may use, rounded up; a large number if nothing says so. Every group above ours limits us too."""
    limit = sys.maxsize
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for controllers, path in [line.split(":", 2)[1:] for line in lines if line.count(":") > 1]:
        if controllers not in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            continue
        top = root / controllers
        for group in (top / path.lstrip("/"), *(top / parent for parent in Path(path.lstrip("/")).parents), top):
            try:
                if controllers:  # version 1: -1 is no limit
                    quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:  # version 2: "max" is no limit
                    quota, period = (group / "cpu.max").read_text().split()
                if int(quota) > 0:
                    limit = min(limit, -(-int(quota) // int(period)))
            except (OSError, ValueError, ZeroDivisionError):
                continue
    return max(1, limit)


_container = cache(_cgroup_limit)


def _default():
    wanted = os.environ.get("NBLOSS_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"NBLOSS_NUM_THREADS should be a whole number from 1; got {wanted!r}")
        return int(wanted)
    from numba import config

    if config.NUMBA_NUM_THREADS != config.NUMBA_DEFAULT_NUM_THREADS:
        return config.NUMBA_NUM_THREADS  # the user's word
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else sys.maxsize  # may change: worker processes are pinned
    return min(config.NUMBA_NUM_THREADS, allowed, _container())


def get_num_threads() -> int:
    """How many threads the CPU kernels may use.

    Returns
    -------
    int
        What `set_num_threads` chose; else the variable ``NBLOSS_NUM_THREADS``; else ``NUMBA_NUM_THREADS`` where it is set; else the
        processors that this process may run on, within the limit of its container.

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


@cache
def _start():
    """Start Numba's threads before the first parallel loop, so that its layer is known beforehand: its name; None for no threads."""
    if layer() == "omp" and multiprocessing.parent_process():
        _fork_safety.forked = True  # somebody else's loop started it, perhaps in the parent, before nbloss was there to see the fork
    load_tbb()
    try:
        if layer() is None:
            import numba

            _fork_safety.start(numba.get_num_threads)
    except ValueError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        warnings.warn(f"nbloss uses one thread, as Numba finds no threads to use: {reason}", RuntimeWarning, stacklevel=2)
    return layer()


def join():
    """How many threads a call may use, until it says ``leave``; one has nothing to leave."""
    wanted = get_num_threads()
    if wanted == 1:
        return 1
    name = _start()
    # the work queue takes one thread at a time, OpenMP none in a forked child, TBB none where its threads did not end at the fork
    entered = _fork_safety.enter(
        lambda others: (
            (name == "tbb" and not _fork_safety.alone)
            or (name == "omp" and not _fork_safety.forked)
            or (name == "workqueue" and not others)
        )
    )
    return wanted if entered else 1


leave = _fork_safety.leave


def describe():
    """One line for ``python -m nbloss info``."""
    load_tbb()
    return f"{get_num_threads()}, layer: {layer() or 'not started'}"
