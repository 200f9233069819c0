"""Floor 1: the maximum and the sums of a tile, one row or pixel per lane.

Up to SHORT classes a row is only ever walked here, and summed with every digit: with few classes, some lane is nearly always confident.
Above, the sums take the order of ``rows.py``: class c goes to partial sum c mod 2 * lanes, which are folded in the same tree.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import gather, get, lanes, load, load_doubles, load_four, smaller, splat, store
from nbloss.kernels.cpu.row_sums import BLOCK, CONFIDENT
from nbloss.kernels.cpu.simd import any_lane, doubled, equal, fma, four, less, maximum, quarter, rounded, select
from nbloss.kernels.cpu.vecmath import STRICT, exp_scaled, lost, unit

SHORT = 48  # classes; up to here contiguous rows go one to a lane too: about where both ways take as long


@njit(**STRICT)
def tops(tile, n):
    """max x[c] per lane; nan is passed over here and comes back through the sum."""
    step = lanes(tile)
    m = splat(tile, -np.inf)
    for c in range(n):
        m = maximum(load(tile, c * step), m)
    return m


@njit(**STRICT)
def _add(sums, c, value):
    """Add class c's vector to its partial sum; the first ones of a block begin them."""
    step = lanes(sums)
    c &= BLOCK - 1
    slot = (c & (2 * step - 1)) * step
    if c >= 2 * step:
        value = load(sums, slot) + value
    store(sums, slot, value)


@njit(**STRICT)
def _flush(sums, start, stop, doubles):
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
def _fold(sums, n, doubles):
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
    if c < n:  # one to three more; what is read beyond them is computed with, and left out
        v = load_four(tile, c * step)
        t = v - tops
        e = exp_scaled(t, lost(v, tops, t))
        ties, added = _apart(quarter(t, 0), quarter(e, 0), ties)
        if keep is not None:
            store(keep, c * step, quarter(e, 0))
        if c + 1 < n:
            ties, second = _apart(quarter(t, 1), quarter(e, 1), ties)
            added = added + second
            if keep is not None:
                store(keep, (c + 1) * step, quarter(e, 1))
        if c + 2 < n:
            ties, third = _apart(quarter(t, 2), quarter(e, 2), ties)
            added = added + third
            if keep is not None:
                store(keep, (c + 2) * step, quarter(e, 2))
        total = total + doubled(added)
    rest = total * inverse + doubled(ties)
    return rounded(rest + 1.0, m), rounded(rest, m)


@njit(**STRICT)
def _long_sums(tile, n, m, keep, base, between, places, sums, doubles):
    """``(s, rest)`` per lane, as ``row_sums.row_sum``."""
    step = lanes(tile)
    inverse = 1.0 / np.float64(unit(get(tile, 0)))
    zero = splat(tile, 0.0)
    for start in range(0, n, BLOCK):
        stop = smaller(n, start + BLOCK)
        for c in range(start, stop):
            e = exp_scaled(load(tile, c * step) - m, None)
            if keep is not None:
                store(keep, c * step, e)
            _add(sums, c, e)
        _flush(sums, start, stop, doubles)
    total = _fold(sums, n, doubles) * inverse
    rest = total - 1.0
    confident = less(total, CONFIDENT)
    if any_lane(confident):
        ties = zero - 1.0
        first, beside = get(places, 0), get(places, step - 1) - get(places, 0) == step - 1
        for start in range(0, n, BLOCK):
            stop = smaller(n, start + BLOCK)
            for c in range(start, stop):
                # from where the tile came from: it may hold the exponentials by now
                v = load(base, first + c * between) if beside else gather(base, places, c * between)
                t = v - m
                e = exp_scaled(t, lost(v, m, t))
                if keep is not None:
                    store(keep, c * step, select(confident, e, load(keep, c * step)))
                ties, e = _apart(t, e, ties)
                _add(sums, c, e)
            _flush(sums, start, stop, doubles)
        exact = _fold(sums, n, doubles) * inverse + doubled(ties)
        rest = select(confident, exact, rest)
        total = select(confident, exact + 1.0, total)
    return rounded(total, m), rounded(rest, m)


@njit(**STRICT)
def lane_sums(tile, n, m, keep, base, between, places, sums, doubles):
    """``(s, rest)`` per lane; ``keep`` (which may be ``tile``) takes the scaled exponentials.

    ``base``, ``between`` and ``places`` say where a tile of more than SHORT classes came from.
    """
    if n <= SHORT:
        return _short_sums(tile, n, m, keep)
    return _long_sums(tile, n, m, keep, base, between, places, sums, doubles)


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
            _add(sums, c, load(tile, c * step))
        _flush(sums, start, stop, doubles)
    return _fold(sums, n, doubles)


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
            _add(sums, c, masses(w, y, a, b, c, step))
        _flush(sums, start, stop, doubles)
    mass = _fold(sums, n, doubles)
    for start in range(0, n, BLOCK):
        stop = smaller(n, start + BLOCK)
        for c in range(start, stop):
            q = masses(w, y, a, b, c, step)
            _add(sums, c, select(equal(q, 0.0), 0.0, q * (m - load(tile, c * step))))
        _flush(sums, start, stop, doubles)
    return rounded(mass, m), rounded(_fold(sums, n, doubles), m)
