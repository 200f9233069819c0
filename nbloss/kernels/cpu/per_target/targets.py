"""Checks targets, and computes the weight of each row from its target (the kernel behind the contract's ``row_scale``)."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.per_target.sums import sum_of_run
from nbloss.kernels.cpu.simd.integers import all_below, judge_eight, widen_to_int64, zero_unless
from nbloss.kernels.cpu.simd.load_store import gather, get, lanes, load_float64, put, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer
from nbloss.kernels.cpu.simd.vec import demote, equal, promote, select
from nbloss.kernels.cpu.simd.workspace import stack_alloc
from nbloss.kernels.cpu.tuning import SUM_RUN_ROWS


@njit(**INLINE)
def is_counted(y, ignore_index, wide):
    """Whether a row with target y is not ignored."""
    return (y != ignore_index) | (wide & (y < 0))


@njit(**INLINE)
def judge(targets, size, classes, ignore_index, wide, judged, counts):
    """``(how many of ``size`` <= 64 targets count, how many of those are out of range)``.

    Stores 1.0 in ``counts`` for each row that counts, and in ``judged`` each target that is in range; 0 otherwise, up to 64. There are no
    branches: ignored rows cannot be predicted.
    """
    counted, outside, whole = 0, 0, size // 8 * 8
    for i in range(0, whole, 8):
        more, wrong = judge_eight(offset(targets, i), classes, ignore_index, wide, offset(judged, i), offset(counts, i))
        counted, outside = counted + more, outside + wrong
    for i in range(whole, size):
        y = get(targets, i)
        counted_row, inside = is_counted(y, ignore_index, wide), (y >= 0) & (y < classes)
        put(judged, i, zero_unless(inside, y))
        put(counts, i, np.float64(counted_row))
        counted += counted_row
        outside += counted_row & (not inside)
    for i in range(size, 64):
        put(judged, i, 0)
        put(counts, i, 0.0)
    return counted, outside


@njit(**INLINE)
def weights_of(weights, judged, counts, i):
    """The class weights of a vector of the targets that ``judge`` stored, in float64; 0 where a row does not count."""
    w = promote(gather(weights, offset(judged, i), 0))
    return select(equal(load_float64(counts, i, splat(weights, 0.0)), 0.0), 0.0, w)


@njit(**INLINE)
def sample_weight_of(weights, targets, k, ignore_index, wide):
    """The sample weight of row k in float64; 0 where the row does not count, whatever its sample weight is."""
    return zero_unless(is_counted(get(targets, k), ignore_index, wide), np.float64(get(weights, k)))


def row_scale(target, mask, wide, weight, sample_weight, classes, ignore_index, hit, share, scale, spread, totals, wrong, group, lo, hi):
    """scale = hit * w[y] * (sample weight) and spread = share * (sample weight), both 0 in ignored rows.

    ``totals`` and ``wrong`` get, for each ``group`` of rows, the sum of w[y] * (sample weight) and the number of targets that are out of
    range. ``weight`` and ``sample_weight`` are empty arrays where there are none: None would need another kernel. ``mask`` undoes the sign
    extension of unsigned targets. With ``wide``, a negative target is a uint64 that int64 cannot represent. If ``scale`` has one number,
    the caller sets it; with sample weights it has one per row.
    """
    per_row, sampled, run_weights = scale.size == target.size, sample_weight.size > 0, stack_alloc(np.float64, SUM_RUN_ROWS)
    fast_check, widened = not 0 <= ignore_index < classes, stack_alloc(np.int64, SUM_RUN_ROWS)
    for start in range(lo, hi, group):
        stop, total, counted, outside = min_int(hi, start + group), 0.0, 0, 0
        for first in range(start, stop, SUM_RUN_ROWS):
            count = min_int(stop, first + SUM_RUN_ROWS) - first
            run_targets, scales = widen_to_int64(pointer(target, first), mask, count, widened), pointer(scale, first if per_row else 0)
            if weight.size == 0:
                k = 0
                while k < count:
                    valid = 0
                    if fast_check and k + 64 <= count and all_below(offset(run_targets, k), 64, classes):
                        valid = 64
                    elif fast_check and k + 16 <= count and all_below(offset(run_targets, k), 16, classes):
                        valid = 16
                    if valid:
                        if per_row:
                            for part in range(0, valid, lanes(scales)):
                                store(scales, k + part, splat(scales, hit))
                        counted += valid
                        k += valid
                        continue
                    size = min_int(64, count - k)
                    for i in range(k, k + size):  # without branches, so that it becomes vector instructions
                        y = get(run_targets, i)
                        counted_row = is_counted(y, ignore_index, wide)
                        counted += counted_row
                        outside += counted_row & ((y < 0) | (y >= classes))
                    if per_row:
                        for i in range(k, k + size):
                            put(scales, i, hit if is_counted(get(run_targets, i), ignore_index, wide) else 0.0)
                    k += size
            else:
                weights = pointer(weight, 0)
                judged, counts, zeros = stack_alloc(np.int64, 64), stack_alloc(np.float64, 64), splat(weights, 0.0)
                k = 0
                while k < count:
                    size = min_int(64, count - k)
                    if fast_check and size == 64 and all_below(offset(run_targets, k), 64, classes):
                        for i in range(k, k + 64):
                            w = np.float64(get(weights, get(run_targets, i)))
                            put(scales, i, hit * w)
                            put(run_weights, i, w)
                    else:
                        _, out_of_range = judge(offset(run_targets, k), size, classes, ignore_index, wide, judged, counts)
                        outside += out_of_range
                        for i in range(0, size, lanes(weights)):
                            w = weights_of(weights, judged, counts, i)
                            store_n(scales, k + i, size - i, demote(w * hit, zeros))
                            store(run_weights, k + i, w)
                    k += size
            if sampled:
                own = pointer(sample_weight, first)
                for k in range(count):
                    of_row = sample_weight_of(own, run_targets, k, ignore_index, wide)
                    of_class = get(run_weights, k) if weight.size > 0 else 1.0
                    w = zero_unless(of_row != 0.0, of_class * of_row)
                    put(scales, k, hit * w)
                    put(run_weights, k, w)
            if sampled or weight.size > 0:
                total += sum_of_run(run_weights, count)
            if spread is not None:
                spreads = pointer(spread, first)
                if sampled:
                    own = pointer(sample_weight, first)
                    for k in range(count):
                        put(spreads, k, share * sample_weight_of(own, run_targets, k, ignore_index, wide))
                else:
                    for k in range(count):
                        put(spreads, k, share if is_counted(get(run_targets, k), ignore_index, wide) else 0.0)
        totals[start // group] = total if sampled or weight.size > 0 else np.float64(counted)
        wrong[start // group] = outside
