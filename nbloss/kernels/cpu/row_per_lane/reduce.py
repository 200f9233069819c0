"""The maximum and the sums of a tile, one position per lane.

==============  ======================================================================================================
m               maximum of the logits
s, rest         sum of exp(x - m); s - 1, without one of the terms that equal the maximum
ties            number of terms that equal the maximum, minus 1
keep            buffer for the scaled exponentials of a tile, or None
==============  ======================================================================================================

There are at most LANES_MAX_CLASSES classes, and every sum has full precision: with few classes, nearly every tile has a confident lane.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_x4, splat, store
from nbloss.kernels.cpu.simd.vec import at_least, demote, equal, extract_x4, fma, maximum, promote, repeat_x4, select
from nbloss.kernels.cpu.simd.vecmath import ZERO_EXP_ARGUMENT, exp_scale, exp_scaled, rounding_error


@njit(**INLINE)
def tile_max(tile, n):
    """The maximum of each lane. It ignores nan, which propagates through the sum."""
    width = lanes(tile)
    m = splat(tile, -np.inf)
    for c in range(n):
        m = maximum(load(tile, c * width), m)
    return m


@njit(**INLINE)
def _count_ties(t, e, ties):
    """``(ties, e)``: counts the terms that equal the maximum (t = 0) in ``ties``, and replaces their exponentials by 0."""
    is_maximum = equal(t, 0.0)
    return select(is_maximum, ties + 1.0, ties), select(is_maximum, 0.0, e)


@njit(**INLINE)
def class_sum(tile, n):
    """The float64 sum over the classes of a tile."""
    width, result = lanes(tile), promote(splat(tile, 0.0))
    for c in range(n):
        result = result + promote(load(tile, c * width))
    return result


@njit(**INLINE)
def two_numbers(total, like):
    """``(high, low)`` of a float64 sum, in the type of ``like``; an infinite sum has no rounding error."""
    high = demote(total, like)
    low = demote(total - promote(high), like)
    return high, select(equal(low - low, 0.0), low, 0.0)


@njit(**INLINE)
def class_dot(above, tile, n):
    """The float64 sum of g y of each lane."""
    width, total = lanes(tile), promote(splat(tile, 0.0))
    for c in range(n):
        total = fma(promote(load(above, c * width)), promote(load(tile, c * width)), total)
    return total


@njit(**INLINE)
def weighted_gap(above, v, w, c):
    """w[c] (above - x[c]); 0 where the weight is 0, even if x[c] is -inf. No weights (None) are ones."""
    if w is None:
        return above - v
    weight = get(w, c)
    return select(weight != 0, (above - v) * weight, splat(w, 0.0))


@njit(**INLINE)
def weighted_gaps(tile, w, m, n):
    """The sum of w (m - x) of each lane."""
    width, gaps = lanes(tile), promote(splat(tile, 0.0))
    for c in range(n):
        gaps = gaps + promote(weighted_gap(m, load(tile, c * width), w, c))
    return demote(gaps, m)


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
def _one_class(tile, c, m, keep, ties):
    """``(ties, exponential that is added, x - m)`` of class c."""
    width = lanes(tile)
    v = load(tile, c * width)
    t = v - m
    e = exp_scaled(t, rounding_error(v, m, t))
    if keep is not None:
        store(keep, c * width, e)
    ties, e = _count_ties(t, e, ties)
    return ties, e, t


@njit(**INLINE)
def _four_terms(tile, c, maxima, keep, ties):
    """``(ties, the four exponentials that are added, x - m)`` of the classes c to c + 3."""
    v = load_x4(tile, c * lanes(tile))
    t = v - maxima
    e = exp_scaled(t, rounding_error(v, maxima, t))
    if keep is not None:
        store(keep, c * lanes(tile), e)
    ties, first = _count_ties(extract_x4(t, 0), extract_x4(e, 0), ties)
    ties, second = _count_ties(extract_x4(t, 1), extract_x4(e, 1), ties)
    ties, third = _count_ties(extract_x4(t, 2), extract_x4(e, 2), ties)
    ties, fourth = _count_ties(extract_x4(t, 3), extract_x4(e, 3), ties)
    return ties, first, second, third, fourth, t


@njit(**INLINE)
def _four_classes(tile, c, maxima, keep, ties):
    """``(ties, sum of the exponentials that are added, x - m)`` of the classes c to c + 3."""
    ties, first, second, third, fourth, t = _four_terms(tile, c, maxima, keep, ties)
    return ties, (first + second) + (third + fourth), t


@njit(**INLINE)
def tile_sums(tile, n, m, keep):
    """``(s, rest)`` of each lane; stores the scaled exponentials in ``keep``, unless it is None. ``keep`` may be ``tile`` itself."""
    inverse_scale = 1.0 / np.float64(exp_scale(get(tile, 0)))
    zero, maxima = splat(tile, 0.0), repeat_x4(m)
    ties, total, c = zero - 1.0, promote(zero), 0
    while c + 4 <= n:
        ties, added, _ = _four_classes(tile, c, maxima, keep, ties)
        total = total + promote(added)
        c += 4
    if c < n:
        added = zero
        while c < n:
            ties, e, _ = _one_class(tile, c, m, keep, ties)
            added = added + e
            c += 1
        total = total + promote(added)
    rest = total * inverse_scale + promote(ties)
    return demote(rest + 1.0, m), demote(rest, m)


@njit(**INLINE)
def entropy_sums(tile, m, n):
    """``(s, rest, sum e (m - x))`` of each lane, where e = exp(x - m)."""
    inverse_scale = 1.0 / np.float64(exp_scale(get(tile, 0)))
    zero, maxima = splat(tile, 0.0), repeat_x4(m)
    ties = zero - 1.0
    total, gaps, c = promote(zero), zero, 0
    while c + 4 <= n:
        ties, first, second, third, fourth, t = _four_terms(tile, c, maxima, None, ties)
        total = total + promote((first + second) + (third + fourth))
        t = at_least(t, ZERO_EXP_ARGUMENT)
        lower = fma(second, extract_x4(t, 1), first * extract_x4(t, 0))
        gaps = gaps - fma(fourth, extract_x4(t, 3), fma(third, extract_x4(t, 2), lower))
        c += 4
    if c < n:
        added = zero
        while c < n:
            ties, e, t = _one_class(tile, c, m, None, ties)
            added, gaps = added + e, fma(-e, at_least(t, ZERO_EXP_ARGUMENT), gaps)
            c += 1
        total = total + promote(added)
    rest = total * inverse_scale + promote(ties)
    return demote(rest + 1.0, m), demote(rest, m), gaps / exp_scale(get(tile, 0))


@njit(**INLINE)
def soft_sums(tile, w, y, a, b, m, n, keep):
    """``(s, rest, sum q, sum q (m - x))`` of each lane, in one pass. Stores q in place of the probabilities y, and in ``keep`` the
    exponentials; ``keep`` is a buffer, or None.
    """
    width = lanes(tile)
    inverse_scale = 1.0 / np.float64(exp_scale(get(tile, 0)))
    zero, maxima = splat(tile, 0.0), repeat_x4(m)
    ties = zero - 1.0
    total = total_q = gaps = promote(zero)
    c = 0
    while c + 4 <= n:
        ties, added, t = _four_classes(tile, c, maxima, keep, ties)
        total = total + promote(added)
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
            ties, e, t = _one_class(tile, c, m, keep, ties)
            q = _soft_target(load(y, c * width), w, a, b, c)
            if keep is not None:
                store(y, c * width, q)
            added, added_q, added_gaps = added + e, added_q + q, added_gaps + _times_gap(q, t)
            c += 1
        total, total_q, gaps = total + promote(added), total_q + promote(added_q), gaps + promote(added_gaps)
    rest = total * inverse_scale + promote(ties)
    return demote(rest + 1.0, m), demote(rest, m), demote(total_q, m), demote(-gaps, m)
