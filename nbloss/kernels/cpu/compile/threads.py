"""The number of threads, and whether a call may use several.

Numba's parallel loops run on a threading layer: TBB, OpenMP or Numba's own work queue, whichever can be loaded first. TBB is the best
one: several Python threads may use it at the same time, it works after a fork, and it does not compete with OpenBLAS for processors
(docs/how-it-works/threads.md). Pip installs its library where the dynamic loader does not search, so this module loads it, unless the
user chose another layer. The other layers have restrictions: only one thread at a time may use the work queue (otherwise it aborts the
process), and a forked child must not use OpenMP (it is terminated, or hangs).
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
    """Load the TBB library that pip installed, for Numba, unless it is not installed or the user chose another layer."""
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
    """The processors that the container may use, rounded up; sys.maxsize without a limit. The limits of all parent groups apply too."""
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
    """The number of threads where ``set_num_threads`` has not set one."""
    requested = os.environ.get("NBLOSS_NUM_THREADS")
    if requested:
        if not requested.isdecimal() or int(requested) < 1:
            raise ValueError(f"NBLOSS_NUM_THREADS should be a whole number from 1; got {requested!r}")
        return int(requested)
    from numba import config

    if config.NUMBA_NUM_THREADS != config.NUMBA_DEFAULT_NUM_THREADS:
        return config.NUMBA_NUM_THREADS  # the user has set it
    # not cached: worker processes set their affinity after they have started
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else sys.maxsize
    return min(config.NUMBA_NUM_THREADS, allowed, _container())


def get_num_threads() -> int:
    """How many threads the CPU kernels may use.

    Returns
    -------
    int
        The number that `set_num_threads` set. Without one: the environment variable ``NBLOSS_NUM_THREADS``, or else
        ``NUMBA_NUM_THREADS``, or else the number of processors that this process may use, within the limit of its container.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.get_num_threads() >= 1
    True
    """
    return _default() if _chosen is None else _chosen


def set_num_threads(n: int | None) -> None:
    """Set how many threads the CPU kernels may use in this process. Results have the same bits for any number of threads.

    Parameters
    ----------
    n : int or None
        At least 1. Numba starts at most ``NUMBA_NUM_THREADS`` threads, so a larger number has no further effect. None restores the
        default.

    Raises
    ------
    ValueError
        If ``n`` is not an integer that is at least 1.

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
    """The name of Numba's threading layer; None before the first parallel loop of the process."""
    import numba

    try:
        return numba.threading_layer()
    except ValueError:
        return None


@cache
def _start():
    """Start Numba's threads before the first parallel loop. Returns the threading layer; None if Numba has none."""
    if layer() == "omp" and multiprocessing.parent_process():
        _fork_safety.forked = True  # other code started OpenMP, possibly in the parent before a fork that nbloss did not observe
    load_tbb()
    try:
        if layer() is None:
            import numba

            _fork_safety.start(numba.get_num_threads)
    except ValueError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        warnings.warn(f"nbloss uses one thread, because Numba has no threading layer: {reason}", RuntimeWarning, stacklevel=2)
    return layer()


def join():
    """How many threads a call may use, until it calls ``leave``. With one thread, it must not call ``leave``."""
    requested = get_num_threads()
    if requested == 1:
        return 1
    name = _start()
    # TBB: not in a child if the parent's TBB threads did not end at the fork. OpenMP: not in a forked child. Work queue: only one thread at
    # a time.
    entered = _fork_safety.enter(
        lambda others: (
            (name == "tbb" and not _fork_safety.alone)
            or (name == "omp" and not _fork_safety.forked)
            or (name == "workqueue" and not others)
        )
    )
    return requested if entered else 1


leave = _fork_safety.leave


def describe():
    """The line of ``python -m nbloss info`` about threads."""
    load_tbb()
    return f"{get_num_threads()}, layer: {layer() or 'not started'}"
