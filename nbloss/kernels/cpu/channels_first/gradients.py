"""The gradients of log_softmax and softmax, channels first: contiguous positions.

No cache holds a block of many classes, and reading four lines at a time from as many streams as there are classes reached a third of the
memory bandwidth. These kernels therefore read GRADIENT_TILES vectors of a class at a time. Two passes over the classes compute the
sums and the gradient. They read the upstream gradient twice, and still took 0.5 to 0.9 of the time of kernels that load blocks.

The sums have the bits of other layouts: up to LANES_MAX_CLASSES classes are added in order, as in ``row_per_lane``, and more classes as in
``vector_per_row``.

The output may consist of rows, while the inputs are transposed. A block of TRANSPOSE_CLASSES classes is then transposed in the first cache,
and nontemporal stores write it, by whole cache lines. A row may start anywhere in a cache line, so a line usually has classes of two
blocks: a buffer holds the last two blocks of each row.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.log_softmax import read, write
from nbloss.kernels.cpu.compile.optional import if_given
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end
from nbloss.kernels.cpu.row_per_lane.reduce import two_numbers
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_float64, load_n, load_x4, splat, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import (
    chunk_from_lines,
    elements_to_aligned,
    min_int,
    offset,
    pointer,
    position_pointer,
    prefetch_read,
    stride,
)
from nbloss.kernels.cpu.simd.transpose import transpose_in, transpose_width
from nbloss.kernels.cpu.simd.vec import demote, extract_x4, fma, minimum, promote
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scale, exp_scaled
from nbloss.kernels.cpu.simd.workspace import alloc, carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import GRADIENT_PREFETCH, GRADIENT_TILES, LANES_MAX_CLASSES, PIPELINE_TILES, TRANSPOSE_CLASSES


@njit(**NO_INLINE)
def _transpose_tile(tile, row_blocks):
    """Transpose a block of classes of a tile, into the second of the two blocks of each of its rows."""
    width = lanes(tile)
    for c in range(0, TRANSPOSE_CLASSES, width):
        for lane in range(0, width, transpose_width(tile)):
            transpose_in(
                offset(tile, c * width + lane),
                width,
                offset(row_blocks, 2 * TRANSPOSE_CLASSES * lane + TRANSPOSE_CLASSES + c),
                2 * TRANSPOSE_CLASSES,
            )


@njit(**NO_INLINE)
def _write_rows(first, row_stride, count, c, n, row_blocks):
    """Write the cache lines that are complete with the classes from c on, and the partial lines at the start and at the end of rows.

    The buffer ``row_blocks`` has two blocks per row: the previous one (``last``), and the one from class c on (``new``), which replaces it
    at the end. ``start`` is the number of classes before the first cache line of a row.
    """
    width = lanes(row_blocks)
    for k in range(count):
        row, last, new = (
            offset(first, k * row_stride),
            offset(row_blocks, 2 * TRANSPOSE_CLASSES * k),
            offset(row_blocks, 2 * TRANSPOSE_CLASSES * k + TRANSPOSE_CLASSES),
        )
        start = elements_to_aligned(row)
        if c == 0:
            for j in range(0, start, width):
                store_n(row, j, start - j, load(new, j))
        elif c % TRANSPOSE_CLASSES == 0:
            for j in range(0, TRANSPOSE_CLASSES, width):
                store_nontemporal(row, c - TRANSPOSE_CLASSES + start + j, load(last, start + j))
        if c == n - TRANSPOSE_CLASSES:
            whole_block = c % TRANSPOSE_CLASSES == 0
            rest_class, rest = (c, new) if whole_block else (n // TRANSPOSE_CLASSES * TRANSPOSE_CLASSES - TRANSPOSE_CLASSES, last)
            for j in range(start, TRANSPOSE_CLASSES, width):
                store_n(row, rest_class + j, TRANSPOSE_CLASSES - j, load_n(rest, j, TRANSPOSE_CLASSES - j, 0.0))
            for j in range(TRANSPOSE_CLASSES if whole_block else 0, TRANSPOSE_CLASSES, width):
                store(row, c + j, load(new, j))
        for j in range(0, TRANSPOSE_CLASSES, width):
            store(last, j, load(new, j))


@njit(**INLINE)
def _gradient(row, class_stride, upstream, upstream_stride, c, k, count, factors, lows):
    """The gradient of class c, for four vectors of positions from position k on; prefetches a later class.

    It is g - exp(y) * factor; with ``lows`` (not None) that of softmax, y ((g - factor) - low).
    """
    line, upstream_line = offset(row, c * class_stride + k), offset(upstream, c * upstream_stride + k)
    for j in range(0, PIPELINE_TILES * lanes(line), lanes(line)):
        prefetch_read(line, GRADIENT_PREFETCH * class_stride + j)
        prefetch_read(upstream_line, GRADIENT_PREFETCH * upstream_stride + j)
    if lows is not None:
        return read(line, count - k) * ((read(upstream_line, count - k) - load_x4(factors, k)) - load_x4(lows, k))
    e = exp_scaled(minimum(read(line, count - k), MAX_EXP_ARGUMENT), None)
    return read(upstream_line, count - k) - e * load_x4(factors, k)


@njit(**INLINE)
def _add(u, v, total, probabilities):
    """``total`` + u in float64; with ``probabilities`` (True or None), + u v."""
    if probabilities is None:
        return total + promote(u)
    return fma(promote(u), promote(v), total)


@njit(**INLINE)
def _sums(row, class_stride, upstream, upstream_stride, n, count, totals, probabilities):
    """Store the sum of g, or of g y, of each of ``count`` positions in ``totals``, in float64.

    ``totals`` has GRADIENT_TILES vectors for each partial sum: one, or for many classes 2 * lanes of them.
    """
    width = lanes(row)
    most, like, few = GRADIENT_TILES * width, splat(row, 0.0), n <= LANES_MAX_CLASSES
    zero = promote(like)
    for k in range(0, most if few else 2 * width * most, width):
        store(totals, k, zero)
    last, whole = n // width * width, count // width * width
    for c in range(n):
        slot = 0
        if not few:  # the last vector of a row overlaps the one before it
            slot = c & (2 * width - 1) if c < last else c - n + 2 * width
        values, above, into = offset(row, c * class_stride), offset(upstream, c * upstream_stride), offset(totals, slot * most)
        for k in range(0, whole, width):
            prefetch_read(above, GRADIENT_PREFETCH * upstream_stride + k)
            if probabilities is not None:
                prefetch_read(values, GRADIENT_PREFETCH * class_stride + k)
            store(into, k, _add(load(above, k), load(values, k), load_float64(into, k, like), probabilities))
        if whole < count:
            u, v = load_n(above, whole, count - whole, 0.0), load_n(values, whole, count - whole, 0.0)
            store(into, whole, _add(u, v, load_float64(into, whole, like), probabilities))
    half = 0 if few else width
    while half > 0:
        for slot in range(half):
            for k in range(slot * most, slot * most + count, width):
                store(totals, k, load_float64(totals, k, like) + load_float64(totals, k + half * most, like))
        half //= 2


@njit(**INLINE)
def _store_factors(totals, count, factors, lows):
    """Store what ``_gradient`` takes: the sums in the scale of the exponentials, or with ``lows`` (not None) as two numbers."""
    width, like, one = lanes(factors), splat(factors, 0.0), np.float64(exp_scale(get(factors, 0)))
    for k in range(0, count, width):
        total = load_float64(totals, k, like)
        if lows is None:
            store(factors, k, demote(total / one, like))
        else:
            high, low = two_numbers(total, like)
            store(factors, k, high)
            store(lows, k, low)


@njit(**INLINE)
def _gradients(g, y, out, probabilities, lo, hi):
    """The gradient of log_softmax; with ``probabilities`` (True or None), that of softmax."""
    n, inner = y.shape[1], y.shape[2]
    class_stride, upstream_stride, out_stride, out_position_stride = stride(y, 1), stride(g, 1), stride(out, 1), stride(out, 2)
    base = pointer(y, 0)
    width = lanes(base)
    to_rows = out_position_stride != 1
    tiles = GRADIENT_TILES // 2 if to_rows else GRADIENT_TILES  # fewer for rows, whose blocks have to fit the first cache
    part, max_positions, area = PIPELINE_TILES * width, tiles * width, TRANSPOSE_CLASSES * tiles * width
    factors, remainders, block, row_blocks = carve(base, (max_positions, max_positions, area, 2 * area))
    lows = if_given(probabilities, remainders)
    totals = alloc(stack_alloc(np.float64, 1), GRADIENT_TILES * 2 * width * width)
    before, nontemporal = elements_to_aligned(base) if to_rows else elements_to_aligned(pointer(out, 0)), channels_bypass_caches(out, base)
    # align the positions of a chunk to vectors, too: otherwise each chunk ends with a run of a few positions
    positions = y.shape[0] * inner
    p, hi = chunk_from_lines(lo, hi, before, positions)
    while p < hi:
        stop = block_end(inner, p, hi, max_positions, before)
        count, upstream, row, result = stop - p, position_pointer(g, p), position_pointer(y, p), position_pointer(out, p)
        _sums(row, class_stride, upstream, upstream_stride, n, count, totals, probabilities)
        _store_factors(totals, count, factors, lows)
        c = 0
        while to_rows and c < n:
            c = min_int(c, n - TRANSPOSE_CLASSES)
            for j in range(TRANSPOSE_CLASSES):
                for k in range(0, count, part):
                    d = _gradient(row, class_stride, upstream, upstream_stride, c + j, k, count, factors, lows)
                    here = offset(block, TRANSPOSE_CLASSES * k + j * width)
                    store(here, 0, extract_x4(d, 0))
                    store(here, TRANSPOSE_CLASSES * width, extract_x4(d, 1))
                    store(here, 2 * TRANSPOSE_CLASSES * width, extract_x4(d, 2))
                    store(here, 3 * TRANSPOSE_CLASSES * width, extract_x4(d, 3))
            for k in range(0, count, width):
                _transpose_tile(offset(block, TRANSPOSE_CLASSES * k), offset(row_blocks, 2 * TRANSPOSE_CLASSES * k))
            _write_rows(result, out_position_stride, count, c, n, row_blocks)
            c += TRANSPOSE_CLASSES
        while c < n:
            for k in range(0, count, part):
                d = _gradient(row, class_stride, upstream, upstream_stride, c, k, count, factors, lows)
                write(offset(result, c * out_stride + k), count - k, nontemporal, d)
            c += 1
        p = stop
    free(factors)
    free(totals)


def log_softmax_backward(g, y, out, lo, hi):
    """out = g - exp(y) * sum of g."""
    _gradients(g, y, out, None, lo, hi)


def softmax_backward(g, y, out, lo, hi):
    """out = y (g - sum of g y)."""
    _gradients(g, y, out, True, lo, hi)
