"""The distillation loss of contiguous rows and its gradient, vectors along each row. The formulas are those of ``math.divergence``.

A row is worked on in three steps, while both of its arrays are in a cache: the maximum of the teacher; its exponentials e, and the mean k
of beta (x - t); and the terms of the divergence, which depend on k. Then a group of rows has its logarithms together, and the gradient is
written from e and ``moved``, which are kept. The maxima ``m`` and ``top`` are multiplied by beta.

A row with classes outside of the limits, such as -inf, is computed again by ``_safe_row``, which has a third exponential.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.optional import if_given
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.divergence import (
    divergence,
    factor,
    gradient,
    large_moved,
    large_shift,
    safe_terms,
    terms,
    z_limits,
)
from nbloss.kernels.cpu.simd.load_store import (
    cast,
    get,
    lanes,
    load,
    load_as,
    load_n,
    put,
    splat,
    store,
    store_n,
    store_nontemporal,
)
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import (
    elements_to_aligned,
    min_int,
    offset,
    pointer,
    position_pointer,
    prefetch_read,
    prefetch_write,
    row_step,
    zero_fill,
)
from nbloss.kernels.cpu.simd.vec import (
    any_true,
    equal,
    first_lane,
    fma,
    last_lanes,
    less,
    mask_and,
    maximum,
    minimum,
    promote,
    reduce_add,
    reduce_max,
    select,
)
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free
from nbloss.kernels.cpu.tuning import SUM_BLOCK_CLASSES
from nbloss.kernels.cpu.vector_per_row.reduce import exp_buffer_size, rows_per_group
from nbloss.kernels.cpu.vector_per_row.write import output_lines
from nbloss.kernels.math.divergence import LN2, MOST, NEAR

# ------------------------------ the steps of a row ------------------------------


@njit(**INLINE)
def _largest(y, n, like):
    """The maximum of a row, converted to the type of ``like``. It ignores nan, which propagates through the sums."""
    width = lanes(like)
    a = splat(like, -np.inf)
    b, j, zero = a, 0, splat(like, 0.0)
    while j + 2 * width <= n:
        a = maximum(load_as(y, j, zero), a)
        b = maximum(load_as(y, j + width, zero), b)
        j += 2 * width
    if j + width <= n:
        a = maximum(load_as(y, j, zero), a)
    return reduce_max(maximum(maximum(load_as(y, n - width, zero), b), a))  # overlaps earlier elements


@njit(**INLINE)
def _exponentials(x, y, j, m, beta, keep):
    """``(e, x - t)`` of a vector. Stores e in ``keep``."""
    v = load(x, j)
    t = load_as(y, j, v)
    e = exp_scaled(fma(t, beta, -m), None)
    store(keep, j, e)
    return e, v - t


@njit(**INLINE)
def _gap_sums(x, y, n, m, beta, keep):
    """``(sum e, sum e (x - t), max (x - t), min (x - t))`` of a row. Stores e in ``keep``.

    As in ``reduce``, blocks of classes are summed in the compute type and added in float64.
    """
    width, zero = lanes(x), splat(x, 0.0)
    sums = gaps = promote(zero)
    top, low = splat(x, -np.inf), splat(x, np.inf)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop, j = min_int(n, start + SUM_BLOCK_CLASSES), start
        even = odd = even_gaps = odd_gaps = zero
        while j + 2 * width <= stop:
            e, d = _exponentials(x, y, j, m, beta, keep)
            even, even_gaps = even + e, fma(e, d, even_gaps)
            top, low = maximum(d, top), minimum(d, low)
            e, d = _exponentials(x, y, j + width, m, beta, keep)
            odd, odd_gaps = odd + e, fma(e, d, odd_gaps)
            top, low = maximum(d, top), minimum(d, low)
            j += 2 * width
        if j + width <= stop:
            e, d = _exponentials(x, y, j, m, beta, keep)
            even, even_gaps = even + e, fma(e, d, even_gaps)
            top, low = maximum(d, top), minimum(d, low)
            j += width
        if j < stop:
            e, d = _exponentials(x, y, stop - width, m, beta, keep)
            odd, odd_gaps = odd + last_lanes(e, stop - j), fma(last_lanes(e, stop - j), d, odd_gaps)
            top, low = maximum(d, top), minimum(d, low)
        sums, gaps = sums + promote(even + odd), gaps + promote(even_gaps + odd_gaps)
    return reduce_add(sums), reduce_add(gaps), reduce_max(top), -reduce_max(-low)


@njit(**INLINE)
def _terms(x, y, j, k, beta, keep, moved):
    """``(e, z, e phi(z))`` of a vector. Stores e (exp(z) - 1) in ``moved``, unless that is None."""
    v, e = load(x, j), load(keep, j)
    z = fma(v - load_as(y, j, v), beta, -k)
    near, move = terms(e, z)
    if moved is not None:
        store(moved, j, move)
    return e, z, near


@njit(**INLINE)
def _term_sums(x, y, n, k, beta, keep, moved, x_ahead, y_ahead, out):
    """``(sum e phi(z), sum e z)`` of a row. Prefetches the next row."""
    width, zero = lanes(x), splat(x, 0.0)
    excess = shift = promote(zero)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop, j = min_int(n, start + SUM_BLOCK_CLASSES), start
        even = odd = even_shift = odd_shift = zero
        for line in range(start, stop, width):
            prefetch_read(x, x_ahead + line)
            prefetch_read(y, y_ahead + line)
            if out is not None:
                prefetch_write(out, line)
        while j + 2 * width <= stop:
            e, z, near = _terms(x, y, j, k, beta, keep, moved)
            even, even_shift = even + near, fma(e, z, even_shift)
            e, z, near = _terms(x, y, j + width, k, beta, keep, moved)
            odd, odd_shift = odd + near, fma(e, z, odd_shift)
            j += 2 * width
        if j + width <= stop:
            e, z, near = _terms(x, y, j, k, beta, keep, moved)
            even, even_shift = even + near, fma(e, z, even_shift)
            j += width
        if j < stop:
            e, z, near = _terms(x, y, stop - width, k, beta, keep, moved)
            odd, odd_shift = odd + last_lanes(near, stop - j), fma(last_lanes(e, stop - j), z, odd_shift)
        excess, shift = excess + promote(even + odd), shift + promote(even_shift + odd_shift)
    return reduce_add(excess), reduce_add(shift)


# ------------------------------ rows outside of the limits ------------------------------


@njit(**INLINE)
def _log_sum(sum_of_exponentials, like):
    """The logarithm of a sum of exponentials, of which the largest is 1."""
    return first_lane(log1p(splat(like, sum_of_exponentials / np.float64(exp_scale(get(like, 0))) - 1.0)))


@njit(**NO_INLINE)
def _safe_row(x, y, n, m, beta, keep, moved, result):
    """As `_gap_sums` and `_term_sums`, for any row. Stores sum e, the excess, the shift and the total in ``result``."""
    width, zero = lanes(x), splat(x, 0.0)
    low, high = z_limits(zero)
    sums = gaps = own_sums = promote(zero)
    impossible, top = False, _largest(x, n, keep) * beta
    for j in range(0, n, width):
        at, count = min_int(j, n - width), min_int(width, n - j)
        v = load(x, at)
        t = load_as(y, at, v)
        e = exp_scaled(fma(t, beta, -m), None)
        store(keep, at, e)
        if any_true(mask_and(equal(v, -np.inf), less(-np.inf, t))):
            impossible = True
        sums = sums + promote(last_lanes(e, count))
        gaps = gaps + promote(last_lanes(select(equal(e, 0.0), 0.0, e * (v - t)), count))
        own_sums = own_sums + promote(last_lanes(exp_scaled(fma(v, beta, -top), None), count))
    s, own = reduce_add(sums), reduce_add(own_sums)
    k = cast(x, reduce_add(gaps) / s * beta)
    most = (top - m) - k
    put(result, 0, s)
    if impossible or not most < MOST:
        if impossible:
            most = cast(x, np.inf)
        put(result, 1, 0.0)
        put(result, 2, large_shift(np.float64(most), np.float64(_log_sum(own, keep)), np.float64(_log_sum(s, keep)), LN2))
        put(result, 3, 1.0)
        ratio = cast(x, 2.0 * s / own)
        for j in range(0, n, width):
            at = min_int(j, n - width)
            if moved is not None:
                store(moved, at, large_moved(load(keep, at), exp_scaled(fma(load(x, at), beta, -top), None), ratio))
        return
    excess = shift = promote(zero)
    for j in range(0, n, width):
        at, count = min_int(j, n - width), min_int(width, n - j)
        v = load(x, at)
        other = exp_scaled(fma(v, beta, -m) - k, None)
        e = load(keep, at)
        z, near, move = safe_terms(e, fma(v - load_as(y, at, v), beta, -k), other, low, high)
        if moved is not None:
            store(moved, at, move)
        excess = excess + promote(last_lanes(near, count))
        shift = shift + promote(last_lanes(e * z, count))
    put(result, 1, reduce_add(excess) / s)
    put(result, 2, reduce_add(shift) / s)
    put(result, 3, (reduce_add(excess) + reduce_add(shift)) / s)


# ------------------------------ the gradient ------------------------------


@njit(**INLINE)
def _write(keep, moved, out, n, total, common, nontemporal):
    """Write the gradient. The first and the last vector overlap others."""
    width = lanes(keep)
    store(out, 0, gradient(load(keep, 0), load(moved, 0), total, common))
    j = elements_to_aligned(out)
    while nontemporal and j + width <= n:
        store_nontemporal(out, j, gradient(load(keep, j), load(moved, j), total, common))
        j += width
    while j + 2 * width <= n:
        store(out, j, gradient(load(keep, j), load(moved, j), total, common))
        store(out, j + width, gradient(load(keep, j + width), load(moved, j + width), total, common))
        j += 2 * width
    if j + width <= n:
        store(out, j, gradient(load(keep, j), load(moved, j), total, common))
    if j < n:
        store(out, n - width, gradient(load(keep, n - width), load(moved, n - width), total, common))


def distillation(x, y, beta, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, losses = pointer(x, 0), pointer(loss, 0)
    width = lanes(base)
    low, high = z_limits(splat(base, 0.0))
    near = rows_per_group(width, n)
    pitch, nontemporal = exp_buffer_size(base, n), False
    if out is not None:
        nontemporal = rows_bypass_caches(out, n, base)
    sums, excesses, shifts, totals, above, factors, result, kept, moving = carve(
        base, (width, width, width, width, width, width, 4, near * pitch, near * pitch)
    )
    for slot in (sums, excesses, shifts, totals):
        store(slot, 0, splat(base, 0.0))  # lanes without a row must not hold subnormal numbers, which are slow
    inverse = cast(base, beta)
    square = cast(base, 1.0 / (beta * beta))
    x_ahead, y_ahead = near * row_step(x), near * row_step(y)
    for p in range(lo, hi, near):
        count = min_int(near, hi - p)
        for k in range(count):
            row, teacher = position_pointer(x, p + k), position_pointer(y, p + k)
            keep, moved = offset(kept, k * pitch), if_given(out, offset(moving, k * pitch))
            lines = output_lines(row, out, p + k, nontemporal)
            m = _largest(teacher, n, kept) * inverse
            s, gaps, most, least = _gap_sums(row, teacher, n, m, inverse, keep)
            mean = cast(base, gaps / s * inverse)
            if most * inverse - mean < high and least * inverse - mean > low:
                excess, shift = _term_sums(row, teacher, n, mean, inverse, keep, moved, x_ahead, y_ahead, lines)
                put(sums, k, s)
                put(excesses, k, excess / s)
                put(shifts, k, shift / s)
                put(totals, k, (excess + shift) / s)
            else:
                _safe_row(row, teacher, n, m, inverse, keep, moved, result)
                put(sums, k, get(result, 0))
                put(excesses, k, get(result, 1))
                put(shifts, k, get(result, 2))
                put(totals, k, get(result, 3))
        total = load(totals, 0)
        value = divergence(load(excesses, 0), load(shifts, 0), total, log1p(total), NEAR)
        store_n(losses, p, count, value * square)
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_n(pointer(upstream, 0), p, count, 0.0)
            store(above, 0, g)
            store(factors, 0, factor(g, inverse, load(sums, 0), total))
            for k in range(count):
                target = position_pointer(out, p + k)
                if get(above, k) == 0:
                    zero_fill(target, n)
                else:
                    _write(
                        offset(kept, k * pitch), offset(moving, k * pitch), target, n, get(totals, k), get(factors, k), nontemporal
                    )  # fmt: skip
    free(sums)
