"""Numbers that trade speed and that both sides of a call need: the kernels, and the Python that chooses and shares out their work.

This module imports no Numba: a call whose kernels are on disk needs none of their sources. `FOR_CACHES` depends on the machine; compiled
code reads it when it runs (``streams.tuned``), so that one file of machine code fits every machine of a processor level.
"""

import ctypes
from pathlib import Path

SHORT = 48  # classes; up to here contiguous rows go one to a lane too: about where both ways take as long
LONGEST = 4096  # classes of one tile: 256 kB of buffer, and as much for the tile as it was before its exponentials
LEAST = 64  # positions of an image: shorter ones are walked in ``lanes.py``
TURNED = 192  # classes from which on ``planes.py`` writes rows: shorter ones stay in a cache as slabs
WIDE = 4  # bytes: of narrower numbers a vector is half a line, which took 1.1 to 1.36 times as long past the caches as through them
FETCHED = 4  # numbers that one from somewhere in a row takes as long as
GROUP = 8192  # rows per partial sum: a constant, so the sums have the same bits for any number of threads
RUN = 512  # rows that are added first, and then their sums: one long sum of 9000 equal float64 losses was 15 eps off


def _cache(level, otherwise, root=Path("/sys/devices/system/cpu/cpu0/cache")):
    """Bytes of a cache, as Linux tells them; ``otherwise`` where nobody does (macOS, Windows, some containers)."""
    try:
        return int((root / f"index{level}" / "size").read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return otherwise


# A virtual machine is told of the whole last cache of a processor that it shares with others: of 260 MB, 64 to 80 held what was read again.
SECOND_CACHE, LAST_CACHE = _cache(2, 1 << 20), min(_cache(3, 32 << 20), 72 << 20)

FOR_CACHES = {
    # From how many bytes of output on it goes past the caches. Of rows, about what the last cache does not hold beside the logits. Long
    # rows gain sooner: the output's lines need no place in the second cache. So do pixels, whose lines lie classes apart.
    "rows_past": LAST_CACHE // 2,
    "long_rows_past": LAST_CACHE // 6,
    "pixels_past": 2 * SECOND_CACHE,
    "slab": SECOND_CACHE // 16,  # float32 numbers in a quarter of a second cache
}
SYMBOL = "nbloss_for_caches"  # under which compiled code finds them
NUMBERS = (ctypes.c_int64 * len(FOR_CACHES))(*FOR_CACHES.values())
