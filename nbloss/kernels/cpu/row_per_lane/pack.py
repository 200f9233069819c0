"""Between memory and tiles. A tile is as many positions as a vector has lanes, class by class: one lane per row or pixel.

A few tiles make a slab that is brought into L1, worked on there, and carried out: classes that lie a power of two apart, (N, C, H, W), do
not throw each other out of the cache. How a slab moves is seen from where its positions lie:

* BESIDE: neighbours in memory, as pixels are. Whole vectors, class by class.
* TURNED: the classes are neighbours, as in rows, and make a piece of a vector or leave no gaps. Transposed in registers.
* APART: anything else, and ragged tiles of rows; number by number.

A slab of pixels ends where its image does, so that it moves in one way. The lanes of its last tile that hold no position of their own hold
zeros or the last position again, and are not written (or to the last position's place, before that one).

What is called for every tile takes pointers and numbers, no arrays: Numba counts references to those, in calls around which all vectors are
put by.
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.simd.load_store import gather, lanes, load, load_n, put, scatter, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, stride
from nbloss.kernels.cpu.simd.transpose import load_interleaved, store_interleaved, transpose_in, transpose_out, transpose_width

CONTIGUOUS, TRANSPOSED, STRIDED = 0, 1, 2

NO_OFFSET = -(2**62)


@njit(**INLINE)
def position_pointer(array, p):
    """Where position p's class 0 lies."""
    inner = array.shape[2]
    return pointer(array, p // inner * stride(array, 0) + p % inner * stride(array, 2))


@njit(**INLINE)
def tile_offsets(inner, outer_stride, inner_stride, p, hi, width, offsets):
    """The offset of each position of a tile, the last one again beyond hi."""
    o, i = p // inner, p % inner
    for lane in range(width):
        put(offsets, lane, o * outer_stride + i * inner_stride)
        if p + lane + 1 < hi:
            i += 1
            if i == inner:
                i = 0
                o += 1


@njit(**INLINE)
def layout_of(array, n, p, stop):
    """How a slab moves, its first position's offset, and what its positions lie apart (0 if that differs)."""
    inner, outer_stride, class_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 1), stride(array, 2)
    if inner == 1:
        begin, distance = p * outer_stride, outer_stride
    else:
        o, i = p // inner, p % inner
        begin = o * outer_stride + i * inner_stride
        distance = inner_stride if i + stop - p <= inner or outer_stride == inner * inner_stride else 0
    if distance == 1:
        return CONTIGUOUS, begin, distance
    if distance != 0 and class_stride == 1 and (n >= transpose_width(pointer(array, 0)) or (distance == n and n >= 2)):
        return TRANSPOSED, begin, distance
    return STRIDED, begin, distance


@njit(**NO_INLINE)
def pack(array, n, p, stop, offsets, block):
    """Fill a slab: per tile n vectors.

    Returns how far from the array's start the next slab would lie if this one and it are of pixels, else NOWHERE.
    """
    base = pointer(array, 0)
    width = lanes(base)
    inner, outer_stride, class_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 1), stride(array, 2)
    kind, begin, distance = layout_of(array, n, p, stop)
    full_tiles, rest = (stop - p) // width, (stop - p) % width
    if kind == CONTIGUOUS:
        for c in range(n):
            row = offset(base, begin + c * class_stride)
            for k in range(full_tiles):
                store(block, (k * n + c) * width, load(row, k * width))
            if rest:
                store(block, (full_tiles * n + c) * width, load_n(row, full_tiles * width, rest, 0.0))
        return begin + stop - p
    piece = transpose_width(base)
    for q in range(p, stop, width):
        tile, row = offset(block, (q - p) * n), offset(base, begin + (q - p) * distance)
        if kind == STRIDED or q + width > stop:
            tile_offsets(inner, outer_stride, inner_stride, q, stop, width, offsets)
            for c in range(n):
                store(tile, c * width, gather(base, offsets, c * class_stride))
        elif distance == n and n == 2:
            load_interleaved(row, 2, tile)
        elif distance == n and n == 3:
            load_interleaved(row, 3, tile)
        else:
            for c in range(0, n, piece):
                first = min_int(c, n - piece)
                transpose_in(offset(row, first), distance, offset(tile, first * width), width)
    return NO_OFFSET


@njit(**NO_INLINE)
def unpack(array, n, p, stop, offsets, block, source):
    """Write a slab out, whose numbers came from ``source``."""
    base = pointer(array, 0)
    streamed = channels_bypass_caches(array, source)
    width = lanes(base)
    inner, outer_stride, class_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 1), stride(array, 2)
    kind, begin, distance = layout_of(array, n, p, stop)
    full_tiles, rest = (stop - p) // width, (stop - p) % width
    if kind == CONTIGUOUS:
        for c in range(n):
            row = offset(base, begin + c * class_stride)
            if streamed and elements_to_aligned(row) == 0:
                for k in range(full_tiles):
                    store_nontemporal(row, k * width, load(block, (k * n + c) * width))
            else:
                for k in range(full_tiles):
                    store(row, k * width, load(block, (k * n + c) * width))
            if rest:
                store_n(row, full_tiles * width, rest, load(block, (full_tiles * n + c) * width))
        return
    piece = transpose_width(base)
    for q in range(p, stop, width):
        tile, row = offset(block, (q - p) * n), offset(base, begin + (q - p) * distance)
        if kind == STRIDED or q + width > stop:
            tile_offsets(inner, outer_stride, inner_stride, q, stop, width, offsets)
            for c in range(n):
                scatter(base, offsets, c * class_stride, load(tile, c * width))
        elif distance == n and n == 2:
            store_interleaved(tile, row, 2)
        elif distance == n and n == 3:
            store_interleaved(tile, row, 3)
        else:
            for c in range(0, n, piece):
                first = min_int(c, n - piece)
                transpose_out(offset(tile, first * width), offset(row, first), distance)
