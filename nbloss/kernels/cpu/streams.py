"""Floor 1: output that no cache will hold goes past them all.

No line is then read only to be overwritten, and none drives out what is read next. Where the output fits a cache, that would cost 1.3x.
"""

from pathlib import Path

from numba import njit

from nbloss.kernels.cpu.memory import same_place
from nbloss.kernels.cpu.vecmath import STRICT


def _cache(level, otherwise):
    """Bytes of a cache, as Linux tells them; ``otherwise`` where nobody does."""
    try:
        return int(Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size").read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return otherwise


# Constants of the compiled code: on a machine with the same processor and other caches they cost time, nothing else.
_SECOND, _LAST = _cache(2, 1 << 20), _cache(3, 32 << 20)

WIDE = 4  # bytes: of narrower numbers a vector is half a line, which took 1.1 to 1.36 times as long past the caches as through them

# From how many bytes of output on. Of rows, about what the last cache does not hold beside the logits. Rows that share a second
# cache only with the next one gain sooner: the output's lines need no place there. So do pixels, whose lines lie classes apart.
ROWS, LONG_ROWS, PIXELS = _LAST // 2, _LAST // 6, 2 * _SECOND


@njit(**STRICT)
def past_caches(out, source, result, most):
    """Whether ``out`` is larger, and not written in place: ``source`` has just been read."""
    return out.size * out.itemsize > most and not same_place(source, result)
