"""Pixels of many classes: the gradient of log_softmax.

No cache holds a slab of many classes, and pieces of four lines from as many places as there are classes came at a third of the speed of
memory. So every class is walked in runs of sixteen vectors, twice: for the sums, and for the gradient. That reads the upstream gradient
twice and still took half to nine tenths of the time of slabs.

The result may be rows, where logits lie transposed: a block of classes is transposed in a cache and its lines go past the caches, each as a
whole. Lines do not begin where blocks do, in every row elsewhere, so they are put together from two blocks.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.log_softmax import read, write
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end
from nbloss.kernels.cpu.row_per_lane.pack import position_pointer
from nbloss.kernels.cpu.row_per_lane.reduce import add_class, flush_block, fold_partial_sums, partial_sums_size
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_n, load_x4, splat, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, prefetch_read, stride
from nbloss.kernels.cpu.simd.transpose import transpose_in, transpose_width
from nbloss.kernels.cpu.simd.vec import demote, extract_x4, minimum
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scale, exp_scaled
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import MANY_CLASSES_PREFETCH, MANY_CLASSES_TILES, PIPELINE_TILES, SUM_BLOCK_CLASSES, TRANSPOSE_CLASSES


@njit(**NO_INLINE)
def _turn(tile, concatenate):
    """A tile's block of classes into the second half of its rows' blocks."""
    width = lanes(tile)
    for c in range(0, TRANSPOSE_CLASSES, width):
        for lane in range(0, width, transpose_width(tile)):
            transpose_in(
                offset(tile, c * width + lane),
                width,
                offset(concatenate, 2 * TRANSPOSE_CLASSES * lane + TRANSPOSE_CLASSES + c),
                2 * TRANSPOSE_CLASSES,
            )


@njit(**NO_INLINE)
def _write_rows(first, class_stride, count, c, n, concatenate):
    """Write the whole lines that rows' blocks have, the last one and that of the classes from c on; at the ends of rows, what is left."""
    width = lanes(concatenate)
    for k in range(count):
        row, last, new = (
            offset(first, k * class_stride),
            offset(concatenate, 2 * TRANSPOSE_CLASSES * k),
            offset(concatenate, 2 * TRANSPOSE_CLASSES * k + TRANSPOSE_CLASSES),
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
            done, rest = (c, new) if whole_block else (n // TRANSPOSE_CLASSES * TRANSPOSE_CLASSES - TRANSPOSE_CLASSES, last)
            for j in range(start, TRANSPOSE_CLASSES, width):
                store_n(row, done + j, TRANSPOSE_CLASSES - j, load_n(rest, j, TRANSPOSE_CLASSES - j, 0.0))
            for j in range(TRANSPOSE_CLASSES if whole_block else 0, TRANSPOSE_CLASSES, width):
                store(row, c + j, load(new, j))
        for j in range(0, TRANSPOSE_CLASSES, width):
            store(last, j, load(new, j))


@njit(**INLINE)
def _gradient(row, class_stride, above, upstream_stride, c, k, count, factors):
    """g - exp(y) * factor of class c, for the next pixels from the k-th on."""
    line, more = offset(row, c * class_stride + k), offset(above, c * upstream_stride + k)
    for j in range(0, PIPELINE_TILES * lanes(line), lanes(line)):
        prefetch_read(line, MANY_CLASSES_PREFETCH * class_stride + j)
        prefetch_read(more, MANY_CLASSES_PREFETCH * upstream_stride + j)
    e = exp_scaled(minimum(read(line, count - k), MAX_EXP_ARGUMENT), None)
    return read(more, count - k) - e * load_x4(factors, k)


@njit(**INLINE)
def _sum_run(line, class_stride, n, count, sums, float64_sums, factors):
    """The sum over the classes of each of ``count`` pixels, added as tiles add (``lane_sums.total``)."""
    width = lanes(line)
    each, wide = partial_sums_size(width) * width, width * width
    zero, one = splat(line, 0.0), np.float64(exp_scale(get(factors, 0)))
    for start in range(0, n, SUM_BLOCK_CLASSES):
        end = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, end):
            for k in range(0, count, width):
                here = offset(line, c * class_stride + k)
                prefetch_read(here, MANY_CLASSES_PREFETCH * class_stride)
                add_class(offset(sums, k // width * each), c, load_n(here, 0, count - k, 0.0))
        for k in range(0, count, width):
            flush_block(offset(sums, k // width * each), start, end, offset(float64_sums, k // width * wide))
    for k in range(0, count, width):
        total = fold_partial_sums(offset(sums, k // width * each), n, offset(float64_sums, k // width * wide))
        store(factors, k, demote(total / one, zero))


def log_softmax_backward(g, y, out, lo, hi):
    n, inner = y.shape[1], y.shape[2]
    class_stride, upstream_stride, out_stride, out_position_stride = stride(y, 1), stride(g, 1), stride(out, 1), stride(out, 2)
    base = pointer(y, 0)
    width = lanes(base)
    turned = out_position_stride != 1
    part, most = (
        PIPELINE_TILES * width,
        (MANY_CLASSES_TILES // 2 if turned else MANY_CLASSES_TILES) * width,
    )  # of rows less, as a block of them is put together in a first cache
    factors = alloc(base, (1 + 3 * TRANSPOSE_CLASSES) * most + MANY_CLASSES_TILES * partial_sums_size(width) * width)
    block, concatenate, sums = (
        offset(factors, most),
        offset(factors, (1 + TRANSPOSE_CLASSES) * most),
        offset(factors, (1 + 3 * TRANSPOSE_CLASSES) * most),
    )
    float64_sums = alloc(stack_alloc(np.float64, 1), MANY_CLASSES_TILES * width * width)
    before, streamed = elements_to_aligned(base) if turned else elements_to_aligned(pointer(out, 0)), channels_bypass_caches(out, base)
    # a share begins where a vector does, too: else each would end in a run of a few pixels
    positions = y.shape[0] * inner
    p, hi = min_int(lo + before, positions) if lo > 0 else lo, min_int(hi + before, positions)
    while p < hi:
        stop = block_end(inner, p, hi, most, before)
        count, above, row, result = stop - p, position_pointer(g, p), position_pointer(y, p), position_pointer(out, p)
        _sum_run(above, upstream_stride, n, count, sums, float64_sums, factors)
        c = 0
        while turned and c < n:
            c = min_int(c, n - TRANSPOSE_CLASSES)
            for j in range(TRANSPOSE_CLASSES):
                for k in range(0, count, part):
                    d = _gradient(row, class_stride, above, upstream_stride, c + j, k, count, factors)
                    tiles = offset(block, TRANSPOSE_CLASSES * k + j * width)
                    store(tiles, 0, extract_x4(d, 0))
                    store(tiles, TRANSPOSE_CLASSES * width, extract_x4(d, 1))
                    store(tiles, 2 * TRANSPOSE_CLASSES * width, extract_x4(d, 2))
                    store(tiles, 3 * TRANSPOSE_CLASSES * width, extract_x4(d, 3))
            for k in range(0, count, width):
                _turn(offset(block, TRANSPOSE_CLASSES * k), offset(concatenate, 2 * TRANSPOSE_CLASSES * k))
            _write_rows(result, out_position_stride, count, c, n, concatenate)
            c += TRANSPOSE_CLASSES
        while c < n:
            for k in range(0, count, part):
                d = _gradient(row, class_stride, above, upstream_stride, c, k, count, factors)
                write(offset(result, c * out_stride + k), count - k, streamed, d)
            c += 1
        p = stop
    free(factors)
    free(float64_sums)
