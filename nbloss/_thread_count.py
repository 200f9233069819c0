"""How many threads the CPU kernels may use: what the user, the environment, threadpoolctl and the system say."""

import os
import sys
import threading
from functools import cache, lru_cache

_chosen = None


class _Limit(threading.local):
    """The limit of threadpoolctl, one for each thread: so threads that set and end limits at the same time do not disturb each other."""

    number: int | None = None


_limit = _Limit()


def _cgroup_limit(root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """The processors that the container may use, rounded up; sys.maxsize without a limit. The limits of all parent groups apply too."""
    from pathlib import Path  # takes longer to import than all of nbloss

    most = sys.maxsize
    try:
        lines = Path(membership).read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for controllers, path in [line.split(":", 2)[1:] for line in lines if line.count(":") > 1]:
        if controllers not in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            continue
        top = Path(root) / controllers
        for group in (top / path.lstrip("/"), *(top / parent for parent in Path(path.lstrip("/")).parents), top):
            try:
                if controllers:  # version 1: -1 is no limit
                    quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:  # version 2: "max" is no limit
                    quota, period = (group / "cpu.max").read_text().split()
                if int(quota) > 0:
                    most = min(most, -(-int(quota) // int(period)))
            except (OSError, ValueError, ZeroDivisionError):
                continue
    return max(1, most)


_container = cache(_cgroup_limit)


VARIABLES = ("NBLOSS_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")  # the first one that asks for a number counts
_KEYS = tuple(map(os.environ.encodekey, VARIABLES))


def _values():
    """The values of the ``VARIABLES`` as the process has them now: loky and Dask may set them after nbloss is imported.

    Each call that may use several threads reads them. ``os.environ.get`` takes 1 us for a variable that is not set, its dictionary 0.05 us.
    """
    data = getattr(os.environ, "_data", None)
    return tuple(map(os.environ.get, VARIABLES)) if data is None else tuple(map(data.get, _KEYS))


def _first_number(text):
    """The first number of "4" or "4,2", as OpenMP reads it; None if the text is anything else, which OpenMP ignores."""
    numbers = [word.strip().removeprefix("+") for word in text.split(",")]
    valid = all(number.isascii() and number.isdecimal() and 0 < int(number) < 2**31 for number in numbers)
    return int(numbers[0]) if valid else None


@lru_cache(maxsize=16)
def _asked(*values):
    """``(number, variable)`` of the first of the ``VARIABLES`` that asks for a number; ``(None, None)`` if none does."""
    for name, value in zip(VARIABLES, values, strict=True):
        text = os.fsdecode(value or "")
        if text and name == VARIABLES[0] and (not text.isdecimal() or int(text) < 1):
            raise ValueError(f"{name} should be a whole number from 1; got {text!r}")
        number = _first_number(text)
        if number is not None:
            return number, name
    return None, None


@cache
def _numba():
    from numba import config

    return config


def _default(config=None):
    """``(number of threads, what decides it)`` where ``set_num_threads`` has set none. ``config`` is Numba's, if that is loaded."""
    number, name = _asked(*_values())
    if name == VARIABLES[0]:
        return number, name
    if config is not None and config.NUMBA_NUM_THREADS != config.NUMBA_DEFAULT_NUM_THREADS:  # the variable, or .numba_config.yaml
        return min(config.NUMBA_NUM_THREADS, number if name == VARIABLES[1] else sys.maxsize), VARIABLES[1]
    if number is not None:
        return number, name
    # not cached: worker processes set their affinity after they have started
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else sys.maxsize
    started = (os.cpu_count() or 1) if config is None else config.NUMBA_NUM_THREADS
    return min(started, allowed, _container()), "the processors that this process may use"


def _unlimited(config=None):
    """``(number of threads, what decides it)`` without a limit of threadpoolctl."""
    return _default(config) if _chosen is None else (_chosen, "set_num_threads")


def _limited(config=None):
    """``(number of threads, what decides it)`` for the thread that calls."""
    number, why = _unlimited(config)
    return (number, why) if _limit.number is None or _limit.number >= number else (_limit.number, "threadpoolctl")


def _numba_if_loaded():
    """Numba's configuration if Numba is loaded: threadpoolctl should not make every process that uses it import Numba."""
    return sys.modules.get("numba.core.config")


def limited():
    """What threadpoolctl reads: the number of threads for the thread that calls."""
    return _limited(_numba_if_loaded())[0]


def set_limit(number):
    """What threadpoolctl calls to limit the thread that calls, and also to end the limit: with the number that held without it."""
    _limit.number = None if number >= _unlimited(_numba_if_loaded())[0] else number


def get_num_threads() -> int:
    """How many threads the CPU kernels may use.

    Returns
    -------
    int
        The number that `set_num_threads` set. Without one: the environment variable ``NBLOSS_NUM_THREADS``, or else
        ``NUMBA_NUM_THREADS``, or else ``OMP_NUM_THREADS`` (the first number of a list), or else the number of processors that this
        process may use, within the limit of its container. Within ``threadpoolctl.threadpool_limits(n)``, at most ``n``.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.get_num_threads() >= 1
    True
    """
    return _limited(_numba())[0]


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


def describe():
    """The number and what decides it, as text."""
    number, why = _limited(_numba())
    return f"{number} ({why})"
