"""Floor 1: long rows whose classes lie side by side. One row at a time, vectors along the classes.

Per row: the maximum, then exp and sum, then the output. The exponentials of ``value_and_grad`` stay in a thread's own buffer ``keep``,
so that the gradient is a multiplication. While a row is worked on, the next one and the output's lines are prefetched, a quarter of
them during the first pass, so that memory never rests: on a 2-core Sapphire Rapids that took (4096, 1000) from 2.2 times the time of a
copy to about that of one. Output that no cache would hold is written past them instead.

Sums run over 2 vectors in turn for BLOCK numbers, go on in float64, and are folded in a fixed tree: the error does not grow with the
number of classes, and the bits are those of ``lanes.py``.

A confident row (s < 2: little else near the maximum) is summed again without the maximum, each exponential corrected for what
rounding took from x - m: its loss *is* that sum.
"""

from pathlib import Path

import numpy as np
from numba import njit

from nbloss.kernels import rowmath
from nbloss.kernels.cpu.memory import (
    apart,
    computed,
    get,
    hold,
    lanes,
    load,
    load_first,
    pointer,
    prefetch_read,
    prefetch_write,
    put,
    room,
    same_place,
    splat,
    store,
    store_first,
    stream,
    to_aligned,
)
from nbloss.kernels.cpu.simd import doubled, equal, first_lane, fma, less, maximum, minimum, reduce_add, reduce_max, select
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, lost, unit

BLOCK = 256
STREAMED = 2048  # numbers: a shorter row is not worth the alignment


def _last_level_cache():
    """Bytes of the largest cache, as Linux tells them; 32 MB where nobody does."""
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 32 << 20


# Output that no cache will hold goes past them all: no line is read only to be overwritten. Where it fits, that would cost 1.6x.
# A constant of the compiled code: on a machine with the same processor and another cache it costs time, nothing else.
LAST_LEVEL = _last_level_cache()
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
    while j < n:
        a = maximum(load_first(x, j, n - j, -np.inf), a)
        j += step
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
        e = exp_scaled(load(x, j) - m, None)
        f = exp_scaled(load(x, j + step) - m, None)
        g = exp_scaled(load(x, j + 2 * step) - m, None)
        h = exp_scaled(load(x, j + 3 * step) - m, None)
        if keep is not None:
            store(keep, j, e)
            store(keep, j + step, f)
            store(keep, j + 2 * step, g)
            store(keep, j + 3 * step, h)
        a = (a + e) + g
        b = (b + f) + h
        j += 4 * step
    while j < stop:
        e = exp_scaled(load_first(x, j, stop - j, -np.inf) - m, None)
        f = exp_scaled(load_first(x, j + step, stop - j - step, -np.inf) - m, None)
        if keep is not None:
            store(keep, j, e)
            store(keep, j + step, f)
        a = a + e
        b = b + f
        j += 2 * step
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
def row_sum(x, n, m, keep, ahead, out):
    """``(s, rest)`` of a row."""
    inverse = 1.0 / np.float64(unit(m))
    sums = doubled(splat(x, 0.0))
    fetched = n // (4 * lanes(x)) * lanes(x)
    for start in range(0, n, BLOCK):
        sums = sums + _exp_block(x, start, min(n, start + BLOCK), m, keep, ahead, out, fetched)
    total = reduce_add(sums) * inverse
    rest = total - 1.0
    if total < CONFIDENT:
        sums = doubled(splat(x, 0.0))
        for start in range(0, n, BLOCK):
            sums = sums + _rest_block(x, start, min(n, start + BLOCK), m, keep)
        rest = reduce_add(sums) * inverse
        total = rest + 1.0
    return computed(x, total), computed(x, rest)


@njit(**STRICT)
def log1p_of(x, number):
    """The vector log1p for one number, so that rows and lanes give the same bits."""
    return first_lane(log1p(splat(x, number)))


@njit(**STRICT)
def _fill(out, n, value):
    step = lanes(out)
    v = splat(out, value)
    for j in range(0, n, step):
        store_first(out, j, n - j, v)


# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    step = lanes(pointer(x, 0))
    for p in range(lo, hi):
        row = pointer(x, p * apart(x, 0))
        result = pointer(out, p * n)
        streamed = n >= STREAMED and out.size * out.itemsize > LAST_LEVEL and not same_place(row, result)
        ahead, lines = apart(x, 0), row if streamed else result
        m = row_max(row, n, ahead, lines)
        _, rest = row_sum(row, n, m, None, ahead, lines)
        log_s = log1p_of(row, rest)
        j = min(n, to_aligned(result))
        store_first(result, 0, j, (load_first(row, 0, j, 0.0) - m) - log_s)
        while streamed and j + step <= n:
            stream(result, j, (load(row, j) - m) - log_s)
            j += step
        while j + 2 * step <= n:
            store(result, j, (load(row, j) - m) - log_s)
            store(result, j + step, (load(row, j + step) - m) - log_s)
            j += 2 * step
        while j < n:
            store_first(result, j, n - j, (load_first(row, j, n - j, 0.0) - m) - log_s)
            j += step


@njit(**STRICT)
def _sum_block(x, start, stop):
    step = lanes(x)
    a = splat(x, 0.0)
    b = a
    for j in range(start, stop, 2 * step):
        a = a + load_first(x, j, stop - j, 0.0)
        b = b + load_first(x, j + step, stop - j - step, 0.0)
    return doubled(a + b)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    step = lanes(pointer(y, 0))
    for p in range(lo, hi):
        upstream = pointer(g, p * apart(g, 0))
        row = pointer(y, p * apart(y, 0))
        result = pointer(out, p * n)
        sums = doubled(splat(row, 0.0))
        for start in range(0, n, BLOCK):
            sums = sums + _sum_block(upstream, start, min(n, start + BLOCK))
        factor = computed(row, reduce_add(sums) / np.float64(unit(get(row, 0))))
        for j in range(0, n, step):
            e = exp_scaled(minimum(load_first(row, j, n - j, 0.0), TOP), None)
            store_first(result, j, n - j, load_first(upstream, j, n - j, 0.0) - e * factor)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def _write_kept(keep, out, n, factor, streamed):
    step = lanes(keep)
    j = min(n, to_aligned(out))  # stores that straddle lines cost double
    store_first(out, 0, j, load(keep, 0) * factor)
    while streamed and j + step <= n:
        stream(out, j, load(keep, j) * factor)
        j += step
    while j + 2 * step <= n:
        store(out, j, load(keep, j) * factor)
        store(out, j + step, load(keep, j + step) * factor)
        j += 2 * step
    while j < n:
        store_first(out, j, n - j, load(keep, j) * factor)
        j += step


@njit(**STRICT)
def _room(x, n):
    """Room for n numbers in whole pairs of vectors."""
    pair = 2 * lanes(pointer(x, 0))
    return room(pointer(x, 0), (n + pair - 1) // pair * pair)


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = _room(x, n if out is not None else 0)
    for p in range(lo, hi):
        if scale[p] == 0:
            loss[p] = 0
            if out is not None:
                _fill(pointer(out, p * n), n, 0.0)
            continue
        row = pointer(x, p * apart(x, 0))
        y = np.int64(target[p]) & mask
        x_y = get(row, y)
        ahead = apart(x, 0)
        if out is None:
            m = row_max(row, n, ahead, None)
            _, rest = row_sum(row, n, m, None, ahead, None)
            loss[p] = pick_loss(scale[p], log1p_of(row, rest), m - x_y)
        else:
            result, keep = pointer(out, p * n), pointer(buffer, 0)
            streamed = n >= STREAMED and out.size * out.itemsize > LAST_LEVEL and not same_place(row, result)
            lines = row if streamed else result
            m = row_max(row, n, ahead, lines)
            s, rest = row_sum(row, n, m, keep, ahead, lines)
            loss[p] = pick_loss(scale[p], log1p_of(row, rest), m - x_y)
            coef = scale[p] * upstream[p * (upstream.size > 1)]
            if coef == 0:
                _fill(result, n, 0.0)
                continue
            others = s - get(keep, y) / unit(m) if x_y < m else rest
            _write_kept(keep, result, n, coef / s / unit(m), streamed)
            put(result, y, pull(coef, others, s))
    hold(buffer)


# ------------------------------ cross entropy, any target masses ------------------------------


@njit(**STRICT)
def _masses(w, y, a, b, j, n):
    """q = w (a y + b) for one vector of classes; without y, w b."""
    q = load_first(w, j, n - j, 0.0)
    if y is None:
        return q * b
    return q * fma(load_first(y, j, n - j, 0.0), a, b)


@njit(**STRICT)
def _mass_block(x, w, y, a, b, m, start, stop):
    """``(sum q, sum q (m - x))`` of a block; a class without mass adds 0 even at -inf."""
    step = lanes(x)
    top = splat(x, m)
    mass = splat(x, 0.0)
    mass_, gaps, gaps_ = mass, mass, mass
    for j in range(start, stop, 2 * step):
        q = _masses(w, y, a, b, j, stop)
        mass = mass + q
        gaps = gaps + select(equal(q, 0.0), 0.0, q * (top - load_first(x, j, stop - j, 0.0)))
        j += step
        q = _masses(w, y, a, b, j, stop)
        mass_ = mass_ + q
        gaps_ = gaps_ + select(equal(q, 0.0), 0.0, q * (top - load_first(x, j, stop - j, 0.0)))
    return doubled(mass) + doubled(mass_), doubled(gaps) + doubled(gaps_)


@njit(**STRICT)
def _row_masses(x, w, y, a, b, m, n):
    mass = doubled(splat(x, 0.0))
    gaps = mass
    for start in range(0, n, BLOCK):
        q, d = _mass_block(x, w, y, a, b, m, start, min(n, start + BLOCK))
        mass = mass + q
        gaps = gaps + d
    return computed(x, reduce_add(mass)), computed(x, reduce_add(gaps))


@njit(**STRICT)
def _write_masses(keep, w, y, a, b, out, n, total, s, rest, g):
    """g (total p - q); at the maximum of a confident row (total - q) - total (1 - p), which keeps its digits."""
    step = lanes(keep)
    top = unit(s) if s < CONFIDENT else -unit(s)  # what the maximum's exponential is; no exponential is negative
    factor = total / s / unit(s)
    away = total * (rest / s)
    for j in range(0, n, step):
        e = load(keep, j)
        q = _masses(w, y, a, b, j, n)
        d = select(equal(e, top), (total - q) - away, e * factor - q)
        store_first(out, j, n - j, d * g)


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = _room(x, n)
    keep = pointer(buffer, 0)
    classes = pointer(w, 0)
    for p in range(lo, hi):
        row = pointer(x, p * apart(x, 0))
        masses = pointer(y, p * apart(y, 0))
        m = row_max(row, n, apart(x, 0), None)
        s, rest = row_sum(row, n, m, keep, apart(x, 0), None)
        total, gaps = _row_masses(row, classes, masses, a, b, m, n)
        loss[p] = mass_loss(total, log1p_of(row, rest), gaps)
        if out is not None:
            g = upstream[p * (upstream.size > 1)]
            if g == 0:
                _fill(pointer(out, p * n), n, 0.0)
            else:
                _write_masses(keep, classes, masses, a, b, pointer(out, p * n), n, total, s, rest, g)
    hold(buffer)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = _room(x, n)
    keep = pointer(buffer, 0)
    classes = pointer(w, 0)
    for p in range(lo, hi):
        b = spread[p]
        if b == 0:
            loss[p] = 0
            if out is not None:
                _fill(pointer(out, p * n), n, 0.0)
            continue
        row = pointer(x, p * apart(x, 0))
        y = np.int64(target[p]) & mask
        m = row_max(row, n, apart(x, 0), None)
        x_y = get(row, y)
        s, rest = row_sum(row, n, m, keep, apart(x, 0), None)
        mass, gaps = _row_masses(row, classes, None, b, b, m, n)
        log_s = log1p_of(row, rest)
        hit = scale[p]
        value = mass_loss(mass, log_s, gaps)
        if hit != 0:
            value += pick_loss(hit, log_s, m - x_y)
        loss[p] = value
        if out is not None:
            result = pointer(out, p * n)
            g = upstream[p * (upstream.size > 1)]
            if g == 0:
                _fill(result, n, 0.0)
                continue
            total = mass + hit
            q = get(classes, y) * b
            d = (mass - q) - total * (rest / s)
            if x_y < m or s >= CONFIDENT:
                d = (get(keep, y) * (total / s / unit(m)) - q) - hit
            _write_masses(keep, classes, None, b, b, result, n, total, s, rest, g)
            put(result, y, d * g)
    hold(buffer)
