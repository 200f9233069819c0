"""``rows.py`` for any target masses: smoothed class numbers, and probabilities."""

from numba import njit

from nbloss.kernels.cpu.memory import apart, computed, get, get_integer, lanes, load, load_first, pointer, put, smaller, splat, store_first
from nbloss.kernels.cpu.rooms import release
from nbloss.kernels.cpu.row_sums import BLOCK, CONFIDENT, fill, log1p_of, mass_loss, pick_loss, reach, row_max, row_room, row_sum
from nbloss.kernels.cpu.simd import doubled, equal, fma, reduce_add, select
from nbloss.kernels.cpu.vecmath import STRICT, unit


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
    return doubled(mass + mass_), doubled(gaps + gaps_)


@njit(**STRICT)
def _row_masses(x, w, y, a, b, m, n):
    mass = doubled(splat(x, 0.0))
    gaps = mass
    for start in range(0, n, BLOCK):
        q, d = _mass_block(x, w, y, a, b, m, start, smaller(n, start + BLOCK))
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
    buffer = row_room(x, n)
    keep = buffer
    classes = pointer(w, 0)
    between = apart(x, 0)
    ahead = reach(n, between, 1)
    top = get(buffer, 0)
    for p in range(lo, hi):
        row, following = pointer(x, p * between), pointer(x, smaller(p + 1, hi - 1) * between)
        masses = pointer(y, p * apart(y, 0))
        m = top if p > lo else row_max(row, n)
        s, rest, top = row_sum(row, n, m, keep, ahead, following)
        total, gaps = _row_masses(row, classes, masses, a, b, m, n)
        loss[p] = mass_loss(total, log1p_of(row, rest), gaps)
        if out is not None:
            g = upstream[p * (upstream.size > 1)]
            if g == 0:
                fill(pointer(out, p * n), n, 0.0)
            else:
                _write_masses(keep, classes, masses, a, b, pointer(out, p * n), n, total, s, rest, g)
    release(buffer)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = row_room(x, n)
    keep = buffer
    classes, targets = pointer(w, 0), pointer(target, 0)
    between = apart(x, 0)
    ahead = reach(n, between, 1)
    top, known = get(buffer, 0), -1
    for p in range(lo, hi):
        b = spread[p]
        if b == 0:
            loss[p] = 0
            if out is not None:
                fill(pointer(out, p * n), n, 0.0)
            continue
        row = pointer(x, p * between)
        y = get_integer(targets, p) & mask
        m = top if known == p else row_max(row, n)
        x_y = get(row, y)
        known = p + 1
        following = pointer(x, known * between) if known < hi and spread[known] != 0 else row
        s, rest, top = row_sum(row, n, m, keep, ahead, following)
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
                fill(result, n, 0.0)
                continue
            total = mass + hit
            q = get(classes, y) * b
            d = (mass - q) - total * (rest / s)
            if x_y < m or s >= CONFIDENT:
                d = (get(keep, y) * (total / s / unit(m)) - q) - hit
            _write_masses(keep, classes, None, b, b, result, n, total, s, rest, g)
            put(result, y, d * g)
    release(buffer)
