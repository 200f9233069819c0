"""The maximum and the sums of a tile, one position per lane.

==============  ======================================================================================================
m               maximum of the logits
s, rest         sum of exp(x - m); s - 1, without one of the terms that equal the maximum
ties            number of terms that equal the maximum, minus 1
keep            buffer for the scaled exponentials of a tile, or None
sums            buffer for the partial sums of a block of SUM_BLOCK_CLASSES classes, in the compute type
float64_sums    buffer for the float64 sums of the partial sums of all blocks
confident       lanes whose s is below CONFIDENT: their ``rest`` is computed again, to full precision
==============  ======================================================================================================

Up to LANES_MAX_CLASSES classes, no other module sums a row, and every sum has full precision: with few classes, nearly every tile has a
confident lane. With more classes, the order of additions is that of ``vector_per_row/reduce``, so that both give the same bits: class c
goes to partial sum c mod (2 * lanes), and the same tree adds the partial sums.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_float64, load_n_x4, load_x4, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset
from nbloss.kernels.cpu.simd.vec import any_true, demote, equal, extract_x4, fma, less, maximum, promote, repeat_x4, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, rounding_error
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, SUM_BLOCK_CLASSES
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def partial_sums_size(width):
    """The size of the buffer ``sums``, in vectors: two partial sums per lane, and eight vectors for ``_rest_block``."""
    return 2 * width + 8


@njit(**INLINE)
def tile_max(tile, n):
    """The maximum of each lane. It ignores nan, which propagates through the sum."""
    width = lanes(tile)
    m = splat(tile, -np.inf)
    for c in range(n):
        m = maximum(load(tile, c * width), m)
    return m


@njit(**INLINE)
def add_class(sums, c, value):
    """Add the vector of class c to its partial sum; the first classes of a block initialise the partial sums."""
    width = lanes(sums)
    c &= SUM_BLOCK_CLASSES - 1
    slot = (c & (2 * width - 1)) * width
    if c >= 2 * width:
        value = load(sums, slot) + value
    store(sums, slot, value)


@njit(**INLINE)
def flush_block(sums, start, stop, float64_sums):
    """Add the partial sums of a block of classes to the float64 sums; the first block initialises them."""
    width = lanes(sums)
    count = stop - start
    for k in range(min_int(count, width)):
        v = load(sums, k * width)
        if k + width < count:
            v = v + load(sums, (k + width) * width)
        v = promote(v)
        if start > 0:
            v = load_float64(float64_sums, k * width, load(sums, 0)) + v
        store(float64_sums, k * width, v)


@njit(**INLINE)
def fold_partial_sums(sums, n, float64_sums):
    """The sum of the float64 sums, by the tree with which ``simd/vec.reduce_add`` adds the lanes of a vector."""
    width = lanes(sums)
    like = load(sums, 0)
    remaining = min_int(n, width)
    half = width // 2
    while half > 0:
        for k in range(min_int(half, remaining - half)):
            store(
                float64_sums, k * width, load_float64(float64_sums, k * width, like) + load_float64(float64_sums, (k + half) * width, like)
            )
        remaining = min_int(remaining, half)
        half //= 2
    return load_float64(float64_sums, 0, like)


@njit(**INLINE)
def _count_ties(t, e, ties):
    """``(ties, e)``: counts the terms that equal the maximum (t = 0) in ``ties``, and replaces their exponentials by 0."""
    is_maximum = equal(t, 0.0)
    return select(is_maximum, ties + 1.0, ties), select(is_maximum, 0.0, e)


@njit(**INLINE)
def _short_sums(tile, n, m, keep):
    """``(s, rest)`` of each lane, of at most LANES_MAX_CLASSES classes; stores the exponentials in ``keep``."""
    width = lanes(tile)
    inverse_scale = 1.0 / np.float64(exp_scale(get(tile, 0)))
    zero = splat(tile, 0.0)
    ties = zero - 1.0
    total = promote(zero)
    maxima = repeat_x4(m)
    c = 0
    while c + 4 <= n:
        v = load_x4(tile, c * width)
        t = v - maxima
        e = exp_scaled(t, rounding_error(v, maxima, t))
        if keep is not None:
            store(keep, c * width, e)
        ties, first = _count_ties(extract_x4(t, 0), extract_x4(e, 0), ties)
        ties, second = _count_ties(extract_x4(t, 1), extract_x4(e, 1), ties)
        ties, third = _count_ties(extract_x4(t, 2), extract_x4(e, 2), ties)
        ties, fourth = _count_ties(extract_x4(t, 3), extract_x4(e, 3), ties)
        total = total + promote((first + second) + (third + fourth))
        c += 4
    if c < n:
        added = zero
        while c < n:
            v = load(tile, c * width)
            t = v - m
            e = exp_scaled(t, rounding_error(v, m, t))
            if keep is not None:
                store(keep, c * width, e)
            ties, e = _count_ties(t, e, ties)
            added = added + e
            c += 1
        total = total + promote(added)
    rest = total * inverse_scale + promote(ties)
    return demote(rest + 1.0, m), demote(rest, m)


@njit(**INLINE)
def _four_partial_sums(tile, first, stop, m, keep, copy):
    """Four partial sums: of the classes ``first`` to ``first`` + 3 and of every 2 * lanes classes after each.

    Stores the exponentials in ``keep`` and the logits in ``copy``, unless these are None.
    """
    width = lanes(tile)
    maxima = repeat_x4(m)
    result = repeat_x4(splat(tile, 0.0))
    c = first
    while c + 4 <= stop:
        v = load_x4(tile, c * width)
        if copy is not None:
            store(copy, c * width, v)
        e = exp_scaled(v - maxima, None)
        if keep is not None:
            store(keep, c * width, e)
        result = result + e
        c += 2 * width
    if c < stop:
        count = (stop - c) * width
        v = load_n_x4(tile, c * width, count, -np.inf)
        if copy is not None:
            store_n(copy, c * width, count, v)
        e = exp_scaled(v - maxima, None)
        if keep is not None:
            store_n(keep, c * width, count, e)
        result = result + e
    return result


@njit(**INLINE)
def _rest_block(tile, start, stop, m, keep, confident, ties, sums):
    """Add the exponentials of a block of classes, to full precision, to the partial sums; updates the confident lanes of ``keep``."""
    width = lanes(tile)
    maxima = repeat_x4(m)
    terms, gaps = offset(sums, 2 * width * width), offset(sums, (2 * width + 4) * width)
    for c in range(start, stop, 4):
        v = load_n_x4(tile, c * width, (stop - c) * width, -np.inf)
        t = v - maxima
        store(terms, 0, exp_scaled(t, rounding_error(v, maxima, t)))
        store(gaps, 0, t)
        for k in range(min_int(4, stop - c)):
            e = load(terms, k * width)
            if keep is not None:
                store(keep, (c + k) * width, select(confident, e, load(keep, (c + k) * width)))
            ties, e = _count_ties(load(gaps, k * width), e, ties)
            add_class(sums, c + k, e)
    return ties


@njit(**INLINE)
def _long_sums(tile, n, m, keep, copy, sums, float64_sums):
    """``(s, rest)`` of each lane, with the bits of ``vector_per_row/reduce.row_sum``."""
    width = lanes(tile)
    inverse_scale = 1.0 / np.float64(exp_scale(get(tile, 0)))
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for k in range(0, min_int(width, stop - start), 4):
            store(sums, k * width, _four_partial_sums(tile, start + k, stop, m, keep, copy))
            store(sums, (k + width) * width, _four_partial_sums(tile, start + k + width, stop, m, keep, copy))
        flush_block(sums, start, stop, float64_sums)
    total = fold_partial_sums(sums, n, float64_sums) * inverse_scale
    rest = total - 1.0
    confident = less(total, CONFIDENT)
    if any_true(confident):
        ties = splat(tile, -1.0)
        for start in range(0, n, SUM_BLOCK_CLASSES):
            stop = min_int(n, start + SUM_BLOCK_CLASSES)
            ties = _rest_block(tile if copy is None else copy, start, stop, m, keep, confident, ties, sums)
            flush_block(sums, start, stop, float64_sums)
        exact = fold_partial_sums(sums, n, float64_sums) * inverse_scale + promote(ties)
        rest = select(confident, exact, rest)
        total = select(confident, exact + 1.0, total)
    return demote(total, m), demote(rest, m)


@njit(**INLINE)
def tile_sums(tile, n, m, keep, copy, sums, float64_sums):
    """``(s, rest)`` of each lane; stores the scaled exponentials in ``keep``, unless it is None.

    ``keep`` may be ``tile`` itself. Then ``copy`` receives a copy of the logits, for the second sum of the confident lanes. Otherwise
    it is None. It is not used up to LANES_MAX_CLASSES classes.
    """
    if n <= LANES_MAX_CLASSES:
        return _short_sums(tile, n, m, keep)
    return _long_sums(tile, n, m, keep, copy, sums, float64_sums)


@njit(**INLINE)
def class_sum(tile, n, sums, float64_sums):
    """The float64 sum over the classes of a tile."""
    width = lanes(tile)
    if n <= LANES_MAX_CLASSES:
        result = promote(splat(tile, 0.0))
        for c in range(n):
            result = result + promote(load(tile, c * width))
        return result
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, stop):
            add_class(sums, c, load(tile, c * width))
        flush_block(sums, start, stop, float64_sums)
    return fold_partial_sums(sums, n, float64_sums)


@njit(**INLINE)
def weighted_gap(above, v, w, c):
    """w[c] (above - x[c]); 0 where the weight is 0, even if x[c] is -inf. No weights (None) are ones."""
    if w is None:
        return above - v
    weight = get(w, c)
    return select(weight != 0, (above - v) * weight, splat(w, 0.0))


@njit(**INLINE)
def weighted_gaps(tile, w, m, n, sums, float64_sums):
    """The sum of w (m - x) of each lane."""
    width = lanes(tile)
    gaps = promote(splat(tile, 0.0))
    if n <= LANES_MAX_CLASSES:
        for c in range(n):
            gaps = gaps + promote(weighted_gap(m, load(tile, c * width), w, c))
        return demote(gaps, m)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, stop):
            add_class(sums, c, weighted_gap(m, load(tile, c * width), w, c))
        flush_block(sums, start, stop, float64_sums)
    return demote(fold_partial_sums(sums, n, float64_sums), m)


@njit(**INLINE)
def _soft_target(v, w, a, b, c):
    """The target distribution q = w (a y + b) of class c with the probabilities v."""
    q = fma(v, a, b)
    if w is None:
        return q
    return q * get(w, c)


@njit(**INLINE)
def _times_gap(q, t):
    """q t; 0 where q is 0, even if t is -inf."""
    return select(equal(q, 0.0), 0.0, q * t)


@njit(**INLINE)
def soft_sums(tile, w, y, a, b, m, n, keep, sums, float64_sums):
    """``(s, rest, sum q, sum q (m - x))`` of each lane. Stores q in place of the probabilities y, and in ``keep`` the exponentials.

    ``keep`` is a buffer, or None.
    """
    if n <= LANES_MAX_CLASSES:
        return _short_soft_sums(tile, w, y, a, b, m, n, keep)
    return _long_soft_sums(tile, w, y, a, b, m, n, keep, sums, float64_sums)


@njit(**INLINE)
def _short_soft_sums(tile, w, y, a, b, m, n, keep):
    """``soft_sums`` of at most LANES_MAX_CLASSES classes, in one pass."""
    width = lanes(tile)
    inverse_scale = 1.0 / np.float64(exp_scale(get(tile, 0)))
    zero = splat(tile, 0.0)
    ties = zero - 1.0
    total = total_q = gaps = promote(zero)
    maxima = repeat_x4(m)
    c = 0
    while c + 4 <= n:
        v = load_x4(tile, c * width)
        t = v - maxima
        e = exp_scaled(t, rounding_error(v, maxima, t))
        if keep is not None:
            store(keep, c * width, e)
        ties, first = _count_ties(extract_x4(t, 0), extract_x4(e, 0), ties)
        ties, second = _count_ties(extract_x4(t, 1), extract_x4(e, 1), ties)
        ties, third = _count_ties(extract_x4(t, 2), extract_x4(e, 2), ties)
        ties, fourth = _count_ties(extract_x4(t, 3), extract_x4(e, 3), ties)
        total = total + promote((first + second) + (third + fourth))
        q1, q2 = _soft_target(load(y, c * width), w, a, b, c), _soft_target(load(y, (c + 1) * width), w, a, b, c + 1)
        q3, q4 = _soft_target(load(y, (c + 2) * width), w, a, b, c + 2), _soft_target(load(y, (c + 3) * width), w, a, b, c + 3)
        if keep is not None:
            store(y, c * width, q1)
            store(y, (c + 1) * width, q2)
            store(y, (c + 2) * width, q3)
            store(y, (c + 3) * width, q4)
        first, second = _times_gap(q1, extract_x4(t, 0)), _times_gap(q2, extract_x4(t, 1))
        third, fourth = _times_gap(q3, extract_x4(t, 2)), _times_gap(q4, extract_x4(t, 3))
        total_q = total_q + promote((q1 + q2) + (q3 + q4))
        gaps = gaps + promote((first + second) + (third + fourth))
        c += 4
    if c < n:
        added = added_q = added_gaps = zero
        while c < n:
            v = load(tile, c * width)
            t = v - m
            e = exp_scaled(t, rounding_error(v, m, t))
            q = _soft_target(load(y, c * width), w, a, b, c)
            if keep is not None:
                store(keep, c * width, e)
                store(y, c * width, q)
            ties, e = _count_ties(t, e, ties)
            added, added_q, added_gaps = added + e, added_q + q, added_gaps + _times_gap(q, t)
            c += 1
        total, total_q, gaps = total + promote(added), total_q + promote(added_q), gaps + promote(added_gaps)
    rest = total * inverse_scale + promote(ties)
    return demote(rest + 1.0, m), demote(rest, m), demote(total_q, m), demote(-gaps, m)


@njit(**INLINE)
def _long_soft_sums(tile, w, y, a, b, m, n, keep, sums, float64_sums):
    """``soft_sums`` in the order of ``vector_per_row``."""
    width = lanes(tile)
    s, rest = _long_sums(tile, n, m, keep, None, sums, float64_sums)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, stop):
            q = _soft_target(load(y, c * width), w, a, b, c)
            store(y, c * width, q)
            add_class(sums, c, q)
        flush_block(sums, start, stop, float64_sums)
    total_q = fold_partial_sums(sums, n, float64_sums)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, stop):
            add_class(sums, c, _times_gap(load(y, c * width), m - load(tile, c * width)))
        flush_block(sums, start, stop, float64_sums)
    return s, rest, demote(total_q, m), demote(fold_partial_sums(sums, n, float64_sums), m)
