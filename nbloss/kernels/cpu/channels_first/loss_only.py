"""The cross entropy without a gradient, channels first: one number per position is written, so memory is only read.

The arithmetic is that of ``row_per_lane``, to the last bit. Three sums are all that is kept of a position, so classes are read four at a
time in runs of LOSS_ONLY_TILES vectors, and every logit is read once. Label smoothing, which needs the target's logit first,
and runs whose sums need the maximum go tile by tile.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end
from nbloss.kernels.cpu.row_per_lane.pack import pack
from nbloss.kernels.cpu.row_per_lane.per_row import class_weight_sum, load_classes, load_per_row, load_share
from nbloss.kernels.cpu.row_per_lane.reduce_unshifted import accumulate_four, accumulate_one, finish_sums
from nbloss.kernels.cpu.row_per_lane.tile import SAVED, allowed, save_unshifted, store_losses, sums_of_tile, tile_logs
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, splat, store
from nbloss.kernels.cpu.simd.pointers import (
    elements_to_aligned,
    min_int,
    offset,
    pointer,
    position_pointer,
    prefetch_read,
    start_if_given,
    stride,
)
from nbloss.kernels.cpu.simd.vec import all_true, concat_x4
from nbloss.kernels.cpu.simd.vecmath import exp_unshifted
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, LOSS_ONLY_TILES


@njit(**INLINE)
def _line(row, class_stride, c, n, k, count):
    """The k-th vector of positions of class c. Prefetches the class after the next three, or that of the next run."""
    width = lanes(row)
    later = (c + 4) * class_stride if c + 4 < n else (c + 4 - n) * class_stride + LOSS_ONLY_TILES * width
    prefetch_read(row, later + k)
    return load_n(row, c * class_stride + k, count - k, 0.0)


@njit(**INLINE)
def _run_of_sums(row, class_stride, n, p, stop, targets, size, mask, numbers, owns, totals, lows, classes):
    """Store the unshifted sums of a run, and its targets."""
    width, count, first = lanes(row), stop - p, n & 3
    zero = splat(row, 0.0)
    for k in range(0, count, width):
        y = load_classes(targets, size, mask, p + k, stop, numbers)
        prefetch_read(targets, p + k + LOSS_ONLY_TILES * width)
        own = total = zero
        store(classes, k, y)
        for c in range(first):
            own, total = accumulate_one(exp_unshifted(_line(row, class_stride, c, n, k, count), None), y - c, own, total)
        store(owns, k, own)
        store(totals, k, total)
        store(lows, k, zero)
    for c in range(first, n, 4):
        for k in range(0, count, width):
            a, b = _line(row, class_stride, c, n, k, count), _line(row, class_stride, c + 1, n, k, count)
            d, e = _line(row, class_stride, c + 2, n, k, count), _line(row, class_stride, c + 3, n, k, count)
            y, terms = load(classes, k) - c, exp_unshifted(concat_x4(a, b, d, e), None)
            own, total, low = accumulate_four(terms, y, load(owns, k), load(totals, k), load(lows, k))
            store(owns, k, own)
            store(totals, k, total)
            store(lows, k, low)


@njit(**INLINE)
def losses_only(x, target, mask, scale, spread, w, loss, lo, hi):
    n = min_int(x.shape[1], LANES_MAX_CLASSES)  # tells the compiler an upper bound
    inner, class_stride = x.shape[2], stride(x, 1)
    base = pointer(x, 0)
    width = lanes(base)
    most = LOSS_ONLY_TILES * width
    owns, totals, lows, classes, saved, numbers, tile = carve(base, (most, most, most, most, SAVED * most, width, n * width))
    offsets = stack_alloc(np.int64, 16)
    targets, scales, results = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    weights, total_w = start_if_given(w), class_weight_sum(start_if_given(w), n)
    before, by_tiles, subtracted = elements_to_aligned(base), spread is not None, False
    p = lo
    while p < hi:
        stop = block_end(inner, p, hi, most, before)
        count, row, found = stop - p, position_pointer(x, p), 0
        if not by_tiles:
            _run_of_sums(row, class_stride, n, p, stop, targets, target.size, mask, numbers, owns, totals, lows, classes)
        for k in range(0, count, width):
            at, q, failed = offset(saved, k), p + k, by_tiles
            each, share = load_per_row(scales, scale.size, q, stop, numbers), load_share(spread, q, stop, numbers)
            if not by_tiles:
                own, others, low, s = finish_sums(load(owns, k), load(totals, k), load(lows, k))
                exact = save_unshifted(at, LOSS_ONLY_TILES, own, others, low, s, load(classes, k), None)
                failed = subtracted = not all_true(allowed(exact, each, share, total_w))
            if failed:
                y = load_classes(targets, target.size, mask, q, stop, numbers)
                pack(x, n, q, min_int(q + width, stop), offsets, tile)
                subtracted = sums_of_tile(
                    at, LOSS_ONLY_TILES, x, n, q, stop, tile, y, each, share, weights, total_w, None, None, 0, offsets, subtracted
                )
                found += subtracted
        by_tiles = spread is not None or 2 * found * width > count  # most maxima were subtracted, and probably will be in the next run
        tile_logs(saved, LOSS_ONLY_TILES, (count + width - 1) // width, None)
        for k in range(0, count, width):
            each, share = load_per_row(scales, scale.size, p + k, stop, numbers), load_share(spread, p + k, stop, numbers)
            store_losses(offset(saved, k), LOSS_ONLY_TILES, each, share, total_w, None, results, p + k, stop)
        p = stop
    free(owns)
