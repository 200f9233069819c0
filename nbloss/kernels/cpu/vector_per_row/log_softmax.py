"""log_softmax and its gradient for contiguous rows, vectors along each row.

As in ``cross_entropy``, short rows go through each step in groups, and the maximum of the row one group later is searched while a row is
summed.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, put, splat, store
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, pointer, position_pointer, row_step
from nbloss.kernels.cpu.simd.vec import insert_lane, last_lanes, promote, reduce_add
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import SUM_BLOCK_CLASSES
from nbloss.kernels.cpu.vector_per_row.reduce import prefetch_distance, row_exp_sums, row_max, row_rest, row_total, rows_per_group
from nbloss.kernels.cpu.vector_per_row.write import later_lines, output_lines, write_gradient, write_logs
from nbloss.kernels.math.epilogue import CONFIDENT


def log_softmax(x, out, lo, hi):
    """out = (x - m) - log s."""
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    size, ring = rows_per_group(width, n), 2 * width - 1
    maxima, logs = carve(base, (2 * width, width))
    rest = splat(base, 0.0)
    terms = stack_alloc(np.float64, 256)
    nontemporal = rows_bypass_caches(out, n, base)
    ahead = prefetch_distance(n, row_step(x), size)
    for p in range(lo, min_int(hi, lo + size)):
        put(maxima, p & ring, row_max(position_pointer(x, p), n))
    for p in range(lo, hi, size):
        count, confident = min_int(size, hi - p), 0
        for k in range(count):
            row, following = position_pointer(x, p + k), position_pointer(x, min_int(p + k + size, hi - 1))
            lines = output_lines(row, out, p + k, nontemporal)
            sums, following_max = row_exp_sums(row, n, get(maxima, (p + k) & ring), None, ahead, lines, following)
            store(terms, k * width, sums)
            put(maxima, (p + k + size) & ring, following_max)
        for k in range(count):
            total = row_total(load_float64(terms, k * width, rest), get(maxima, (p + k) & ring))
            confident |= np.int64(total < CONFIDENT) << k
            rest = insert_lane(rest, k, cast(base, total - 1.0))
        for k in range(count):
            if confident >> k & 1:
                rest = insert_lane(rest, k, cast(base, row_rest(position_pointer(x, p + k), n, get(maxima, (p + k) & ring), None)))
        store(logs, 0, log1p(rest))
        for k in range(count):
            write_logs(position_pointer(x, p + k), position_pointer(out, p + k), n, get(maxima, (p + k) & ring), get(logs, k), nontemporal)
    free(maxima)


@njit(**INLINE)
def _row_sum(x, n):
    """The float64 sum of a row. Element j goes to partial sum j mod (2 * lanes); those of the last vector that are new go to the first."""
    width = lanes(x)
    zero = splat(x, 0.0)
    sums, whole = promote(zero), n // width * width
    for start in range(0, n, SUM_BLOCK_CLASSES):
        even = odd = zero
        j, stop = start, min_int(whole, start + SUM_BLOCK_CLASSES)
        while j + 2 * width <= stop:
            even = even + load(x, j)
            odd = odd + load(x, j + width)
            j += 2 * width
        if j < stop:
            even = even + load(x, j)
        if stop == whole and whole < n:
            odd = odd + last_lanes(load(x, n - width), n - whole)
        sums = sums + promote(even + odd)
    return reduce_add(sums)


def log_softmax_backward(g, y, out, lo, hi):
    """out = g - exp(y) * sum of g."""
    n = y.shape[1]
    base = pointer(y, 0)
    size = rows_per_group(lanes(base), n)
    factors = stack_alloc(np.float64, 16)
    one, nontemporal = np.float64(exp_scale(get(base, 0))), rows_bypass_caches(out, n, base)
    for p in range(lo, hi, size):
        count = min_int(size, hi - p)
        for k in range(count):
            put(factors, k, _row_sum(position_pointer(g, p + k), n) / one)
        for k in range(count):
            q, later = p + k, min_int(p + k + size, hi - 1)
            after = later_lines(g, y, out, q, later, n, nontemporal)
            factor = cast(base, get(factors, k))
            write_gradient(position_pointer(g, q), position_pointer(y, q), position_pointer(out, q), n, factor, None, nontemporal, after)
