"""The maximum and the sums of a tile, one row or pixel per lane.

Up to SHORT classes a row is only ever walked here, and summed with every digit: with few classes, some lane is nearly always confident.
Above, the sums take the order of ``rows.py``: class c goes to partial sum c mod 2 * lanes, which are folded in the same tree.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import (
    get,
    lanes,
    load,
    load_doubles,
    load_first_four,
    load_four,
    moved,
    smaller,
    splat,
    store,
    store_first,
)
from nbloss.kernels.cpu.row_sums import BLOCK, CONFIDENT
from nbloss.kernels.cpu.simd import any_lane, doubled, equal, fma, four, less, maximum, quarter, rounded, select
from nbloss.kernels.cpu.tuning import SHORT
from nbloss.kernels.cpu.vecmath import STRICT, exp_scaled, lost, unit


@njit(**STRICT)
def sums_room(step):
    """How many vectors ``sums`` are: two partial sums per lane, and eight that a step puts down."""
    return 2 * step + 8


@njit(**STRICT)
def tops(tile, n):
    """max x[c] per lane; nan is passed over here and comes back through the sum."""
    step = lanes(tile)
    m = splat(tile, -np.inf)
    for c in range(n):
        m = maximum(load(tile, c * step), m)
    return m


@njit(**STRICT)
def add(sums, c, value):
    """Add class c's vector to its partial sum; the first ones of a block begin them."""
    step = lanes(sums)
    c &= BLOCK - 1
    slot = (c & (2 * step - 1)) * step
    if c >= 2 * step:
        value = load(sums, slot) + value
    store(sums, slot, value)


@njit(**STRICT)
def flush(sums, start, stop, doubles):
    """Add the partial sums of a block of classes to their float64 sums; the first block begins them."""
    step = lanes(sums)
    count = stop - start
    for k in range(smaller(count, step)):
        v = load(sums, k * step)
        if k + step < count:
            v = v + load(sums, (k + step) * step)
        v = doubled(v)
        if start > 0:
            v = load_doubles(doubles, k * step, load(sums, 0)) + v
        store(doubles, k * step, v)


@njit(**STRICT)
def fold(sums, n, doubles):
    """The float64 sums of n classes, folded as ``rows.py`` folds the lanes of its vectors."""
    step = lanes(sums)
    like = load(sums, 0)
    used = smaller(n, step)
    half = step // 2
    while half > 0:
        for k in range(smaller(half, used - half)):
            store(doubles, k * step, load_doubles(doubles, k * step, like) + load_doubles(doubles, (k + half) * step, like))
        used = smaller(used, half)
        half //= 2
    return load_doubles(doubles, 0, like)


@njit(**STRICT)
def _apart(t, e, ties):
    """The maximum's own terms are counted, not added."""
    top = equal(t, 0.0)
    return select(top, ties + 1.0, ties), select(top, 0.0, e)


@njit(**STRICT)
def _short_sums(tile, n, m, keep):
    """``(s, rest)`` per lane of at most SHORT classes; ``keep`` takes the scaled exponentials."""
    step = lanes(tile)
    inverse = 1.0 / np.float64(unit(get(tile, 0)))
    zero = splat(tile, 0.0)
    ties = zero - 1.0
    total = doubled(zero)
    tops = four(m)
    c = 0
    while c + 4 <= n:
        v = load_four(tile, c * step)
        t = v - tops
        e = exp_scaled(t, lost(v, tops, t))
        if keep is not None:
            store(keep, c * step, e)
        ties, first = _apart(quarter(t, 0), quarter(e, 0), ties)
        ties, second = _apart(quarter(t, 1), quarter(e, 1), ties)
        ties, third = _apart(quarter(t, 2), quarter(e, 2), ties)
        ties, fourth = _apart(quarter(t, 3), quarter(e, 3), ties)
        total = total + doubled((first + second) + (third + fourth))
        c += 4
    if c < n:
        added = zero
        while c < n:
            v = load(tile, c * step)
            t = v - m
            e = exp_scaled(t, lost(v, m, t))
            if keep is not None:
                store(keep, c * step, e)
            ties, e = _apart(t, e, ties)
            added = added + e
            c += 1
        total = total + doubled(added)
    rest = total * inverse + doubled(ties)
    return rounded(rest + 1.0, m), rounded(rest, m)


@njit(**STRICT)
def _slots(tile, first, stop, m, keep, spare):
    """Four partial sums: of the classes from ``first`` on, and of every 2 * lanes classes after each."""
    step = lanes(tile)
    tops = four(m)
    result = four(splat(tile, 0.0))
    c = first
    while c + 4 <= stop:
        v = load_four(tile, c * step)
        if spare is not None:
            store(spare, c * step, v)
        e = exp_scaled(v - tops, None)
        if keep is not None:
            store(keep, c * step, e)
        result = result + e
        c += 2 * step
    if c < stop:
        count = (stop - c) * step
        v = load_first_four(tile, c * step, count, -np.inf)
        if spare is not None:
            store_first(spare, c * step, count, v)
        e = exp_scaled(v - tops, None)
        if keep is not None:
            store_first(keep, c * step, count, e)
        result = result + e
    return result


@njit(**STRICT)
def _rest_block(tile, start, stop, m, keep, confident, ties, sums):
    """Add the classes of a block with every digit to their partial sums; ``keep`` takes the terms of the confident lanes."""
    step = lanes(tile)
    tops = four(m)
    terms, gaps = moved(sums, 2 * step * step), moved(sums, (2 * step + 4) * step)
    for c in range(start, stop, 4):
        v = load_first_four(tile, c * step, (stop - c) * step, -np.inf)
        t = v - tops
        store(terms, 0, exp_scaled(t, lost(v, tops, t)))
        store(gaps, 0, t)
        for k in range(smaller(4, stop - c)):
            e = load(terms, k * step)
            if keep is not None:
                store(keep, (c + k) * step, select(confident, e, load(keep, (c + k) * step)))
            ties, e = _apart(load(gaps, k * step), e, ties)
            add(sums, c + k, e)
    return ties


@njit(**STRICT)
def _long_sums(tile, n, m, keep, spare, sums, doubles):
    """``(s, rest)`` per lane, as ``row_sums.row_sum``."""
    step = lanes(tile)
    inverse = 1.0 / np.float64(unit(get(tile, 0)))
    for start in range(0, n, BLOCK):
        stop = smaller(n, start + BLOCK)
        for k in range(0, smaller(step, stop - start), 4):
            store(sums, k * step, _slots(tile, start + k, stop, m, keep, spare))
            store(sums, (k + step) * step, _slots(tile, start + k + step, stop, m, keep, spare))
        flush(sums, start, stop, doubles)
    total = fold(sums, n, doubles) * inverse
    rest = total - 1.0
    confident = less(total, CONFIDENT)
    if any_lane(confident):
        ties = splat(tile, -1.0)
        for start in range(0, n, BLOCK):
            stop = smaller(n, start + BLOCK)
            ties = _rest_block(tile if spare is None else spare, start, stop, m, keep, confident, ties, sums)
            flush(sums, start, stop, doubles)
        exact = fold(sums, n, doubles) * inverse + doubled(ties)
        rest = select(confident, exact, rest)
        total = select(confident, exact + 1.0, total)
    return rounded(total, m), rounded(rest, m)


@njit(**STRICT)
def lane_sums(tile, n, m, keep, spare, sums, doubles):
    """``(s, rest)`` per lane; ``keep`` takes the scaled exponentials.

    It may be ``tile``: then ``spare`` takes a tile of more than SHORT classes, whose confident lanes are summed again.
    """
    if n <= SHORT:
        return _short_sums(tile, n, m, keep)
    return _long_sums(tile, n, m, keep, spare, sums, doubles)


@njit(**STRICT)
def total(tile, n, sums, doubles):
    """Sum over the classes of a tile, in float64."""
    step = lanes(tile)
    if n <= SHORT:
        result = doubled(splat(tile, 0.0))
        for c in range(n):
            result = result + doubled(load(tile, c * step))
        return result
    for start in range(0, n, BLOCK):
        stop = smaller(n, start + BLOCK)
        for c in range(start, stop):
            add(sums, c, load(tile, c * step))
        flush(sums, start, stop, doubles)
    return fold(sums, n, doubles)


@njit(**STRICT)
def masses(w, y, a, b, c, step):
    """q = w (a y + b) of class c in every lane; without y, w b."""
    if y is None:
        return b * get(w, c)
    return fma(load(y, c * step), a, b) * get(w, c)


@njit(**STRICT)
def total_masses(tile, w, y, a, b, m, n, sums, doubles):
    """``(sum q, sum q (m - x))`` per lane; a class without mass adds 0 even at -inf."""
    step = lanes(tile)
    mass = doubled(splat(tile, 0.0))
    gaps = mass
    if n <= SHORT:
        for c in range(n):
            q = masses(w, y, a, b, c, step)
            mass = mass + doubled(q)
            gaps = gaps + doubled(select(equal(q, 0.0), 0.0, q * (m - load(tile, c * step))))
        return rounded(mass, m), rounded(gaps, m)
    for start in range(0, n, BLOCK):
        stop = smaller(n, start + BLOCK)
        for c in range(start, stop):
            add(sums, c, masses(w, y, a, b, c, step))
        flush(sums, start, stop, doubles)
    mass = fold(sums, n, doubles)
    for start in range(0, n, BLOCK):
        stop = smaller(n, start + BLOCK)
        for c in range(start, stop):
            q = masses(w, y, a, b, c, step)
            add(sums, c, select(equal(q, 0.0), 0.0, q * (m - load(tile, c * step))))
        flush(sums, start, stop, doubles)
    return rounded(mass, m), rounded(fold(sums, n, doubles), m)
