"""TODO"""

import numpy as np

from nbloss.kernels.cpu.simd.integers import widen_to_int64
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_n, put, splat, store, store_n
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, stride
from nbloss.kernels.cpu.simd.vec import equal, insert_lane, less, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import LONG_ROW_BYTES
from nbloss.kernels.cpu.vector_per_row.reduce import (
    CONFIDENT,
    exp_buffer_size,
    grad_at_target,
    index_loss,
    prefetch_distance,
    row_exp_sums,
    row_max,
    row_rest,
    row_total,
    rows_per_group,
)
from nbloss.kernels.cpu.vector_per_row.write import _lines, _write_again, _write_kept, fill_row


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    one = exp_scale(loss.dtype.type(0))
    near = rows_per_group(width, n)
    size, pitch, streamed = width, 0, False
    if out is not None:
        size, pitch = near, exp_buffer_size(base, n)
        streamed = rows_bypass_caches(out, n, base)
    tops, ring = alloc(base, 6 * width + size * pitch), 2 * width - 1
    gaps, coefs, factors = offset(tops, 2 * width), offset(tops, 3 * width), offset(tops, 4 * width)
    at_targets, kept = offset(tops, 5 * width), offset(tops, 6 * width)
    rest = splat(base, 0.0)
    s = rest
    store(gaps, 0, rest)  # subnormal numbers in the lanes of no row would take the processor's slow path
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    row_stride = stride(x, 0)
    ahead = prefetch_distance(n, row_stride, near)
    terms, widened = stack_alloc(np.float64, 256), stack_alloc(np.int64, 16)
    again = n * x.itemsize > LONG_ROW_BYTES  # compute them twice: kept ones would push the next row out of the second cache
    for p in range(lo, hi, size):
        count, confident = min_int(size, hi - p), 0
        classes = widen_to_int64(offset(targets, p), mask, count, widened)
        for first in range(0, count, near):
            last = min_int(count, first + near)
            for k in range(first, last):
                if get(scales, p + k) != 0:
                    row = pointer(x, (p + k) * row_stride)
                    if p + k < lo + near or get(scales, p + k - near) == 0:
                        put(tops, (p + k) & ring, row_max(row, n))
                    put(gaps, k, get(tops, (p + k) & ring) - get(row, get(classes, k)))
            for k in range(first, last):
                if get(scales, p + k) != 0:
                    row, m, later = pointer(x, (p + k) * row_stride), get(tops, (p + k) & ring), p + k + near
                    following = pointer(x, later * row_stride) if later < hi and get(scales, later) != 0 else row
                    lines = _lines(row, out, p + k, streamed)
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
                row = pointer(x, (p + k) * row_stride)
                if out is None:
                    others = row_rest(row, n, get(tops, (p + k) & ring), None)
                else:
                    others = row_rest(row, n, get(tops, (p + k) & ring), offset(kept, k * pitch))
                    s = insert_lane(s, k, cast(row, others + 1.0))
                rest = insert_lane(rest, k, cast(row, others))
        each = load_n(scales, p, count, 0.0)
        nothing, gap = equal(each, 0.0), load(gaps, 0)
        store_n(losses, p, count, select(nothing, 0.0, index_loss(each, log1p(rest), gap)))
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_n(pointer(upstream, 0), p, count, 0.0)
            coef = select(nothing, 0.0, each * g)
            store(coefs, 0, coef)
            store(factors, 0, coef / s / one)
            store(at_targets, 0, grad_at_target(coef, select(less(0.0, gap), s - exp_scaled(-gap, None) / one, rest), s))
            for k in range(count):
                result = pointer(out, (p + k) * n)
                if get(coefs, k) == 0:
                    fill_row(result, n, 0.0)
                else:
                    if again and not confident >> k & 1:
                        _write_again(pointer(x, (p + k) * row_stride), result, n, get(tops, (p + k) & ring), get(factors, k), streamed)
                    else:
                        _write_kept(offset(kept, k * pitch), result, n, get(factors, k), streamed)
                    put(result, get(classes, k), get(at_targets, k))
    free(tops)
