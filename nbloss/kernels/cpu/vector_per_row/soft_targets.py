"""Cross entropy of contiguous rows against probabilities, vectors along each row.

The steps are those of ``cross_entropy``: rows go through each of them in groups. One pass has the exponentials, the sum of the target
distribution q, and the sum of q (m - x). The probabilities are read in their own storage type, once more for the gradient.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.epilogue import soft_factors, soft_loss
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_n, put, splat, store, store_n
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, position_pointer, row_step, start_if_given, zero_fill
from nbloss.kernels.cpu.simd.vec import insert_lane, reduce_add
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.vector_per_row.confident import index_of_max, keep_exponentials, kept_rest
from nbloss.kernels.cpu.vector_per_row.reduce import (
    exp_buffer_size,
    prefetch_distance,
    row_max,
    row_soft_sums,
    row_total,
    rows_per_group,
)
from nbloss.kernels.cpu.vector_per_row.write import output_lines, slopes_of_row, write_peak, write_soft_kept
from nbloss.kernels.math.epilogue import CONFIDENT


def mapped_cross_entropy_soft(x, slopes, y, w, a, b, options, upstream, loss, out, lo, hi):
    """``slopes`` multiply the gradient (``math.logit_map``), unless they are None."""
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    one = exp_scale(loss.dtype.type(0))
    near = rows_per_group(width, n)
    pitch, nontemporal = exp_buffer_size(base, n), False
    keeping = False
    if out is not None:
        keeping, nontemporal = True, rows_bypass_caches(out, n, base)
    # the maxima of this group and the next one in a ring; then one number per row of the group; then exponentials
    tops, maxima, spans, totals, factors, aways, above, kept = carve(
        base, (2 * width, width, width, width, width, width, width, near * pitch)
    )
    ring = 2 * width - 1
    rest = splat(base, 0.0)
    s = rest
    store(maxima, 0, rest)  # lanes without a row must not hold subnormal numbers, which are slow
    store(spans, 0, rest)
    store(totals, 0, rest)
    losses, weights = pointer(loss, 0), start_if_given(w)
    share, constant = cast(base, a), cast(base, b)
    ahead = prefetch_distance(n, row_step(x), near)
    terms = stack_alloc(np.float64, 256)
    for p in range(lo, min_int(hi, lo + near)):
        put(tops, p & ring, row_max(position_pointer(x, p), n))
    for p in range(lo, hi, near):
        count, confident = min_int(near, hi - p), 0
        for k in range(count):
            row, target, m = position_pointer(x, p + k), position_pointer(y, p + k), get(tops, (p + k) & ring)
            following = position_pointer(x, min_int(p + k + near, hi - 1))
            lines, keep = output_lines(row, out, p + k, nontemporal), offset(kept, k * pitch)
            if keeping:
                sums, q, span, top = row_soft_sums(row, n, m, keep, ahead, lines, following, kept, weights, target, share, constant)
            else:
                sums, q, span, top = row_soft_sums(row, n, m, None, ahead, lines, following, kept, weights, target, share, constant)
            store(terms, k * width, sums)
            put(tops, (p + k + near) & ring, top)
            put(maxima, k, m)
            put(totals, k, reduce_add(q))
            put(spans, k, -reduce_add(span))
        for k in range(count):
            total = row_total(load_float64(terms, k * width, rest), get(maxima, k))
            confident |= np.int64(total < CONFIDENT) << k
            rest = insert_lane(rest, k, cast(base, total - 1.0))
            s = insert_lane(s, k, cast(base, total))
        for k in range(count):
            if confident >> k & 1:
                row, m, keep = position_pointer(x, p + k), get(maxima, k), offset(kept, k * pitch)
                if not keeping:
                    keep_exponentials(row, n, m, keep)
                without_max = kept_rest(row, n, m, keep, index_of_max(keep, n))
                rest = insert_lane(rest, k, cast(base, without_max))
                s = insert_lane(s, k, cast(base, without_max + 1.0))
        keeping = keeping or confident != 0
        total, top, log_s = load(totals, 0), load(maxima, 0), log1p(rest)
        store_n(losses, p, count, soft_loss(total, log_s, load(spans, 0), top, options))
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_n(pointer(upstream, 0), p, count, 0.0)
            factor, away = soft_factors(total, rest, s, log_s, top, options)
            store(above, 0, g)
            store(factors, 0, factor * g / one)
            store(aways, 0, away * g)
            for k in range(count):
                target, result, keep = position_pointer(y, p + k), position_pointer(out, p + k), offset(kept, k * pitch)
                g_k, factor_k, more = get(above, k), get(factors, k), slopes_of_row(slopes, p + k)
                if g_k == 0:
                    zero_fill(result, n)
                    continue
                write_soft_kept(keep, result, n, factor_k, nontemporal, kept, weights, target, share * g_k, constant * g_k, more)
                if confident >> k & 1:
                    at, total_k, away_k = index_of_max(keep, n), get(totals, k) * g_k, get(aways, k)
                    write_peak(keep, result, n, at, total_k, factor_k, away_k, weights, target, share * g_k, constant * g_k, more)
    free(tops)


_cross_entropy_soft = njit(**OPTIONS, **INLINE_ONLY)(mapped_cross_entropy_soft)


def cross_entropy_soft(x, y, w, a, b, options, upstream, loss, out, lo, hi):
    _cross_entropy_soft(x, None, y, w, a, b, options, upstream, loss, out, lo, hi)
