"""The cross entropy without a gradient, channels first: one number per position is written, so memory is only read.

The arithmetic is that of ``row_per_lane``, to the last bit. Three sums are all that is kept of a position, so classes are read four at a
time in runs of LOSS_ONLY_TILES vectors, and every logit is read once.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end
from nbloss.kernels.cpu.row_per_lane.reduce import partial_sums_size
from nbloss.kernels.cpu.row_per_lane.reduce_unshifted import accumulate_four, accumulate_one, finish_sums
from nbloss.kernels.cpu.row_per_lane.tile import (
    SAVED,
    load_classes,
    load_per_row,
    repair_unshifted,
    save_unshifted,
    store_losses,
    tile_logs,
)
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, splat, store
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, position_pointer, prefetch_read, stride
from nbloss.kernels.cpu.simd.vec import concat_x4, equal, mask_or
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
def losses_only(x, target, mask, scale, loss, lo, hi):
    n = min_int(x.shape[1], LANES_MAX_CLASSES)  # tells the compiler an upper bound
    inner, class_stride = x.shape[2], stride(x, 1)
    base = pointer(x, 0)
    width = lanes(base)
    most = LOSS_ONLY_TILES * width
    owns, totals, lows, classes, saved, sums, numbers, copy = carve(
        base, (most, most, most, most, SAVED * most, partial_sums_size(width) * width, width, n * width)
    )
    float64_sums, offsets = stack_alloc(np.float64, 256), stack_alloc(np.int64, 16)
    targets, scales, results = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    zero, before, first = splat(base, 0.0), elements_to_aligned(base), n & 3
    p = lo
    while p < hi:
        stop = block_end(inner, p, hi, most, before)
        count, row = stop - p, position_pointer(x, p)
        for k in range(0, count, width):
            y = load_classes(targets, target.size, mask, p + k, stop, numbers)
            prefetch_read(targets, p + k + most)
            own = total = zero
            store(classes, k, y)
            for c in range(first):
                own, total = accumulate_one(exp_unshifted(_line(row, class_stride, c, n, k, count)), y - c, own, total)
            store(owns, k, own)
            store(totals, k, total)
            store(lows, k, zero)
        for c in range(first, n, 4):
            for k in range(0, count, width):
                a, b = _line(row, class_stride, c, n, k, count), _line(row, class_stride, c + 1, n, k, count)
                d, e = _line(row, class_stride, c + 2, n, k, count), _line(row, class_stride, c + 3, n, k, count)
                y = load(classes, k) - c
                own, total, low = accumulate_four(exp_unshifted(concat_x4(a, b, d, e)), y, load(owns, k), load(totals, k), load(lows, k))
                store(owns, k, own)
                store(totals, k, total)
                store(lows, k, low)
        for k in range(0, count, width):
            at, y = offset(saved, k), load(classes, k)
            ignored = equal(load_per_row(scales, scale.size, p + k, stop, numbers), 0.0)
            own, others, low, s = finish_sums(load(owns, k), load(totals, k), load(lows, k))
            exact = mask_or(ignored, save_unshifted(at, LOSS_ONLY_TILES, own, others, low, s, y, None))
            repair_unshifted(at, LOSS_ONLY_TILES, x, n, p + k, stop, y, exact, None, offsets, copy, sums, float64_sums)
        tile_logs(saved, LOSS_ONLY_TILES, (count + width - 1) // width, None)
        for k in range(0, count, width):
            each = load_per_row(scales, scale.size, p + k, stop, numbers)
            store_losses(offset(saved, k), LOSS_ONLY_TILES, each, None, results, p + k, stop)
        p = stop
    free(owns)
