"""Sums of losses and weights, in float64 and in a fixed order: the bits do not depend on the number of threads."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, splat
from nbloss.kernels.cpu.simd.pointers import min_int, pointer
from nbloss.kernels.cpu.simd.vec import maximum, promote, reduce_add, reduce_max
from nbloss.kernels.cpu.tuning import SUM_RUN_ROWS


@njit(**INLINE)
def sum_of_run(base, count):
    """The float64 sum of ``count`` numbers, from as many interleaved partial sums as four vectors have lanes."""
    width = lanes(base)
    a = promote(splat(base, 0.0))
    b = c = d = a
    k = 0
    while k + 4 * width <= count:
        a = a + promote(load(base, k))
        b = b + promote(load(base, k + width))
        c = c + promote(load(base, k + 2 * width))
        d = d + promote(load(base, k + 3 * width))
        k += 4 * width
    while k < count:
        a = a + promote(load_n(base, k, count - k, 0.0))
        k += width
    return reduce_add((a + b) + (c + d))


@njit(**INLINE)
def largest_negated(base, count):
    """The largest of -v over ``count`` numbers v; -inf if there is none. It ignores nan."""
    width = lanes(base)
    largest = splat(base, -np.inf)
    for k in range(0, count, width):
        largest = maximum(-load_n(base, k, count - k, np.inf), largest)
    return reduce_max(largest)


def row_sum(values, totals, group, lo, hi):
    """totals = the float64 sum of each ``group`` of rows; lo is a multiple of ``group``."""
    for start in range(lo, hi, group):
        stop, total = min_int(hi, start + group), 0.0
        for first in range(start, stop, SUM_RUN_ROWS):
            total += sum_of_run(pointer(values, first), min_int(SUM_RUN_ROWS, stop - first))
        totals[start // group] = total
