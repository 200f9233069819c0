"""Floor 1: output that no cache will hold goes past them all.

No line is then read only to be overwritten, and none drives out what is read next. Where the output fits a cache, that would cost 1.3x.
"""

from pathlib import Path

from numba import njit

from nbloss.kernels.cpu.memory import address, pointer
from nbloss.kernels.cpu.vecmath import STRICT


def _cache(level, otherwise):
    """Bytes of a cache, as Linux tells them; ``otherwise`` where nobody does."""
    try:
        return int(Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size").read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return otherwise


# Constants of the compiled code: on a machine with the same processor and other caches they cost time, nothing else.
# A virtual machine is told of the whole last cache of a processor that it shares with others: of 260 MB, 64 to 80 held what was read again.
SECOND, _LAST = _cache(2, 1 << 20), min(_cache(3, 32 << 20), 72 << 20)

LONG = 400_000  # bytes: two longer rows, and the exponentials of one, are more than a second cache holds
WORTH = 2048  # numbers: a shorter row is not worth the alignment
WIDE = 4  # bytes: of narrower numbers a vector is half a line, which took 1.1 to 1.36 times as long past the caches as through them

# From how many bytes of output on. Of rows, about what the last cache does not hold beside the logits. Long rows gain sooner: the
# output's lines need no place in the second cache. So do pixels, whose lines lie classes apart.
ROWS, LONG_ROWS, PIXELS = _LAST // 2, _LAST // 6, 2 * SECOND


@njit(**STRICT)
def _beyond(out, most, source):
    """Whether ``out`` is larger, and not written in place: ``source`` has just been read."""
    return out.size * out.itemsize > most and address(source) != address(pointer(out, 0))


@njit(**STRICT)
def rows_pass(out, n, source):
    """Whether rows of n numbers go past the caches."""
    if n * out.itemsize > LONG:
        return _beyond(out, LONG_ROWS, source)
    return n >= WORTH and out.itemsize >= WIDE and _beyond(out, ROWS, source)


@njit(**STRICT)
def pixels_pass(out, source):
    """Whether pixels go past the caches."""
    return out.itemsize >= WIDE and _beyond(out, PIXELS, source)
