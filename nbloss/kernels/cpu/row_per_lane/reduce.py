"""The maximum and the sums of a tile, one row or pixel per lane.

Up to SHORT classes a row is only ever walked here, and summed with every digit: with few classes, some lane is nearly always confident.
Above, the sums take the order of ``rows.py``: class c goes to partial sum c mod 2 * lanes, which are folded in the same tree.
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
    """How many vectors ``sums`` are: two partial sums per lane, and eight that a step puts down."""
    return 2 * width + 8


@njit(**INLINE)
def tile_max(tile, n):
    """max x[c] per lane; nan is passed over here and comes back through the sum."""
    width = lanes(tile)
    m = splat(tile, -np.inf)
    for c in range(n):
        m = maximum(load(tile, c * width), m)
    return m


@njit(**INLINE)
def add_class(sums, c, value):
    """Add class c's vector to its partial sum; the first ones of a block begin them."""
    width = lanes(sums)
    c &= SUM_BLOCK_CLASSES - 1
    slot = (c & (2 * width - 1)) * width
    if c >= 2 * width:
        value = load(sums, slot) + value
    store(sums, slot, value)


@njit(**INLINE)
def flush_block(sums, start, stop, float64_sums):
    """Add the partial sums of a block of classes to their float64 sums; the first block begins them."""
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
    """The float64 sums of n classes, folded as ``rows.py`` folds the lanes of its vectors."""
    width = lanes(sums)
    like = load(sums, 0)
    used = min_int(n, width)
    half = width // 2
    while half > 0:
        for k in range(min_int(half, used - half)):
            store(
                float64_sums, k * width, load_float64(float64_sums, k * width, like) + load_float64(float64_sums, (k + half) * width, like)
            )
        used = min_int(used, half)
        half //= 2
    return load_float64(float64_sums, 0, like)


@njit(**INLINE)
def _apart(t, e, ties):
    """The maximum's own terms are counted, not added."""
    top = equal(t, 0.0)
    return select(top, ties + 1.0, ties), select(top, 0.0, e)


@njit(**INLINE)
def _short_sums(tile, n, m, keep):
    """``(s, rest)`` per lane of at most SHORT classes; ``keep`` takes the scaled exponentials."""
    width = lanes(tile)
    inverse = 1.0 / np.float64(exp_scale(get(tile, 0)))
    zero = splat(tile, 0.0)
    ties = zero - 1.0
    total = promote(zero)
    tops = repeat_x4(m)
    c = 0
    while c + 4 <= n:
        v = load_x4(tile, c * width)
        t = v - tops
        e = exp_scaled(t, rounding_error(v, tops, t))
        if keep is not None:
            store(keep, c * width, e)
        ties, first = _apart(extract_x4(t, 0), extract_x4(e, 0), ties)
        ties, second = _apart(extract_x4(t, 1), extract_x4(e, 1), ties)
        ties, third = _apart(extract_x4(t, 2), extract_x4(e, 2), ties)
        ties, fourth = _apart(extract_x4(t, 3), extract_x4(e, 3), ties)
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
            ties, e = _apart(t, e, ties)
            added = added + e
            c += 1
        total = total + promote(added)
    rest = total * inverse + promote(ties)
    return demote(rest + 1.0, m), demote(rest, m)


@njit(**INLINE)
def _slots(tile, first, stop, m, keep, spare):
    """Four partial sums: of the classes from ``first`` on, and of every 2 * lanes classes after each."""
    width = lanes(tile)
    tops = repeat_x4(m)
    result = repeat_x4(splat(tile, 0.0))
    c = first
    while c + 4 <= stop:
        v = load_x4(tile, c * width)
        if spare is not None:
            store(spare, c * width, v)
        e = exp_scaled(v - tops, None)
        if keep is not None:
            store(keep, c * width, e)
        result = result + e
        c += 2 * width
    if c < stop:
        count = (stop - c) * width
        v = load_n_x4(tile, c * width, count, -np.inf)
        if spare is not None:
            store_n(spare, c * width, count, v)
        e = exp_scaled(v - tops, None)
        if keep is not None:
            store_n(keep, c * width, count, e)
        result = result + e
    return result


@njit(**INLINE)
def _rest_block(tile, start, stop, m, keep, confident, ties, sums):
    """Add the classes of a block with every digit to their partial sums; ``keep`` takes the terms of the confident lanes."""
    width = lanes(tile)
    tops = repeat_x4(m)
    terms, gaps = offset(sums, 2 * width * width), offset(sums, (2 * width + 4) * width)
    for c in range(start, stop, 4):
        v = load_n_x4(tile, c * width, (stop - c) * width, -np.inf)
        t = v - tops
        store(terms, 0, exp_scaled(t, rounding_error(v, tops, t)))
        store(gaps, 0, t)
        for k in range(min_int(4, stop - c)):
            e = load(terms, k * width)
            if keep is not None:
                store(keep, (c + k) * width, select(confident, e, load(keep, (c + k) * width)))
            ties, e = _apart(load(gaps, k * width), e, ties)
            add_class(sums, c + k, e)
    return ties


@njit(**INLINE)
def _long_sums(tile, n, m, keep, spare, sums, float64_sums):
    """``(s, rest)`` per lane, as ``row_sums.row_sum``."""
    width = lanes(tile)
    inverse = 1.0 / np.float64(exp_scale(get(tile, 0)))
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for k in range(0, min_int(width, stop - start), 4):
            store(sums, k * width, _slots(tile, start + k, stop, m, keep, spare))
            store(sums, (k + width) * width, _slots(tile, start + k + width, stop, m, keep, spare))
        flush_block(sums, start, stop, float64_sums)
    total = fold_partial_sums(sums, n, float64_sums) * inverse
    rest = total - 1.0
    confident = less(total, CONFIDENT)
    if any_true(confident):
        ties = splat(tile, -1.0)
        for start in range(0, n, SUM_BLOCK_CLASSES):
            stop = min_int(n, start + SUM_BLOCK_CLASSES)
            ties = _rest_block(tile if spare is None else spare, start, stop, m, keep, confident, ties, sums)
            flush_block(sums, start, stop, float64_sums)
        exact = fold_partial_sums(sums, n, float64_sums) * inverse + promote(ties)
        rest = select(confident, exact, rest)
        total = select(confident, exact + 1.0, total)
    return demote(total, m), demote(rest, m)


@njit(**INLINE)
def tile_sums(tile, n, m, keep, spare, sums, float64_sums):
    """``(s, rest)`` per lane; ``keep`` takes the scaled exponentials.

    It may be ``tile``: then ``spare`` takes a tile of more than SHORT classes, whose confident lanes are summed again.
    """
    if n <= LANES_MAX_CLASSES:
        return _short_sums(tile, n, m, keep)
    return _long_sums(tile, n, m, keep, spare, sums, float64_sums)


@njit(**INLINE)
def class_sum(tile, n, sums, float64_sums):
    """Sum over the classes of a tile, in float64."""
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
def soft_target(w, y, a, b, c, width):
    """q = w (a y + b) of class c in every lane; without y, w b."""
    if y is None:
        return b * get(w, c)
    return fma(load(y, c * width), a, b) * get(w, c)


@njit(**INLINE)
def soft_target_sums(tile, w, y, a, b, m, n, sums, float64_sums):
    """``(sum q, sum q (m - x))`` per lane; a class without mass adds 0 even at -inf."""
    width = lanes(tile)
    mass = promote(splat(tile, 0.0))
    gaps = mass
    if n <= LANES_MAX_CLASSES:
        for c in range(n):
            q = soft_target(w, y, a, b, c, width)
            mass = mass + promote(q)
            gaps = gaps + promote(select(equal(q, 0.0), 0.0, q * (m - load(tile, c * width))))
        return demote(mass, m), demote(gaps, m)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, stop):
            add_class(sums, c, soft_target(w, y, a, b, c, width))
        flush_block(sums, start, stop, float64_sums)
    mass = fold_partial_sums(sums, n, float64_sums)
    for start in range(0, n, SUM_BLOCK_CLASSES):
        stop = min_int(n, start + SUM_BLOCK_CLASSES)
        for c in range(start, stop):
            q = soft_target(w, y, a, b, c, width)
            add_class(sums, c, select(equal(q, 0.0), 0.0, q * (m - load(tile, c * width))))
        flush_block(sums, start, stop, float64_sums)
    return demote(mass, m), demote(fold_partial_sums(sums, n, float64_sums), m)
