"""The passes over a row whose classes lie side by side: its maximum, and its sum of exponentials.

Sums run over 2 vectors in turn for BLOCK numbers, go on in float64, and are folded in a fixed tree: the error does not grow with the
number of classes, and the bits are those of ``lane_sums.py``.

A confident row (s < 2: little else near the maximum) is summed again without the maximum, each exponential corrected for what
rounding took from x - m: its loss *is* that sum.
"""

import numpy as np
from numba import njit

from nbloss.kernels import rowmath
from nbloss.kernels.cpu.memory import (
    computed,
    lanes,
    larger,
    load,
    load_first,
    load_first_four,
    load_four,
    pointer,
    prefetch_read,
    prefetch_write,
    smaller,
    splat,
    store,
    store_first,
)
from nbloss.kernels.cpu.rooms import room
from nbloss.kernels.cpu.simd import doubled, first_lane, four, less, maximum, quarter, reduce_add, reduce_max, select
from nbloss.kernels.cpu.vecmath import STRICT, exp_scaled, log1p, lost, unit

BLOCK = 256
KEPT = 1024  # numbers of rows that go through each pass together: in more of them reading and writing take longer turns, which was slower
AHEAD = 1024  # numbers that memory is asked for before the maximum is looked for among them
CONFIDENT = 2.0

pick_loss = njit(**STRICT)(rowmath.loss)
pull = njit(**STRICT)(rowmath.pull)
mass_loss = njit(**STRICT)(rowmath.mass_loss)


@njit(**STRICT)
def group_of(step, n):
    """How many rows go through each step together: at most one to a lane when their logarithms and losses are found."""
    return larger(1, smaller(step, KEPT // n))


@njit(**STRICT)
def reach(n, between, near):
    """How far ahead of a row's numbers memory is asked for: beyond row ``near`` from it, where the maximum is looked for."""
    return near * between + (AHEAD if between == n or n > AHEAD else AHEAD // n * between)


@njit(**STRICT)
def row_max(x, n):
    """max x[j] of no fewer numbers than lanes; nan is passed over here and comes back through the sum."""
    return _highest(x, n, 0, four(splat(x, -np.inf)))


@njit(**STRICT)
def _highest(x, n, start, peak):
    """The maximum of what four vectors have found before ``start`` and of what is left."""
    step = lanes(x)
    j = start
    while j + 4 * step <= n:
        peak = maximum(load_four(x, j), peak)
        j += 4 * step
    a, b = maximum(quarter(peak, 0), quarter(peak, 1)), maximum(quarter(peak, 2), quarter(peak, 3))
    while j + step <= n:
        a = maximum(load(x, j), a)
        j += step
    return reduce_max(maximum(maximum(load(x, n - step), b), a))  # some once more, which is cheaper than a mask


@njit(**STRICT)
def _ask(x, ahead, out, place):
    """Ask for a line of what is ``ahead`` of x, and of ``out``, which is to be written."""
    prefetch_read(x, ahead + place)
    if out is not None:
        prefetch_write(out, place)


@njit(**STRICT)
def _exp_few(x, j, stop, m, keep):
    """A vector's scaled exp(x[j] - m), 0 from ``stop`` on."""
    e = exp_scaled(load_first(x, j, stop - j, -np.inf) - m, None)
    if keep is not None:
        store(keep, j, e)
    return e


@njit(**STRICT)
def _exp_block(x, start, stop, m, keep, ahead, out, following, peak):
    """Sum of the scaled exp(x[j] - m) over a block, ``keep`` takes the terms; and ``peak``, raised to what stands in ``following``."""
    step = lanes(x)
    a = splat(x, 0.0)
    b = a
    j = start
    while j + 4 * step <= stop:
        for k in range(4):
            _ask(x, ahead, out, j + k * step)
        e = exp_scaled(load_four(x, j) - m, None)
        if keep is not None:
            store(keep, j, e)
        peak = maximum(load_four(following, j), peak)
        a = (a + quarter(e, 0)) + quarter(e, 2)
        b = (b + quarter(e, 1)) + quarter(e, 3)
        j += 4 * step
    for place in range(j, stop, step):
        _ask(x, ahead, out, place)
    if j + 3 * step < stop:
        e = exp_scaled(load_first_four(x, j, stop - j, -np.inf) - m, None)
        if keep is not None:
            store(keep, j, e)
        a = (a + quarter(e, 0)) + quarter(e, 2)
        b = (b + quarter(e, 1)) + quarter(e, 3)
    elif j < stop:
        a = a + _exp_few(x, j, stop, m, keep)
        b = b + _exp_few(x, j + step, stop, m, keep)
        if j + 2 * step < stop:
            a = a + _exp_few(x, j + 2 * step, stop, m, keep)
    return doubled(a + b), peak


@njit(**STRICT)
def _rest_block(x, start, stop, m, keep):
    """``_exp_block`` without the maximum's own term and with the digits that x - m lost."""
    step = lanes(x)
    top = splat(x, m)
    a = splat(x, 0.0)
    b = a
    for j in range(start, stop, 2 * step):
        v = load_first(x, j, stop - j, -np.inf)
        w = load_first(x, j + step, stop - j - step, -np.inf)
        t = v - top
        u = w - top
        e = exp_scaled(t, lost(v, top, t))
        f = exp_scaled(u, lost(w, top, u))
        if keep is not None:
            store(keep, j, e)
            store(keep, j + step, f)
        a = a + select(less(t, 0.0), e, 0.0)
        b = b + select(less(u, 0.0), f, 0.0)
    return doubled(a + b)


@njit(**STRICT)
def row_terms(x, n, m, keep, ahead, out, following):
    """The scaled exponentials' sum in float64, not yet folded: as many numbers as there are lanes; and the maximum of row ``following``.

    Its numbers come from memory while these are computed with.
    """
    sums = doubled(splat(x, 0.0))
    peak = four(splat(x, -np.inf))
    for start in range(0, n, BLOCK):
        added, peak = _exp_block(x, start, smaller(n, start + BLOCK), m, keep, ahead, out, following, peak)
        sums = sums + added
    most = 4 * lanes(x)
    return sums, computed(x, _highest(following, n, n // most * most, peak))


@njit(**STRICT)
def row_total(terms, m):
    """s in float64 from ``row_terms``; that of a confident row is to be replaced by 1 + ``row_rest``."""
    return reduce_add(terms) / np.float64(unit(m))


@njit(**STRICT)
def row_rest(x, n, m, keep):
    """``rest`` in float64, with every digit."""
    sums = doubled(splat(x, 0.0))
    for start in range(0, n, BLOCK):
        sums = sums + _rest_block(x, start, smaller(n, start + BLOCK), m, keep)
    return reduce_add(sums) / np.float64(unit(m))


@njit(**STRICT)
def row_sum(x, n, m, keep, ahead, following):
    """``(s, rest)`` of a row, and the maximum of row ``following``."""
    terms, top = row_terms(x, n, m, keep, ahead, None, following)
    total = row_total(terms, m)
    rest = total - 1.0
    if total < CONFIDENT:
        rest = row_rest(x, n, m, keep)
        total = rest + 1.0
    return computed(x, total), computed(x, rest), top


@njit(**STRICT)
def log1p_of(x, number):
    """The vector log1p for one number, so that rows and lanes give the same bits."""
    return first_lane(log1p(splat(x, number)))


@njit(**STRICT)
def fill(out, n, value):
    step = lanes(out)
    v = splat(out, value)
    for j in range(0, n, step):
        store_first(out, j, n - j, v)


@njit(**STRICT)
def pitch_of(x, n):
    """Room for the exponentials of a row: whole fours of vectors."""
    most = 4 * lanes(x)
    return (n + most - 1) // most * most


@njit(**STRICT)
def row_room(x, n):
    base = pointer(x, 0)
    return room(base, pitch_of(base, n))
