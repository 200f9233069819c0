"""TODO"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.pack import CONTIGUOUS, NO_OFFSET, layout_of
from nbloss.kernels.cpu.simd.load_store import lanes
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches, machine_tuning
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, max_int, min_int, pointer, prefetch_read, prefetch_write, stride
from nbloss.kernels.cpu.tuning import BLOCK_ELEMENTS, BLOCK_MAX_TILES, CACHE_ALIAS_BYTES, CACHE_WAYS, PREFETCH_ALL_MAX_CLASSES


@njit(**INLINE)
def block_tiles(n, width):
    """How many tiles of n vectors make a slab: 16 kB, a third of an L1 cache: the next slab and the output's lines come too.

    Of few classes MOST tiles: longer slabs were slower, as loads wait for older stores to addresses that end like theirs. Of many
    classes four, while that is a quarter of the second cache: every class is on another page, which is not worth opening for one vector.
    """
    least = 4 if 4 * n * width <= machine_tuning("block_elements") else 2 if 2 * n * width <= machine_tuning("block_elements") else 1
    return max_int(least, min_int(BLOCK_MAX_TILES, BLOCK_ELEMENTS // (n * width)))


@njit(**INLINE)
def positions_to_line(base, out):
    """How many positions lie before the first cache line of what is written, or of what is read if nothing is."""
    if out is None:
        return elements_to_aligned(base)
    return elements_to_aligned(pointer(out, 0))


@njit(**INLINE)
def block_end(inner, p, hi, most, before):
    """Where a slab of at most so many positions ends that begins at p.

    Where its image does, or else such that the next one begins at the start of a cache line, ``before`` positions (and whole vectors) after
    an image's start. Images shorter than a vector are not looked at.
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
def packed_row_length(array):
    """How long rows are that follow each other without gaps; 0 where there are none."""
    if array is None:
        return 0
    n = array.shape[1]
    return n if array.shape[2] == 1 and stride(array, 1) == 1 and stride(array, 0) == n else 0


@njit(**INLINE)
def prefetch_packed_rows(base, n, p):
    """Ask for a tile of packed rows of n numbers."""
    width = lanes(base)
    for c in range(n):
        prefetch_read(base, p * n + c * width)


@njit(**INLINE)
def classes_to_prefetch(array, n):
    """How many classes of the next slab of pixels are asked for.

    A power of two apart they share their places in a cache, and more of them would throw each other out; many do not fit.
    """
    if array is None:
        return 0
    class_stride = stride(array, 1) * array.itemsize
    most = (
        CACHE_WAYS * (CACHE_ALIAS_BYTES // max_int(1, min_int(CACHE_ALIAS_BYTES, class_stride & -class_stride)))
        if n <= PREFETCH_ALL_MAX_CLASSES
        else CACHE_WAYS
    )
    return min_int(n, most)


@njit(**INLINE)
def prefetch_tile(array, classes, begin):
    """Ask for a tile of the next slab while this one is worked on."""
    if begin >= 0:
        base = pointer(array, 0)
        for c in range(classes):
            prefetch_read(base, begin + c * stride(array, 1))


@njit(**INLINE)
def block_output(out, n, p, stop, source):
    """How far from the array's start a slab of pixels will be written; NOWHERE if it is of rows or goes past the caches."""
    if out is None:
        return NO_OFFSET
    kind, begin, _ = layout_of(out, n, p, stop)
    return begin if kind == CONTIGUOUS and not channels_bypass_caches(out, source) else NO_OFFSET


@njit(**INLINE)
def prefetch_output(out, rows, p, classes, begin):
    """Ask for the lines that a tile will be written to: a store that misses the caches holds up those behind it.

    Of packed rows of so many numbers, from row ``p`` on; or of so many classes of pixels, at ``offset``.
    """
    if out is None:
        return
    base = pointer(out, 0)
    width = lanes(base)
    for c in range(rows):
        prefetch_write(base, p * rows + c * width)
    if begin >= 0:
        for c in range(classes):
            prefetch_write(base, begin + c * stride(out, 1))
