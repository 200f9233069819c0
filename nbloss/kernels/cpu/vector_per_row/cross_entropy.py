"""Cross entropy of class numbers for contiguous rows, vectors along each row.

A row takes three steps: its maximum, its sum of exponentials, its output. Short rows go through each step in groups: a step of one row is a
chain of dependent instructions, and a processor overlaps the chains of several rows. The logarithms and divisions of a group are those
of one vector, with a lane per row. The exponentials stay in a buffer per thread, so that the gradient is a multiplication. While a row is
summed, the maximum of the row one group later is searched, and the output's lines are prefetched, so that memory is always busy.
"""

import numpy as np

from nbloss.kernels.cpu.epilogue import index_at_target, index_factor, index_loss
from nbloss.kernels.cpu.simd.integers import widen_to_int64
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_n, put, splat, store, store_n
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, position_pointer, row_step
from nbloss.kernels.cpu.simd.vec import equal, insert_lane, less, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import LONG_ROW_BYTES
from nbloss.kernels.cpu.vector_per_row.reduce import (
    exp_buffer_size,
    prefetch_distance,
    row_exp_sums,
    row_max,
    row_rest,
    row_total,
    rows_per_group,
)
from nbloss.kernels.cpu.vector_per_row.write import fill_row, output_lines, write_kept, write_recomputed
from nbloss.kernels.math.epilogue import CONFIDENT


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    one = exp_scale(loss.dtype.type(0))
    near = rows_per_group(width, n)
    size, pitch, nontemporal = width, 0, False
    if out is not None:
        size, pitch = near, exp_buffer_size(base, n)
        nontemporal = rows_bypass_caches(out, n, base)
    # the maxima of this group and the next one in a ring; then one number per row of the group; then exponentials
    tops, gaps, maxima, coefs, factors, at_targets, kept = carve(base, (2 * width, width, width, width, width, width, size * pitch))
    ring = 2 * width - 1
    rest = splat(base, 0.0)
    s = rest
    store(gaps, 0, rest)  # lanes without a row must not hold subnormal numbers, which are slow
    store(maxima, 0, rest)
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    ahead = prefetch_distance(n, row_step(x), near)
    terms, widened = stack_alloc(np.float64, 256), stack_alloc(np.int64, 16)
    again = n * x.itemsize > LONG_ROW_BYTES  # compute exponentials twice instead of keeping them
    for p in range(lo, hi, size):
        count, confident = min_int(size, hi - p), 0
        classes = widen_to_int64(offset(targets, p), mask, count, widened)
        for first in range(0, count, near):
            last = min_int(count, first + near)
            for k in range(first, last):
                if get(scales, p + k) != 0:
                    row = position_pointer(x, p + k)
                    if p + k < lo + near or get(scales, p + k - near) == 0:
                        put(tops, (p + k) & ring, row_max(row, n))
                    put(gaps, k, get(tops, (p + k) & ring) - get(row, get(classes, k)))
                    if options is not None:
                        put(maxima, k, get(tops, (p + k) & ring))
            for k in range(first, last):
                if get(scales, p + k) != 0:
                    row, m, later = position_pointer(x, p + k), get(tops, (p + k) & ring), p + k + near
                    following = position_pointer(x, later) if later < hi and get(scales, later) != 0 else row
                    lines = output_lines(row, out, p + k, nontemporal)
                    if out is None:
                        sums, top = row_exp_sums(row, n, m, None, ahead, None, following)
                    elif again:
                        sums, top = row_exp_sums(row, n, m, None, ahead, lines, following)
                    else:
                        sums, top = row_exp_sums(row, n, m, offset(kept, k * pitch), ahead, lines, following)
                    store(terms, k * width, sums)
                    put(tops, later & ring, top)
        for k in range(count):
            if get(scales, p + k) == 0:
                continue
            total = row_total(load_float64(terms, k * width, rest), get(tops, (p + k) & ring))
            confident |= np.int64(total < CONFIDENT) << k
            rest = insert_lane(rest, k, cast(base, total - 1.0))
            s = insert_lane(s, k, cast(base, total))
        for k in range(count):
            if confident >> k & 1:
                row = position_pointer(x, p + k)
                if out is None:
                    without_max = row_rest(row, n, get(tops, (p + k) & ring), None)
                else:
                    without_max = row_rest(row, n, get(tops, (p + k) & ring), offset(kept, k * pitch))
                    s = insert_lane(s, k, cast(row, without_max + 1.0))
                rest = insert_lane(rest, k, cast(row, without_max))
        each = load_n(scales, p, count, 0.0)
        nothing, gap, top, log_s = equal(each, 0.0), load(gaps, 0), load(maxima, 0), log1p(rest)
        store_n(losses, p, count, select(nothing, 0.0, index_loss(each, log_s, gap, top, options)))
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_n(pointer(upstream, 0), p, count, 0.0)
            coef = select(nothing, 0.0, each * g)
            store(coefs, 0, coef)
            own = exp_scaled(-gap, None) / one
            others = select(less(0.0, gap), s - own, rest)
            store(factors, 0, index_factor(coef, log_s, top, options) / s / one)
            store(at_targets, 0, index_at_target(coef, others, own, s, log_s, top, options))
            for k in range(count):
                result = position_pointer(out, p + k)
                if get(coefs, k) == 0:
                    fill_row(result, n, 0.0)
                else:
                    if again and not confident >> k & 1:
                        write_recomputed(position_pointer(x, p + k), result, n, get(tops, (p + k) & ring), get(factors, k), nontemporal)
                    else:
                        write_kept(offset(kept, k * pitch), result, n, get(factors, k), nontemporal)
                    put(result, get(classes, k), get(at_targets, k))
    free(tops)
