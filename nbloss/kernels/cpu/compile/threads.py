"""Whether a call may use several threads.

Numba's parallel loops run on a threading layer: TBB, OpenMP or Numba's own work queue, whichever can be loaded first. TBB is the best
one: several Python threads may use it at the same time, it works after a fork, and it does not compete with OpenBLAS for processors
(docs/how-it-works/threads.md). Pip installs its library where the dynamic loader does not search, so this module loads it, unless the
user chose another layer. The other layers have restrictions: only one thread at a time may use the work queue (otherwise it aborts the
process), and a forked child must not use OpenMP (it is terminated, or hangs).
"""

import ctypes
import multiprocessing
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path

from nbloss import _fork_safety
from nbloss._thread_count import describe as describe_count
from nbloss._thread_count import get_num_threads


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
    return f"{describe_count()}, layer: {layer() or 'not started'}"
