"""Floor 1: output that no cache will hold goes past them all.

No line is then read only to be overwritten. Where the output fits a cache, that would cost 1.6x.
"""

from pathlib import Path

from numba import njit

from nbloss.kernels.cpu.memory import same_place
from nbloss.kernels.cpu.vecmath import STRICT


def _last_level_cache():
    """Bytes of the largest cache, as Linux tells them; 32 MB where nobody does."""
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 32 << 20


# A constant of the compiled code: on a machine with the same processor and another cache it costs time, nothing else.
LAST_LEVEL = _last_level_cache()


@njit(**STRICT)
def past_caches(out, source, result):
    """Whether ``out`` is that large, and not written in place: ``source`` has just been read."""
    return out.size * out.itemsize > LAST_LEVEL and not same_place(source, result)
