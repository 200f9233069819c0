"""Copies blocks of tiles from an array (pack) and to an array (unpack).

A tile has as many positions as a vector has lanes, one position per lane: n vectors, one for each class, which are contiguous. A block is a
few tiles. It is packed into the first cache, computed there, and unpacked. In the array itself, classes would evict each other from the
cache where their stride is a power of two, as in many (N, C, H, W) arrays. The layout of a block's positions decides how it is copied:

==========  ==========================================================================================================
CONTIGUOUS  positions are contiguous, as in channels-first arrays: by vectors, class by class
TRANSPOSED  classes are contiguous, and rows are packed or have at least a piece of classes (``simd/transpose``):
            transposed in registers
STRIDED     all other layouts, and partial tiles of rows: element by element
==========  ==========================================================================================================

A channels-first block ends at the end of its image at the latest, so that it has one layout. In a partial tile, the lanes without a
position hold zeros, or the last position again. ``unpack`` does not store them, or stores them to the last position before it stores the
lane of that position.

Functions that run once per tile take pointers and numbers, not arrays. Numba counts references to array arguments by function calls, and
vector registers are spilled around a call.
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.simd.load_store import (
    gather_as,
    lanes,
    load,
    load_as,
    load_n_as,
    put,
    scatter,
    splat,
    store,
    store_n,
    store_nontemporal,
)
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, stride
from nbloss.kernels.cpu.simd.transpose import load_interleaved, store_interleaved, transpose_in, transpose_out, transpose_width

CONTIGUOUS, TRANSPOSED, STRIDED = 0, 1, 2

NO_OFFSET = -(2**62)


@njit(**INLINE)
def tile_offsets(inner, outer_stride, inner_stride, p, hi, width, offsets):
    """Store the offset of each position of a tile in ``offsets``; lanes beyond hi get the offset of the last position."""
    o, i = p // inner, p % inner
    for lane in range(width):
        put(offsets, lane, o * outer_stride + i * inner_stride)
        if p + lane + 1 < hi:
            i += 1
            if i == inner:
                i = 0
                o += 1


@njit(**INLINE)
def layout_of(array, n, p, stop, piece):
    """``(layout, offset of the first position, stride of the positions)`` of a block; a stride that is not constant is 0.

    Rows of less than a ``piece`` of classes are transposed only if they are packed.
    """
    inner, outer_stride, class_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 1), stride(array, 2)
    if inner == 1:
        begin, position_stride = p * outer_stride, outer_stride
    else:
        o, i = p // inner, p % inner
        begin = o * outer_stride + i * inner_stride
        position_stride = inner_stride if i + stop - p <= inner or outer_stride == inner * inner_stride else 0
    if position_stride == 1:
        return CONTIGUOUS, begin, position_stride
    if position_stride != 0 and class_stride == 1 and (n >= piece or (position_stride == n and n >= 2)):
        return TRANSPOSED, begin, position_stride
    return STRIDED, begin, position_stride


@njit(**NO_INLINE)
def pack(array, n, p, stop, offsets, block):
    """Copy the positions [p, stop) of an array to a block, converted to the block's type.

    Returns the offset of the position after a channels-first block, and NO_OFFSET for other layouts.
    """
    base = pointer(array, 0)
    width, piece, like = lanes(block), transpose_width(block), splat(block, 0.0)
    inner, outer_stride, class_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 1), stride(array, 2)
    kind, begin, position_stride = layout_of(array, n, p, stop, piece)
    full_tiles, rest = (stop - p) // width, (stop - p) % width
    if kind == CONTIGUOUS:
        for c in range(n):
            row = offset(base, begin + c * class_stride)
            for k in range(full_tiles):
                store(block, (k * n + c) * width, load_as(row, k * width, like))
            if rest:
                store(block, (full_tiles * n + c) * width, load_n_as(row, full_tiles * width, rest, 0.0, like))
        return begin + stop - p
    for q in range(p, stop, width):
        tile, row = offset(block, (q - p) * n), offset(base, begin + (q - p) * position_stride)
        if kind == STRIDED or q + width > stop:
            tile_offsets(inner, outer_stride, inner_stride, q, stop, width, offsets)
            for c in range(n):
                store(tile, c * width, gather_as(base, offsets, c * class_stride, like))
        elif position_stride == n and n == 2:
            load_interleaved(row, 2, tile)
        elif position_stride == n and n == 3:
            load_interleaved(row, 3, tile)
        else:
            for c in range(0, n, piece):
                first = min_int(c, n - piece)
                transpose_in(offset(row, first), position_stride, offset(tile, first * width), width)
    return NO_OFFSET


@njit(**NO_INLINE)
def unpack(array, n, p, stop, offsets, block, source):
    """Copy a block to the positions [p, stop) of an array. ``source`` points to the input of the block (``simd/nontemporal``)."""
    base = pointer(array, 0)
    nontemporal = channels_bypass_caches(array, source)
    width = lanes(base)
    inner, outer_stride, class_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 1), stride(array, 2)
    piece = transpose_width(base)
    kind, begin, position_stride = layout_of(array, n, p, stop, piece)
    full_tiles, rest = (stop - p) // width, (stop - p) % width
    if kind == CONTIGUOUS:
        for c in range(n):
            row = offset(base, begin + c * class_stride)
            if nontemporal and elements_to_aligned(row) == 0:
                for k in range(full_tiles):
                    store_nontemporal(row, k * width, load(block, (k * n + c) * width))
            else:
                for k in range(full_tiles):
                    store(row, k * width, load(block, (k * n + c) * width))
            if rest:
                store_n(row, full_tiles * width, rest, load(block, (full_tiles * n + c) * width))
        return
    for q in range(p, stop, width):
        tile, row = offset(block, (q - p) * n), offset(base, begin + (q - p) * position_stride)
        if kind == STRIDED or q + width > stop:
            tile_offsets(inner, outer_stride, inner_stride, q, stop, width, offsets)
            for c in range(n):
                scatter(base, offsets, c * class_stride, load(tile, c * width))
        elif position_stride == n and n == 2:
            store_interleaved(tile, row, 2)
        elif position_stride == n and n == 3:
            store_interleaved(tile, row, 3)
        else:
            for c in range(0, n, piece):
                first = min_int(c, n - piece)
                transpose_out(offset(tile, first * width), offset(row, first), position_stride)
