"""TODO"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.per_target.sums import _sum_run
from nbloss.kernels.cpu.simd.integers import all_below, widen_to_int64
from nbloss.kernels.cpu.simd.load_store import get, lanes, put, splat, store
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer
from nbloss.kernels.cpu.simd.workspace import stack_alloc
from nbloss.kernels.cpu.tuning import SUM_RUN_ROWS


@njit(**INLINE)
def _counts(y, ignore_index, wide):
    """Whether a row of this target is not ignored."""
    return (y != ignore_index) | (wide & (y < 0))


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, totals, wrong, group, lo, hi):
    """scale = hit * w[y] and spread = share, both 0 in ignored rows; per ``group`` of rows sum w[y], and how many targets are no class.

    No weights are an empty array: None would be one more kernel to compile. ``mask`` undoes the sign that an unsigned target seems to
    have, ``wide`` says that a negative one is a uint64 beyond int64. Of a scale of one number the caller takes care.
    """
    written = scale.size == target.size
    usual, widened = not 0 <= ignore_index < classes, stack_alloc(np.int64, SUM_RUN_ROWS)
    for start in range(lo, hi, group):
        stop, total, counted, outside = min_int(hi, start + group), 0.0, 0, 0
        for first in range(start, stop, SUM_RUN_ROWS):
            count = min_int(stop, first + SUM_RUN_ROWS) - first
            given, scales = widen_to_int64(pointer(target, first), mask, count, widened), pointer(scale, first if written else 0)
            if weight.size == 0:
                k = 0
                while k < count:
                    alike = 0
                    if usual and k + 64 <= count and all_below(offset(given, k), 64, classes):
                        alike = 64
                    elif usual and k + 16 <= count and all_below(offset(given, k), 16, classes):
                        alike = 16
                    if alike:
                        if written:
                            for part in range(0, alike, lanes(scales)):
                                store(scales, k + part, splat(scales, hit))
                        counted += alike
                        k += alike
                        continue
                    for _ in range(min_int(16, count - k)):
                        y = get(given, k)
                        counts = _counts(y, ignore_index, wide)
                        if written:
                            put(scales, k, hit if counts else 0.0)
                        counted += counts
                        outside += counts & ((y < 0) | (y >= classes))
                        k += 1
            else:
                weights, run = pointer(weight, 0), stack_alloc(np.float64, SUM_RUN_ROWS)
                for k in range(count):
                    y = get(given, k)
                    counts = _counts(y, ignore_index, wide)
                    inside = (y >= 0) & (y < classes)
                    w = np.float64(get(weights, y if inside else 0)) if counts else 0.0
                    put(scales, k, hit * w)
                    put(run, k, w)
                    outside += counts & (not inside)
                total += _sum_run(run, count)
            if spread is not None:
                spreads = pointer(spread, first)
                for k in range(count):
                    put(spreads, k, share if _counts(get(given, k), ignore_index, wide) else 0.0)
        totals[start // group] = total if weight.size > 0 else np.float64(counted)
        wrong[start // group] = outside
