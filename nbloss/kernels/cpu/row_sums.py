"""Floor 1: the passes over a row whose classes lie side by side: its maximum, and its sum of exponentials.

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
from nbloss.kernels.cpu.simd import doubled, first_lane, less, maximum, quarter, reduce_add, reduce_max, select
from nbloss.kernels.cpu.vecmath import STRICT, exp_scaled, log1p, lost, unit

BLOCK = 256
CONFIDENT = 2.0

pick_loss = njit(**STRICT)(rowmath.loss)
pull = njit(**STRICT)(rowmath.pull)
mass_loss = njit(**STRICT)(rowmath.mass_loss)


@njit(**STRICT)
def row_max(x, n, ahead, out):
    """max x[j]; nan is passed over here and comes back through the sum. Fetches a quarter of what is ``ahead`` and of ``out``."""
    step = lanes(x)
    a = splat(x, -np.inf)
    b, c, d = a, a, a
    j = 0
    while j + 4 * step <= n:
        prefetch_read(x, ahead + j // 4)
        if out is not None:
            prefetch_write(out, j // 4)
        a = maximum(load(x, j), a)
        b = maximum(load(x, j + step), b)
        c = maximum(load(x, j + 2 * step), c)
        d = maximum(load(x, j + 3 * step), d)
        j += 4 * step
    if j < n:
        v = load_first_four(x, j, n - j, -np.inf)
        a = maximum(quarter(v, 0), a)
        b = maximum(quarter(v, 1), b)
        c = maximum(quarter(v, 2), c)
        d = maximum(quarter(v, 3), d)
    return reduce_max(maximum(maximum(a, b), maximum(c, d)))


@njit(**STRICT)
def _exp_block(x, start, stop, m, keep, ahead, out, fetched):
    """Sum of the scaled exp(x[j] - m) over a block; ``keep`` takes the terms. Fetches the rest: three vectors for each four."""
    step = lanes(x)
    a = splat(x, 0.0)
    b = a
    j = start
    while j + 4 * step <= stop:
        place = fetched + j // 4 * 3
        for k in range(3):
            prefetch_read(x, ahead + place + k * step)
            if out is not None:
                prefetch_write(out, place + k * step)
        e = exp_scaled(load_four(x, j) - m, None)
        if keep is not None:
            store(keep, j, e)
        a = (a + quarter(e, 0)) + quarter(e, 2)
        b = (b + quarter(e, 1)) + quarter(e, 3)
        j += 4 * step
    if j + 2 * step < stop:
        e = exp_scaled(load_first_four(x, j, stop - j, -np.inf) - m, None)
        if keep is not None:
            store(keep, j, e)
        a = (a + quarter(e, 0)) + quarter(e, 2)
        b = (b + quarter(e, 1)) + quarter(e, 3)
    elif j < stop:
        e = exp_scaled(load_first(x, j, stop - j, -np.inf) - m, None)
        f = exp_scaled(load_first(x, j + step, stop - j - step, -np.inf) - m, None)
        if keep is not None:
            store(keep, j, e)
            store(keep, j + step, f)
        a = a + e
        b = b + f
    return doubled(a + b)


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
def row_total(x, n, m, keep, ahead, out):
    """s in float64; that of a confident row is to be replaced by 1 + ``row_rest``."""
    sums = doubled(splat(x, 0.0))
    fetched = n // (4 * lanes(x)) * lanes(x)
    for start in range(0, n, BLOCK):
        sums = sums + _exp_block(x, start, smaller(n, start + BLOCK), m, keep, ahead, out, fetched)
    return reduce_add(sums) / np.float64(unit(m))


@njit(**STRICT)
def row_rest(x, n, m, keep):
    """``rest`` in float64, with every digit."""
    sums = doubled(splat(x, 0.0))
    for start in range(0, n, BLOCK):
        sums = sums + _rest_block(x, start, smaller(n, start + BLOCK), m, keep)
    return reduce_add(sums) / np.float64(unit(m))


@njit(**STRICT)
def row_sum(x, n, m, keep, ahead, out):
    """``(s, rest)`` of a row."""
    total = row_total(x, n, m, keep, ahead, out)
    rest = total - 1.0
    if total < CONFIDENT:
        rest = row_rest(x, n, m, keep)
        total = rest + 1.0
    return computed(x, total), computed(x, rest)


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
