"""Statistics of contiguous rows, vectors along each row, in one pass: those of ``cross_entropy_stats`` and of ``evaluation``.

The loop and the sums are those of ``cross_entropy`` without a gradient, so log-probabilities are its losses, to the last bit.

m ignores nan, but the argmax is NumPy's: the first nan wins. A row with nan is found by its sum, which is nan.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.optional import if_given
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import entropy_of_row, log_prob_of_target, log_sum_exp
from nbloss.kernels.cpu.simd.integers import widen_to_int64
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_n, put, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, position_pointer, row_step, start_if_given
from nbloss.kernels.cpu.simd.vec import equal, insert_lane, maximum, next_below, reduce_add, reduce_max, select
from nbloss.kernels.cpu.simd.vecmath import log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import SUM_BLOCK_CLASSES
from nbloss.kernels.cpu.vector_per_row.confident import index_of_max, keep_exponentials, kept_gaps, kept_rest
from nbloss.kernels.cpu.vector_per_row.reduce import (
    exp_buffer_size,
    prefetch_distance,
    row_entropy_sums,
    row_max,
    row_total,
    rows_per_group,
)
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def _row_counts(scales, p):
    """Whether row p counts; without targets, every row does."""
    if scales is None:
        return True
    return get(scales, p) != 0


@njit(**INLINE)
def _first_equal(x, n, m, start, stop, down):
    """The first element of a row that equals m; there is one in [start, stop). ``down`` holds 0, -1, -2, ...

    A block is searched without a branch, whose outcome a processor could not predict.
    """
    width, top = lanes(x), splat(x, m)
    while start < stop:
        best = splat(x, -np.inf)
        for j in range(start, min_int(stop, start + SUM_BLOCK_CLASSES), width):
            at = min_int(j, n - width)
            best = maximum(select(equal(load(x, at), top), load(down, 0) - (at - start), -np.inf), best)
        found = reduce_max(best)
        if found > -np.inf:
            return start - np.int64(found)
        start += SUM_BLOCK_CLASSES
    return n - 1  # another thread has changed the row meanwhile


@njit(**INLINE)
def _first_nan(x, n):
    """The first element of a row that is nan; n if there is none."""
    j = 0
    while j < n and get(x, j) == get(x, j):
        j += 1
    return j


def cross_entropy_stats(x, target, mask, scale, lse, log_prob, argmax, correct, entropy, rank, confidence, is_argmax, lo, hi):
    """Fill the statistics; those that a call does not ask for are None. ``target`` and ``scale`` are None in a call without targets.

    ``rank``, ``confidence`` and ``is_argmax`` come together.
    """
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    near = rows_per_group(width, n)
    tops, starts, maxima, gaps, means, down, owns, kept = carve(
        base, (2 * width, 2 * width, width, width, width, width, width, exp_buffer_size(base, n))
    )
    for lane in range(width):
        put(down, lane, -lane)
    ring = 2 * width - 1
    rest = splat(base, 0.0)
    store(maxima, 0, rest)  # lanes without a row must not hold subnormal numbers, which are slow
    store(gaps, 0, rest)
    store(means, 0, rest)
    store(owns, 0, rest)
    targets, scales, log_probs, hits = start_if_given(target), start_if_given(scale), start_if_given(log_prob), start_if_given(correct)
    indices, ranks, leads = start_if_given(argmax), start_if_given(rank), start_if_given(is_argmax)
    ahead = prefetch_distance(n, row_step(x), near)
    terms, gap_terms, widened = stack_alloc(np.float64, 256), stack_alloc(np.float64, 256), stack_alloc(np.int64, 16)
    for p in range(lo, hi, width):
        count = min_int(width, hi - p)
        if target is not None:
            classes = widen_to_int64(offset(targets, p), mask, count, widened)
        for first in range(0, count, near):
            last, confident = min_int(count, first + near), 0
            for k in range(first, last):
                if _row_counts(scales, p + k):
                    row = position_pointer(x, p + k)
                    if p + k < lo + near or not _row_counts(scales, p + k - near):
                        put(tops, (p + k) & ring, row_max(row, n))
                        put(starts, (p + k) & ring, 0)
                    m = get(tops, (p + k) & ring)
                    put(maxima, k, m)
                    if target is not None:
                        x_y = get(row, get(classes, k))
                        put(gaps, k, m - x_y)
                        # where the target's logit is the maximum, the number above it would be 0: that of maxima is counted instead
                        put(owns, k, select(x_y == m, next_below(x_y), x_y))
                        if correct is not None:
                            put(hits, p + k, x_y == m)
                else:
                    if argmax is not None:
                        put(indices, p + k, -1)
                    if correct is not None:
                        put(hits, p + k, False)
                    if rank is not None:
                        put(ranks, p + k, -1)
                        put(leads, p + k, False)
            for k in range(first, last):
                if _row_counts(scales, p + k):
                    row, m, later = position_pointer(x, p + k), get(tops, (p + k) & ring), p + k + near
                    following = position_pointer(x, later) if later < hi and _row_counts(scales, later) else row
                    sums, gap_sums, above, top, start = row_entropy_sums(row, n, m, ahead, following, if_given(rank, get(owns, k)))
                    store(terms, k * width, sums)
                    store(gap_terms, k * width, gap_sums)
                    put(tops, later & ring, top)
                    put(starts, later & ring, start)
                    if rank is not None:
                        put(ranks, p + k, np.int64(reduce_add(above)))
            for k in range(first, last):
                if _row_counts(scales, p + k):
                    m = get(maxima, k)
                    sums = load_float64(terms, k * width, rest)
                    total = row_total(sums, m)
                    confident |= np.int64(total < CONFIDENT) << k
                    rest = insert_lane(rest, k, cast(base, total - 1.0))
                    put(means, k, -reduce_add(load_float64(gap_terms, k * width, rest)) / reduce_add(sums))
                    row, begin = position_pointer(x, p + k), np.int64(get(starts, (p + k) & ring))
                    if argmax is not None:
                        at, missing = 0, _first_nan(row, n) if total != total else n
                        if missing < n:
                            at = missing
                            if correct is not None:
                                put(hits, p + k, False)
                        else:
                            at = _first_equal(row, n, m, begin, n, down)
                        put(indices, p + k, at)
                    if rank is not None:
                        above, hit = get(ranks, p + k), get(gaps, k) == 0
                        leading = hit
                        if hit and above > 1:
                            leading = _first_equal(row, n, m, 0, get(classes, k) + 1, down) == get(classes, k)
                        put(leads, p + k, leading & (total == total))
                        put(ranks, p + k, select(total != total, n, select(hit, 0, above)))
            for k in range(first, last):
                if confident >> k & 1:
                    row, m = position_pointer(x, p + k), get(maxima, k)
                    keep_exponentials(row, n, m, kept)
                    at = 0
                    if argmax is not None:
                        at = get(indices, p + k)
                    if rank is not None:
                        at = get(classes, k) if get(gaps, k) == 0 else index_of_max(kept, n)
                    without_max = kept_rest(row, n, m, kept, at)
                    rest = insert_lane(rest, k, cast(base, without_max))
                    put(means, k, kept_gaps(row, n, m, kept) / (without_max + 1.0))
        top, gap, log_s = load(maxima, 0), load(gaps, 0), log1p(rest)
        entropy_of_rows, lse_of_rows = entropy_of_row(log_s, load(means, 0)), log_sum_exp(log_s, top)
        confidence_of_rows = 1.0 / (rest + 1.0)
        if scale is not None:
            nothing = equal(load_n(scales, p, count, 0.0), 0.0)
            store_n(log_probs, p, count, select(nothing, 0.0, log_prob_of_target(log_s, gap)))
            entropy_of_rows, lse_of_rows = select(nothing, 0.0, entropy_of_rows), select(nothing, 0.0, lse_of_rows)
            confidence_of_rows = select(nothing, 0.0, confidence_of_rows)
        store_n(pointer(entropy, 0), p, count, entropy_of_rows)
        if lse is not None:
            store_n(pointer(lse, 0), p, count, lse_of_rows)
        if confidence is not None:
            store_n(pointer(confidence, 0), p, count, confidence_of_rows)
    free(tops)
