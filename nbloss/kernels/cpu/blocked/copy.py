"""Copies blocks of rows from an array whose classes are not contiguous to a buffer (``rows_in``), and back (``rows_out``).

A block is as many rows as fit a part of the second cache, so a copied number is read once from memory and then from the cache. The array
decides how it is copied, run by run; a run is a part of the block whose positions have one stride:

==================  ==================================================================================================
positions adjacent  (in either direction) transposed in registers (``simd/transpose``), a cache line of positions at a time
classes nearer      than positions: row by row. Reversed classes and every second class are copied by vectors
positions nearer    number by number, in the order of ``positions adjacent``
==================  ==================================================================================================

Rows in a buffer are an odd number of cache lines apart, so that a column of them uses all sets of a cache.
"""

from numba import njit

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches, machine_tuning
from nbloss.kernels.cpu.simd.pointers import (
    elements_to_aligned,
    max_int,
    min_int,
    offset,
    pointer,
    prefetch_read,
    prefetch_write,
    run_of_positions,
    stride,
)
from nbloss.kernels.cpu.simd.transpose import copy_every_second, copy_one, copy_reversed, copy_vector, transpose_in, transpose_width
from nbloss.kernels.cpu.simd.workspace import alloc_like, as_positions, free
from nbloss.kernels.cpu.tuning import BLOCK_LINE, BLOCK_MAX_BYTES, BLOCK_PREFETCH_LINES

# ------------------------------ blocks ------------------------------


@njit(**INLINE)
def row_pitch(n):
    """The distance of rows in a buffer, in elements."""
    return (n + BLOCK_LINE - 1) // BLOCK_LINE * BLOCK_LINE + BLOCK_LINE * (1 - (n + BLOCK_LINE - 1) // BLOCK_LINE % 2)


@njit(**INLINE)
def is_copied(array):
    """Whether the classes of an array are not contiguous; an array that is None is not copied."""
    if array is None:
        return False
    return stride(array, 1) != 1


@njit(**INLINE)
def copied_bytes(array):
    """The bytes of a row in a buffer; 0 if the array is not copied."""
    if array is None or stride(array, 1) == 1:
        return 0
    return row_pitch(array.shape[1]) * array.itemsize


@njit(**INLINE)
def block_rows(row_bytes):
    """How many rows a block has, whose buffers take ``row_bytes`` for each."""
    room = 8 * machine_tuning("block_elements")  # half of the second cache
    row_bytes = max_int(1, row_bytes)
    rows = room // row_bytes // BLOCK_LINE * BLOCK_LINE
    return max_int(rows, max_int(1, min_int(BLOCK_LINE, BLOCK_MAX_BYTES // row_bytes)))


@none_of_none
def buffer(array, rows):
    """A buffer for the rows of an array, in its storage type; tiny where the array is not copied, and None for None."""
    return alloc_like(pointer(array, 0), rows * row_pitch(array.shape[1]) if is_copied(array) else 1)


@njit(**INLINE)
def positions_to_line(array):
    """The number of positions before the first cache line of an array; 0 if positions do not share lines."""
    if array is None:
        return 0
    inner, position_stride = array.shape[2], stride(array, 0) if array.shape[2] == 1 else stride(array, 2)
    if position_stride != 1 or (inner > 1 and inner % BLOCK_LINE != 0 and array.shape[0] > 1):
        return 0
    return elements_to_aligned(pointer(array, 0))


@none_of_none
def in_buffer(array, block, p, stop):
    """The array, or its rows [p, stop) in a buffer, such that position p of the result is position p of the array; None for None."""
    if not is_copied(array):
        return array
    n = array.shape[1]
    return as_positions(array, offset(block, -p * row_pitch(n)), stop - p, n, row_pitch(n))


@njit(**INLINE)
def rows_in(array, block, p, stop):
    """`in_buffer`, with the rows copied."""
    if array is not None and stride(array, 1) != 1:
        _copy_in(array, block, p, stop)
    return in_buffer(array, block, p, stop)


@njit(**INLINE)
def rows_out(array, block, p, stop, source):
    """Copy the rows [p, stop) from the buffer to an array whose classes are not contiguous; ``source`` as in ``simd/nontemporal``."""
    if array is not None and stride(array, 1) != 1:
        _copy_out(array, block, p, stop, channels_bypass_caches(array, source) and stride(array, 1) * array.itemsize % 64 == 0)


# ------------------------------ copies ------------------------------


@njit(**NO_INLINE)
def _copy_in(array, block, p, stop):
    n, class_stride, pitch = array.shape[1], stride(array, 1), row_pitch(array.shape[1])
    width, piece = lanes(block), transpose_width(block)
    tile = alloc_like(block, width * width)
    q = p
    while q < stop:
        first, step, count = run_of_positions(array, q, stop)
        rows = offset(block, (q - p) * pitch)
        if abs(step) == 1 and count >= width:
            ahead = max_int(1, BLOCK_PREFETCH_LINES // count) * width
            for c in range(0, n, width):
                start = min_int(c, n - width)
                for k in range(0, count, width):
                    j = min_int(k, count - width)
                    source = offset(first, start * class_stride + (j if step == 1 else -(j + width - 1)))
                    for line in range(width):
                        prefetch_read(source, (line + ahead) * class_stride)
                        copy_vector(offset(source, line * class_stride), offset(tile, line * width))
                    target = offset(rows, (j if step == 1 else j + width - 1) * pitch + start)
                    for m in range(0, width, piece):
                        transpose_in(offset(tile, m), width, offset(target, m * step * pitch), step * pitch)
        elif abs(class_stride) <= abs(step):
            for k in range(count):
                _copy_row(offset(first, k * step), class_stride, n, offset(rows, k * pitch))
        else:
            for c in range(0, n, width):
                for k in range(count):
                    for j in range(c, min_int(n, c + width)):
                        copy_one(first, k * step + j * class_stride, rows, k * pitch + j)
        q += count
    free(tile)


@njit(**INLINE)
def _copy_row(row, class_stride, n, into):
    """Copy n classes, at least as many as a vector has lanes; the last vector overlaps the one before it."""
    width = lanes(into)
    if class_stride == -1:
        for c in range(0, n, width):
            start = min_int(c, n - width)
            copy_reversed(offset(row, -start), offset(into, start))
    elif class_stride == 2:
        for c in range(0, n, width):
            start = min_int(c, n - width)
            copy_every_second(offset(row, 2 * start), offset(into, start))
    else:
        for c in range(n):
            copy_one(row, c * class_stride, into, c)


@njit(**NO_INLINE)
def _copy_out(array, block, p, stop, bypass):
    n, class_stride, pitch = array.shape[1], stride(array, 1), row_pitch(array.shape[1])
    width, piece = lanes(block), transpose_width(block)
    tile = alloc_like(block, width * width)
    q = p
    while q < stop:
        first, step, count = run_of_positions(array, q, stop)
        rows = offset(block, (q - p) * pitch)
        if abs(step) == 1 and count >= width:
            for c in range(0, n, width):
                start = min_int(c, n - width)
                for k in range(0, count, width):
                    j = min_int(k, count - width)
                    source = offset(rows, (j if step == 1 else j + width - 1) * pitch + start)
                    target = offset(first, start * class_stride + (j if step == 1 else -(j + width - 1)))
                    if bypass and elements_to_aligned(target) == 0:
                        for m in range(0, width, piece):
                            transpose_in(offset(source, m), step * pitch, offset(tile, m * width), width)
                        for line in range(width):
                            store_nontemporal(target, line * class_stride, load(tile, line * width))
                    else:
                        for line in range(width, 2 * width):
                            prefetch_write(target, line * class_stride)
                        for m in range(0, width, piece):
                            transpose_in(offset(source, m), step * pitch, offset(target, m * class_stride), class_stride)
        elif abs(class_stride) <= abs(step):
            for k in range(count):
                row, source = offset(first, k * step), offset(rows, k * pitch)
                if class_stride == -1:
                    for c in range(0, n, width):
                        start = min_int(c, n - width)
                        copy_reversed(offset(source, start + width - 1), offset(row, -(start + width - 1)))
                else:
                    for c in range(n):
                        copy_one(source, c, row, c * class_stride)
        else:
            for c in range(0, n, width):
                for k in range(count):
                    for j in range(c, min_int(n, c + width)):
                        copy_one(rows, k * pitch + j, first, k * step + j * class_stride)
        q += count
    free(tile)
