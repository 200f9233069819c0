"""The Hessian of the cross entropy of contiguous rows, vectors along each row: its product with an array v, and its diagonal.

The steps are those of ``soft_targets``: rows go through each of them in groups. One pass has the exponentials, the sum of them, and the sum
of their products with v. The formulas, with ``ref`` and ``mean``, are those of ``math.epilogue``. v is read in its own storage type, once
more for the output, which may be v itself.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import curvature, hessian_diagonal, hessian_product, lift
from nbloss.kernels.cpu.simd.load_store import (
    cast,
    get,
    lanes,
    load,
    load_as,
    load_float64,
    load_n,
    put,
    splat,
    store,
    store_nontemporal,
)
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, position_pointer, row_step, zero_fill
from nbloss.kernels.cpu.simd.vec import equal, insert_lane, reduce_add, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.vector_per_row.confident import index_of_max, kept_products, kept_rest
from nbloss.kernels.cpu.vector_per_row.reduce import (
    exp_buffer_size,
    prefetch_distance,
    row_max,
    row_product_sums,
    row_total,
    rows_per_group,
)
from nbloss.kernels.cpu.vector_per_row.write import output_lines
from nbloss.kernels.math.epilogue import CONFIDENT


@none_of_none
def _row_of(v, p):
    """Row p of v, or None."""
    return position_pointer(v, p)


def _values(e, v, j, row, options):
    """The output of the classes from j on, with the exponentials e. ``row`` has (1 / s, A, B), where s is that of scaled exponentials; with
    v, it has (ref, mean, A / s, B P / s).
    """


@njit(**INLINE)
def _diagonal(e, row, options):
    inverse, a, b = row
    p = e * inverse
    return hessian_diagonal(p, 1.0 - p, a, b, options)


@njit(**INLINE)
def _product(e, v, row, options):
    ref, mean, factor, more = row
    return hessian_product(e, (v - ref) - mean, factor, more, options)


@overload(_values, jit_options=INLINE)
def _typed_values(e, v, j, row, options):
    if isinstance(v, types.NoneType):
        return lambda e, v, j, row, options: _diagonal(e, row, options)
    return lambda e, v, j, row, options: _product(e, load_as(v, j, e), row, options)


@njit(**INLINE)
def _write(keep, v, out, n, row, options, nontemporal):
    """Write a row. The first and the last vector, which overlap others, are computed first: ``out`` may be v."""
    width = lanes(keep)
    first, last = _values(load(keep, 0), v, 0, row, options), _values(load(keep, n - width), v, n - width, row, options)
    j = elements_to_aligned(out)
    while nontemporal and j + width <= n:
        store_nontemporal(out, j, _values(load(keep, j), v, j, row, options))
        j += width
    while j + 2 * width <= n:
        store(out, j, _values(load(keep, j), v, j, row, options))
        store(out, j + width, _values(load(keep, j + width), v, j + width, row, options))
        j += 2 * width
    if j + width <= n:
        store(out, j, _values(load(keep, j), v, j, row, options))
    store(out, 0, first)
    store(out, n - width, last)


@njit(**INLINE)
def _write_peak(keep, out, n, at, row, away, options):
    """Write the vector with the maximum of a confident row, element ``at``, of the diagonal again: 1 - p keeps its digits in ``away``."""
    inverse, a, b = row
    j = min_int(at, n - lanes(keep))
    e = load(keep, j)
    p = e * inverse
    store(out, j, hessian_diagonal(p, select(equal(e, exp_scale(inverse)), away, 1.0 - p), a, b, options))


@njit(**INLINE)
def _hessian(x, v, coef, options, out, lo, hi):
    """The product with v; without v, the diagonal."""
    n = x.shape[1]
    base, coefs = pointer(x, 0), pointer(coef, 0)
    width = lanes(base)
    one = exp_scale(cast(base, 0.0))
    near = rows_per_group(width, n)
    pitch, nontemporal = exp_buffer_size(base, n), rows_bypass_caches(out, n, base)
    # the maxima of this group and the next one in a ring; then one number per row of the group; then exponentials
    tops, maxima, refs, means, above, first, second, third, kept = carve(
        base, (2 * width, width, width, width, width, width, width, width, near * pitch)
    )
    ring = 2 * width - 1
    rest = splat(base, 0.0)
    s = rest + 1.0
    store(maxima, 0, rest)  # lanes without a row must not hold subnormal numbers, which are slow
    store(means, 0, rest)
    ahead = prefetch_distance(n, row_step(x), near)
    terms = stack_alloc(np.float64, 256)
    for p in range(lo, min_int(hi, lo + near)):
        put(tops, p & ring, row_max(position_pointer(x, p), n))
    for p in range(lo, hi, near):
        count, confident = min_int(near, hi - p), 0
        store(refs, 0, splat(base, 0.0))
        for k in range(count):
            row, m = position_pointer(x, p + k), get(tops, (p + k) & ring)
            following = position_pointer(x, min_int(p + k + near, hi - 1))
            lines, keep = output_lines(row, out, p + k, nontemporal), offset(kept, k * pitch)
            sums, products, top = row_product_sums(row, _row_of(v, p + k), n, m, keep, ahead, lines, following)
            store(terms, k * width, sums)
            put(tops, (p + k + near) & ring, top)
            put(maxima, k, m)
            if v is not None:
                put(means, k, reduce_add(products) / reduce_add(sums))
        for k in range(count):
            total = row_total(load_float64(terms, k * width, rest), get(maxima, k))
            confident |= np.int64(total < CONFIDENT) << k
            rest = insert_lane(rest, k, cast(base, total - 1.0))
            s = insert_lane(s, k, cast(base, total))
        for k in range(count):
            if confident >> k & 1:
                row, m, keep = position_pointer(x, p + k), get(maxima, k), offset(kept, k * pitch)
                at = index_of_max(keep, n)
                without_max = kept_rest(row, n, m, keep, at)
                rest = insert_lane(rest, k, cast(base, without_max))
                s = insert_lane(s, k, cast(base, without_max + 1.0))
                if v is not None:
                    values = position_pointer(v, p + k)
                    ref = cast(base, get(values, at))
                    put(refs, k, ref)
                    put(means, k, kept_products(values, n, ref, keep) / (without_max + 1.0))
        g = splat(base, get(coefs, 0)) if coef.size == 1 else load_n(coefs, p, count, 0.0)
        log_s = rest if options is None else log1p(rest)
        a = curvature(g, log_s, load(maxima, 0), options)
        store(above, 0, g)
        if v is None:
            store(first, 0, 1.0 / s / one)
            store(second, 0, a)
            store(third, 0, lift(g, 1.0, options))
            store(means, 0, rest / s)
        else:
            store(first, 0, a / s / one)
            store(second, 0, lift(g, load(refs, 0) + load(means, 0), options) / s / one)
        for k in range(count):
            result, keep = position_pointer(out, p + k), offset(kept, k * pitch)
            if get(above, k) == 0:
                zero_fill(result, n)
            elif v is None:
                numbers = get(first, k), get(second, k), get(third, k)
                _write(keep, None, result, n, numbers, options, nontemporal)
                if confident >> k & 1:
                    _write_peak(keep, result, n, index_of_max(keep, n), numbers, get(means, k), options)
            else:
                numbers_of_product = get(refs, k), get(means, k), get(first, k), get(second, k)
                _write(keep, position_pointer(v, p + k), result, n, numbers_of_product, options, nontemporal)
    free(tops)


def cross_entropy_hvp(x, v, coef, options, out, lo, hi):
    _hessian(x, v, coef, options, out, lo, hi)


def cross_entropy_hessian_diag(x, coef, options, out, lo, hi):
    _hessian(x, None, coef, options, out, lo, hi)
