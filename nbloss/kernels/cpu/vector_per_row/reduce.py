"""The maximum and the sum of exponentials of one contiguous row, with vectors along the row.

============  ========================================================================================================
m             maximum of the row
s, rest       sum of exp(x - m); s - 1, without one of the terms that equal the maximum
keep          buffer for the scaled exponentials (``exp_buffer_size``), or None
ahead         distance in elements from a row to the elements that are prefetched
following     the row whose maximum is searched while this row is summed, so that it is loaded during the arithmetic
============  ========================================================================================================

Element j goes to partial sum j mod (2 * lanes). Blocks of SUM_BLOCK_CLASSES elements are summed in the compute type and added in float64,
and ``simd/vec.reduce_add`` adds the lanes at the end. If s < CONFIDENT, ``confident`` computes ``rest`` again, to full precision.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import cast, lanes, load, load_as, load_x4, splat, store
from nbloss.kernels.cpu.simd.pointers import max_int, min_int, prefetch_read, prefetch_write
from nbloss.kernels.cpu.simd.vec import (
    at_least,
    count_true,
    equal,
    extract_x4,
    fma,
    last_lanes,
    less,
    maximum,
    no_counts,
    promote,
    reduce_add,
    reduce_max,
    repeat_x4,
    select,
    where_nonzero,
)
from nbloss.kernels.cpu.simd.vecmath import exp_bounded, exp_scale, exp_scaled, least_exp_argument
from nbloss.kernels.cpu.tuning import ROW_GROUP_ELEMENTS, ROW_PREFETCH_ELEMENTS, SUM_BLOCK_CLASSES


@njit(**INLINE)
def rows_per_group(width, n):
    """How many rows go through each step together: at most one for each lane, because one vector has the logarithms of a group."""
    return max_int(1, min_int(width, ROW_GROUP_ELEMENTS // n))


@njit(**INLINE)
def prefetch_distance(n, row_stride, near):
    """The prefetch distance in elements from a row: ahead of row ``near`` after it, in which the maximum is searched."""
    return near * row_stride + (
        ROW_PREFETCH_ELEMENTS if row_stride == n or n > ROW_PREFETCH_ELEMENTS else ROW_PREFETCH_ELEMENTS // n * row_stride
    )


@njit(**INLINE)
def row_max(x, n):
    """The maximum of a row that is at least as long as a vector. It ignores nan, which propagates through the sum."""
    return _max_from(x, n, 0, repeat_x4(splat(x, -np.inf)))


@njit(**INLINE)
def _max_from(x, n, start, peak):
    """The maximum of ``peak``, a wide vector with the maxima of the elements before ``start``, and of the remaining elements."""
    width = lanes(x)
    j = start
    while j + 4 * width <= n:
        peak = maximum(load_x4(x, j), peak)
        j += 4 * width
    a, b = maximum(extract_x4(peak, 0), extract_x4(peak, 1)), maximum(extract_x4(peak, 2), extract_x4(peak, 3))
    while j + width <= n:
        a = maximum(load(x, j), a)
        j += width
    return reduce_max(maximum(maximum(load(x, n - width), b), a))  # overlaps earlier elements, which is faster than a mask


@njit(**INLINE)
def _prefetch_lines(x, ahead, out, element):
    """Prefetch one line ``ahead`` of x for reading, and one of ``out`` for writing."""
    prefetch_read(x, ahead + element)
    if out is not None:
        prefetch_write(out, element)


def target_vector(j, like, w, y, a, b):
    """q = w (a y + b) of the classes from j on, as many as ``like`` has lanes; b instead of a y + b without y, 1 instead of w without w."""


@overload(target_vector, jit_options=INLINE)
def _typed_target_vector(j, like, w, y, a, b):
    if isinstance(y, types.NoneType):
        if isinstance(w, types.NoneType):
            return lambda j, like, w, y, a, b: b
        return lambda j, like, w, y, a, b: load_as(w, j, like) * b
    if isinstance(w, types.NoneType):
        return lambda j, like, w, y, a, b: fma(load_as(y, j, like), a, b)
    return lambda j, like, w, y, a, b: load_as(w, j, like) * fma(load_as(y, j, like), a, b)


def _add_targets(q, t, count, total, gaps):
    """Add q to ``total`` and q t to ``gaps``; a class with q = 0 adds 0 even where t is -inf.

    t is a vector; of a wide vector, whose four are added first, ``count`` is None. Otherwise the last ``count`` lanes count. Where q is a
    number, label smoothing without class weights, it is 1, and only ``gaps`` is summed.
    """


@njit(**INLINE)
def _last(a, count):
    if count is None:
        return a
    return last_lanes(a, count)


@njit(**INLINE)
def _add_vectors(q, t, total, gaps):
    return total + q, fma(q, where_nonzero(q, t), gaps)


@njit(**INLINE)
def _add_wide_vectors(q, t, total, gaps):
    d = where_nonzero(q, t)
    first = fma(extract_x4(q, 1), extract_x4(d, 1), extract_x4(q, 0) * extract_x4(d, 0))
    second = fma(extract_x4(q, 3), extract_x4(d, 3), extract_x4(q, 2) * extract_x4(d, 2))
    total = total + ((extract_x4(q, 0) + extract_x4(q, 1)) + (extract_x4(q, 2) + extract_x4(q, 3)))
    return total, gaps + (first + second)


@njit(**INLINE)
def _add_wide_vector(t, gaps):
    return gaps + ((extract_x4(t, 0) + extract_x4(t, 1)) + (extract_x4(t, 2) + extract_x4(t, 3)))


@overload(_add_targets, jit_options=INLINE)
def _typed_add_targets(q, t, count, total, gaps):
    wide = t.lanes > gaps.lanes
    if isinstance(q, types.Number):
        if wide:
            return lambda q, t, count, total, gaps: (total, _add_wide_vector(t, gaps))
        return lambda q, t, count, total, gaps: (total, gaps + _last(t, count))
    if wide:
        return lambda q, t, count, total, gaps: _add_wide_vectors(q, t, total, gaps)
    return lambda q, t, count, total, gaps: _add_vectors(_last(q, count), t, total, gaps)


@njit(**INLINE)
def _exponential(t, entropy, y):
    """``(e, t)``: the scaled exponential of t, and t as a factor of it.

    For an entropy, t is finite or nan, because ``least_exp_argument`` replaces what is below. So e is not 0 there, but no sum of a row,
    which is at least 2**SCALE, changes by it, and no comparison is needed to make it 0.
    """
    if entropy is None or y is not None:
        return exp_scaled(t, None), t
    t = at_least(t, least_exp_argument(t))
    return exp_bounded(t), t


def _add_exp_times(e, t, y, j, gaps):
    """``gaps`` plus e t of a vector or of a wide vector; where y is given, plus e y of the classes from j on."""


@njit(**INLINE)
def _add_four(e, t, gaps):
    gaps = fma(extract_x4(e, 1), extract_x4(t, 1), fma(extract_x4(e, 0), extract_x4(t, 0), gaps))
    return fma(extract_x4(e, 3), extract_x4(t, 3), fma(extract_x4(e, 2), extract_x4(t, 2), gaps))


@overload(_add_exp_times, jit_options=INLINE)
def _typed_add_exp_times(e, t, y, j, gaps):
    wide = e.lanes > gaps.lanes
    if isinstance(y, types.NoneType):
        return (lambda e, t, y, j, gaps: _add_four(e, t, gaps)) if wide else (lambda e, t, y, j, gaps: fma(e, t, gaps))
    if wide:
        return lambda e, t, y, j, gaps: _add_four(e, load_as(y, j, e), gaps)
    return lambda e, t, y, j, gaps: fma(e, load_as(y, j, e), gaps)


def _count_above(v, own, count, total):
    """``total``, integers, plus 1 in each lane whose number is larger than ``own``; ``total`` itself where ``own`` is None.

    v is a vector or a wide vector; ``count`` as for ``_add_targets``.
    """


@njit(**INLINE)
def _count_one(v, own, total):
    return count_true(less(own, v), total)


@njit(**INLINE)
def _count_four(v, own, total):
    total = _count_one(extract_x4(v, 1), own, _count_one(extract_x4(v, 0), own, total))
    return _count_one(extract_x4(v, 3), own, _count_one(extract_x4(v, 2), own, total))


@overload(_count_above, jit_options=INLINE)
def _typed_count_above(v, own, count, total):
    if isinstance(own, types.NoneType):
        return lambda v, own, count, total: total
    if v.lanes > total.lanes:
        return lambda v, own, count, total: _count_four(v, own, total)
    if isinstance(count, types.NoneType):
        return lambda v, own, count, total: _count_one(v, own, total)
    return lambda v, own, count, total: total + last_lanes(_count_one(v, own, no_counts(v)), count)


@njit(**INLINE)
def _largest_of_four(v):
    """The maxima of four vectors, lane by lane. Of rows with nan, it may be any of their numbers."""
    return maximum(maximum(extract_x4(v, 0), extract_x4(v, 1)), maximum(extract_x4(v, 2), extract_x4(v, 3)))


@njit(**INLINE)
def _block(x, start, stop, m, keep, ahead, out, following, peak, above, entropy, own, soft, w, y, a, b):
    """``(sum of the scaled exponentials of a block, sum q, sum q (x - m), peak, above)``; with ``entropy``, q is the exponential.

    Stores the exponentials in ``keep``, and updates ``peak`` with the elements of ``following``. With ``own``, a logit, it adds the number
    of larger ones to ``above``. The last vector of a row overlaps the one before it. Its lanes that are not new add 0.
    """
    width = lanes(x)
    even = splat(x, 0.0)
    odd, total, gaps = even, even, even
    j = start
    while j + 4 * width <= stop:
        for k in range(4):
            _prefetch_lines(x, ahead, out, j + k * width)
        v = load_x4(x, j)
        t = v - m
        e, factor = _exponential(t, entropy, y)
        above = _count_above(v, own, None, above)
        if keep is not None:
            store(keep, j, e)
        if soft is not None:
            total, gaps = _add_targets(target_vector(j, t, w, y, a, b), t, None, total, gaps)
        if entropy is not None:
            gaps = _add_exp_times(e, factor, y, j, gaps)
        peak = maximum(_largest_of_four(load_x4(following, j)), peak)
        even = (even + extract_x4(e, 0)) + extract_x4(e, 2)
        odd = (odd + extract_x4(e, 1)) + extract_x4(e, 3)
        j += 4 * width
    for element in range(j, stop, width):
        _prefetch_lines(x, ahead, out, element)
    while j + width <= stop:
        v = load(x, j)
        t = v - m
        e, factor = _exponential(t, entropy, y)
        above = _count_above(v, own, None, above)
        if keep is not None:
            store(keep, j, e)
        if soft is not None:
            total, gaps = _add_targets(target_vector(j, t, w, y, a, b), t, None, total, gaps)
        if entropy is not None:
            gaps = _add_exp_times(e, factor, y, j, gaps)
        even, odd = odd, even + e
        j += width
    if j < stop:
        v = load(x, stop - width)
        t = v - m
        e, factor = _exponential(t, entropy, y)
        above = _count_above(v, own, stop - j, above)
        if keep is not None:
            store(keep, stop - width, e)
        if soft is not None:
            total, gaps = _add_targets(target_vector(stop - width, t, w, y, a, b), t, stop - j, total, gaps)
        if entropy is not None:
            gaps = _add_exp_times(last_lanes(e, stop - j), factor, y, stop - width, gaps)
        even = even + last_lanes(e, stop - j)
    return promote(even + odd), promote(total), promote(gaps), peak, above


@njit(**INLINE)
def row_weighted_sums(x, n, m, keep, ahead, out, following, entropy, own, soft, w, y, a, b):
    """``(sums of the scaled exponentials, sum q, sum q (x - m), maximum of row following, first)``; the sums are float64 vectors.

    With ``entropy`` and without ``own``, the first maximum of row ``following`` is at element ``first`` or later; otherwise ``first`` is 0.
    The weights q are the scaled exponentials with ``entropy`` (not None), and those of ``target_vector`` with ``soft``: 1 without w and
    y, whose sum is not taken. Without both, the second and the third sum are 0. With ``entropy`` and y, the third sum is sum q y. With
    ``own``, a logit, the second sum is the number of larger ones.
    """
    zero = promote(splat(x, 0.0))
    sums, total, gaps = zero, zero, zero
    peak, block = splat(x, -np.inf), splat(x, 0.0)
    above = no_counts(peak)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        before = peak
        block_sums, block_total, block_gaps, peak, above = _block(
            x, start, stop, m, keep, ahead, out, following, peak, above, entropy, own, soft, w, y, a, b
        )  # fmt: skip
        sums = sums + block_sums
        total, gaps = total + block_total, gaps + block_gaps
        if entropy is not None and own is None:
            block = select(less(before, peak), splat(x, start // SUM_BLOCK_CLASSES), block)
    if own is not None:
        total = promote(above)
    whole = n // (4 * lanes(x)) * (4 * lanes(x))
    top = cast(x, _max_from(following, n, whole, repeat_x4(peak)))
    if entropy is None or own is not None or n <= SUM_BLOCK_CLASSES:
        return sums, total, gaps, top, 0
    first = np.int64(-reduce_max(-select(equal(peak, top), block, splat(x, whole // SUM_BLOCK_CLASSES))))
    return sums, total, gaps, top, first * SUM_BLOCK_CLASSES


@njit(**INLINE)
def row_soft_sums(x, n, m, keep, ahead, out, following, soft, w, y, a, b):
    """``(sums of the scaled exponentials, sum q, sum q (x - m), maximum of row following)``, where q is that of ``target_vector``."""
    sums, total, gaps, top, _ = row_weighted_sums(x, n, m, keep, ahead, out, following, None, None, soft, w, y, a, b)
    return sums, total, gaps, top


@njit(**INLINE)
def row_entropy_sums(x, n, m, ahead, following, own):
    """``(sums of the scaled exponentials e, sums of e (x - m), numbers of larger logits than ``own``, maximum of row following, element to
    search it from)``. The numbers are 0 without ``own`` (None).
    """
    sums, above, gaps, top, first = row_weighted_sums(x, n, m, None, ahead, None, following, True, own, None, None, None, 0.0, 0.0)
    return sums, gaps, above, top, first


@njit(**INLINE)
def row_product_sums(x, y, n, m, keep, ahead, out, following):
    """``(sums of the scaled exponentials e, sums of e y, maximum of row following)``; sums of e alone where y is None."""
    if y is None:
        sums, _, gaps, top, _ = row_weighted_sums(x, n, m, keep, ahead, out, following, None, None, None, None, None, 0.0, 0.0)
    else:
        sums, _, gaps, top, _ = row_weighted_sums(x, n, m, keep, ahead, out, following, True, None, None, None, y, 0.0, 0.0)
    return sums, gaps, top


@njit(**INLINE)
def row_exp_sums(x, n, m, keep, ahead, out, following):
    """``(partial sums of the scaled exponentials, a float64 vector; maximum of row ``following``)``."""
    sums, _, _, top = row_soft_sums(x, n, m, keep, ahead, out, following, None, None, None, 0.0, 0.0)
    return sums, top


@njit(**INLINE)
def target_mass(like, soft, w, n):
    """The sum of the class weights w, in the compute type of ``like``; without ``soft``, 0."""
    if soft is None:
        return cast(like, 0.0)
    if w is None:
        return cast(like, n)
    width = lanes(like)
    sums = promote(splat(like, 0.0))
    whole = n // width * width
    for j in range(0, whole, width):
        sums = sums + promote(load(w, j))
    if whole < n:
        sums = sums + promote(last_lanes(load(w, n - width), n - whole))
    return cast(like, reduce_add(sums))


@njit(**INLINE)
def row_total(terms, m):
    """s in float64, from the partial sums of ``row_exp_sums``. The caller replaces that of a confident row (``confident``)."""
    return reduce_add(terms) / np.float64(exp_scale(m))


@njit(**INLINE)
def exp_buffer_size(x, n):
    """The size of a buffer for the exponentials of a row: a multiple of four vectors."""
    most = 4 * lanes(x)
    return (n + most - 1) // most * most
