"""Cross entropy of class numbers, with or without label smoothing, for contiguous rows, vectors along each row.

A row takes three steps: its maximum, its sums, its output. Short rows go through each step in groups: a step of one row is a chain of
dependent instructions, and a processor overlaps the chains of several rows. The logarithms and divisions of a group are those of one
vector, with a lane per row. The exponentials stay in a buffer per thread, so that the gradient is a multiplication. While a row is
summed, the maximum of the row one group later is searched, and the output's lines are prefetched, so that memory is always busy.

A call without a gradient, and one of long rows, keeps no exponentials until it meets a confident row, which needs them.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE, INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.epilogue import index_at_target, index_factor, index_loss, smoothed_at_target, smoothed_loss, soft_factors
from nbloss.kernels.cpu.simd.integers import widen_to_int64
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_n, put, splat, store, store_n
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, position_pointer, row_step, start_if_given, zero_fill
from nbloss.kernels.cpu.simd.vec import equal, insert_lane, less, mask_and, reduce_add, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import LONG_ROW_BYTES
from nbloss.kernels.cpu.vector_per_row.confident import index_of_max, keep_exponentials, kept_rest
from nbloss.kernels.cpu.vector_per_row.reduce import (
    exp_buffer_size,
    prefetch_distance,
    row_max,
    row_soft_sums,
    row_total,
    rows_per_group,
    target_mass,
)
from nbloss.kernels.cpu.vector_per_row.write import (
    output_lines,
    slopes_of_row,
    write_one,
    write_peak,
    write_soft_kept,
    write_soft_recomputed,
)
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def _counts(scale, spread):
    """A pointer to numbers that are 0 where a row does not count."""
    if spread is None:
        return pointer(scale, 0)
    return pointer(spread, 0)


@njit(**INLINE)
def _put_weights(owns, w, classes, counts, p, count):
    """Fill ``owns`` with the class weights of the targets of rows that count."""
    for k in range(count):
        if w is None:
            put(owns, k, 1.0)
        elif get(counts, p + k) != 0:
            put(owns, k, get(w, get(classes, k)))


def mapped_cross_entropy(x, slopes, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    """Losses, and the gradient where there is an ``out``. ``slopes`` multiply the gradient (``math.logit_map``), unless they are None.

    These buffers have a number for each row of a group:

    ==========================  ============================================================================
    tops                        maxima m of this group and of the next one, in a ring
    maxima                      m, for the row options
    gaps                        m - x[y]
    spans                       sum of w (m - x)
    owns                        w[y]
    coefs, factors, at_targets  H, factor of the exponentials, gradient at the target, all times ``upstream``
    totals, aways, shares       M, ``away`` of ``soft_factors``, share of a class, all times ``upstream``
    kept                        the exponentials: ``exp_buffer_size`` numbers for each row
    ==========================  ============================================================================
    """
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    one = exp_scale(loss.dtype.type(0))
    near = rows_per_group(width, n)
    size, pitch, nontemporal = width, exp_buffer_size(base, n), False
    keeping = False
    if out is not None:
        size, nontemporal = near, rows_bypass_caches(out, n, base)
        keeping = n * x.itemsize <= LONG_ROW_BYTES
    tops, gaps, maxima, coefs, factors, at_targets, spans, owns, totals, aways, shares, kept = carve(
        base, (2 * width, width, width, width, width, width, width, width, width, width, width, near * pitch)
    )
    ring = 2 * width - 1
    rest = splat(base, 0.0)
    s = rest
    store(gaps, 0, rest)  # lanes without a row must not hold subnormal numbers, which are slow
    store(maxima, 0, rest)
    store(spans, 0, rest)
    store(owns, 0, rest)
    targets, scales, counts, losses = pointer(target, 0), pointer(scale, 0), _counts(scale, spread), pointer(loss, 0)
    smoothing, weights = start_if_given(spread), start_if_given(w)
    mass = target_mass(base, smoothing, weights, n)
    ahead = prefetch_distance(n, row_step(x), near)
    terms, widened = stack_alloc(np.float64, 256), stack_alloc(np.int64, 16)
    for p in range(lo, hi, size):
        count, confident, held = min_int(size, hi - p), 0, keeping
        classes = widen_to_int64(offset(targets, p), mask, count, widened)
        for first in range(0, count, near):
            last = min_int(count, first + near)
            for k in range(first, last):
                if get(counts, p + k) != 0:
                    row = position_pointer(x, p + k)
                    if p + k < lo + near or get(counts, p + k - near) == 0:
                        put(tops, (p + k) & ring, row_max(row, n))
                    put(gaps, k, get(tops, (p + k) & ring) - get(row, get(classes, k)))
                    if options is not None:
                        put(maxima, k, get(tops, (p + k) & ring))
            for k in range(first, last):
                if get(counts, p + k) != 0:
                    row, m, later = position_pointer(x, p + k), get(tops, (p + k) & ring), p + k + near
                    following = position_pointer(x, later) if later < hi and get(counts, later) != 0 else row
                    lines, keep = output_lines(row, out, p + k, nontemporal), offset(kept, (k - first) * pitch)
                    if keeping:
                        sums, _, span, top = row_soft_sums(row, n, m, keep, ahead, lines, following, smoothing, weights, None, 0.0, 1.0)
                    else:
                        sums, _, span, top = row_soft_sums(row, n, m, None, ahead, lines, following, smoothing, weights, None, 0.0, 1.0)
                    store(terms, k * width, sums)
                    put(tops, later & ring, top)
                    if spread is not None:
                        put(spans, k, -reduce_add(span))
            for k in range(first, last):
                if get(counts, p + k) != 0:
                    total = row_total(load_float64(terms, k * width, rest), get(tops, (p + k) & ring))
                    confident |= np.int64(total < CONFIDENT) << k
                    rest = insert_lane(rest, k, cast(base, total - 1.0))
                    s = insert_lane(s, k, cast(base, total))
            for k in range(first, last):
                if confident >> k & 1:
                    row, m, keep = position_pointer(x, p + k), get(tops, (p + k) & ring), offset(kept, (k - first) * pitch)
                    if not keeping:
                        keep_exponentials(row, n, m, keep)
                    at = get(classes, k) if get(gaps, k) == 0 else index_of_max(keep, n)
                    without_max = kept_rest(row, n, m, keep, at)
                    rest = insert_lane(rest, k, cast(base, without_max))
                    s = insert_lane(s, k, cast(base, without_max + 1.0))
            keeping = keeping or confident != 0
        each, share = load_n(scales, p, count, 0.0), load_n(counts, p, count, 0.0)
        nothing, gap, top, log_s = equal(share, 0.0), load(gaps, 0), load(maxima, 0), log1p(rest)
        if spread is None:
            value = index_loss(each, log_s, gap, top, options)
        else:
            value = smoothed_loss(each, share, share * mass, log_s, gap, load(spans, 0), top, options)
        store_n(losses, p, count, select(nothing, 0.0, value))
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_n(pointer(upstream, 0), p, count, 0.0)
            own = exp_scaled(-gap, None) / one
            if spread is None:
                coef = select(nothing, 0.0, each * g)
                others = select(less(0.0, gap), s - own, rest)
                factor = index_factor(coef, log_s, gap, top, options)
                store(factors, 0, factor / s / one)
                store(at_targets, 0, index_at_target(coef, factor, others, own, s, log_s, top, options))
            else:
                coef = select(nothing, 0.0, g)
                _put_weights(owns, weights, classes, counts, p, count)
                q, total = share * load(owns, 0), share * mass + each
                factor, away = soft_factors(total, rest, s, log_s, top, options)
                at_peak = mask_and(equal(gap, 0.0), less(s, CONFIDENT))
                store(factors, 0, factor * g / one)
                store(at_targets, 0, smoothed_at_target(own, q, each, share * mass, factor, away, at_peak) * g)
                store(shares, 0, share * g)
                store(totals, 0, total * g)
                store(aways, 0, away * g)
            store(coefs, 0, coef)
            for k in range(count):
                result = position_pointer(out, p + k)
                if get(coefs, k) == 0:
                    zero_fill(result, n)
                    continue
                keep, factor_k, share_k, sure = offset(kept, k * pitch), get(factors, k), get(shares, k), confident >> k & 1
                more = slopes_of_row(slopes, p + k)
                if held or sure:
                    write_soft_kept(keep, result, n, factor_k, nontemporal, smoothing, weights, None, 0.0, share_k, more)
                else:
                    row, m = position_pointer(x, p + k), get(tops, (p + k) & ring)
                    write_soft_recomputed(row, result, n, m, factor_k, nontemporal, smoothing, weights, None, 0.0, share_k, more)
                if spread is not None and sure and get(gaps, k) > 0:
                    at, total_k, away_k = index_of_max(keep, n), get(totals, k), get(aways, k)
                    write_peak(keep, result, n, at, total_k, factor_k, away_k, weights, None, 0.0, share_k, more)
                write_one(result, get(classes, k), get(at_targets, k), more)
    free(tops)


_cross_entropy = njit(**OPTIONS, **INLINE_ONLY)(mapped_cross_entropy)


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    _cross_entropy(x, None, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi)
