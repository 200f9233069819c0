"""The block loop: how many tiles a block has, where it ends, and what is prefetched while it is computed.

A block is a few tiles that fit a first cache. It is packed from memory, worked on, and unpacked to memory (``pack``).
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.pack import CONTIGUOUS, NO_OFFSET, layout_of
from nbloss.kernels.cpu.simd.load_store import lanes
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches, machine_tuning
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, max_int, min_int, pointer, prefetch_read, prefetch_write, stride
from nbloss.kernels.cpu.tuning import BLOCK_ELEMENTS, BLOCK_MAX_TILES, CACHE_ALIAS_BYTES, CACHE_WAYS, PREFETCH_ALL_MAX_CLASSES


@njit(**INLINE)
def block_tiles(n, width):
    """How many tiles of n vectors a block has.

    Of few classes up to BLOCK_MAX_TILES. Of many classes four, while they fit a quarter of the second cache: every class is on another
    page, and opening a page for one vector does not pay.
    """
    least = 4 if 4 * n * width <= machine_tuning("block_elements") else 2 if 2 * n * width <= machine_tuning("block_elements") else 1
    return max_int(least, min_int(BLOCK_MAX_TILES, BLOCK_ELEMENTS // (n * width)))


@njit(**INLINE)
def positions_to_line(base, out):
    """The number of positions before the first cache line of the output, or of the input where there is no output."""
    if out is None:
        return elements_to_aligned(base)
    return elements_to_aligned(pointer(out, 0))


@njit(**INLINE)
def block_end(inner, p, hi, most, before):
    """The end of a block of at most ``most`` positions that begins at p.

    It ends at the end of its image, so that it has one layout. Otherwise it ends so that the next one begins at a cache line, ``before``
    positions and whole vectors after the start of the image. Images shorter than a vector are ignored.
    """
    stop = min_int(hi, p + most)
    if inner < 16:
        return stop
    start = p - p % inner
    if stop >= start + inner:
        return start + inner
    over = (stop - start - before) % 16
    return stop - over if stop < hi and stop - over > p else stop


@njit(**INLINE)
def next_block(inner, p, hi, size, width, before):
    """``(end, tiles)`` of the block that begins at p, of at most ``size`` tiles."""
    stop = block_end(inner, p, hi, size * width, before)
    return stop, (stop - p + width - 1) // width


# ------------------------------ prefetching ------------------------------


@njit(**INLINE)
def _packed_row_length(array):
    """How many classes rows have that follow each other without gaps; 0 for other layouts."""
    n = array.shape[1]
    return n if array.shape[2] == 1 and stride(array, 1) == 1 and stride(array, 0) == n else 0


@njit(**INLINE)
def classes_to_prefetch(array, n):
    """How many classes of the next channels-first block are prefetched.

    Classes whose stride is a power of two map to the same cache set: more of them would evict each other. Many classes do not fit.
    """
    class_stride = stride(array, 1) * array.itemsize
    aliasing = max_int(1, min_int(CACHE_ALIAS_BYTES, class_stride & -class_stride))
    most = CACHE_WAYS * (CACHE_ALIAS_BYTES // aliasing) if n <= PREFETCH_ALL_MAX_CLASSES else CACHE_WAYS
    return min_int(n, most)


@njit(**INLINE)
def prefetch_plan(array, n):
    """``(classes of a packed row or 0, classes of a channels-first block)`` to prefetch; nothing of None."""
    if array is None:
        return 0, 0
    return _packed_row_length(array), classes_to_prefetch(array, n)


@njit(**INLINE)
def prefetch_input(array, plan, row, begin):
    """Prefetch a tile of the next block: packed rows from ``row`` on, or classes whose positions begin at offset ``begin``."""
    length, classes = plan
    base = pointer(array, 0)
    if begin >= 0:
        for c in range(classes):
            prefetch_read(base, begin + c * stride(array, 1))
    for c in range(length):
        prefetch_read(base, row * length + c * lanes(base))


@njit(**INLINE)
def block_output(out, n, p, stop, source):
    """The offset of a channels-first block in the output; NO_OFFSET for rows, and for nontemporal stores."""
    if out is None:
        return NO_OFFSET
    kind, begin, _ = layout_of(out, n, p, stop, 0)
    return begin if kind == CONTIGUOUS and not channels_bypass_caches(out, source) else NO_OFFSET


@njit(**INLINE)
def prefetch_output(out, plan, row, begin):
    """Prefetch the lines that a tile will be written to: a store that misses the caches blocks the stores behind it."""
    if out is None:
        return
    length, classes = plan
    base = pointer(out, 0)
    for c in range(length):
        prefetch_write(base, row * length + c * lanes(base))
    if begin >= 0:
        for c in range(classes):
            prefetch_write(base, begin + c * stride(out, 1))
