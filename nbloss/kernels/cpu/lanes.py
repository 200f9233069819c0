"""Floor 1: short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

A tile is as many positions as a vector has lanes. Its logits go through a buffer of C vectors in L1, so rows that lie anywhere in
memory (a transposed matrix, (N, C, H, W), a negative stride) cost one gather; neighbouring pixels are loaded as whole vectors. The
lanes of the last tile that hold no position of their own repeat the last one: they write the same numbers to the same place.

The sums take the order of ``rows.py``: class c goes to partial sum c mod 2 * lanes, which are folded in the same tree.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import gather, get, hold, lanes, load, pointer, put, room, scatter, splat, store
from nbloss.kernels.cpu.rows import CONFIDENT, mass_loss, pick_loss, pull
from nbloss.kernels.cpu.simd import any_lane, either, equal, fma, less, maximum, minimum, select
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, lost, unit

LONGEST = 4096  # classes of one tile: one block of rows.py, and 256 kB of buffer


@njit(**STRICT)
def _places(array, p, hi, count, places):
    """Offsets of ``count`` positions from p (the last one again beyond hi); whether they are neighbours in memory."""
    inner = array.shape[2]
    far, near = array.strides[0] // array.itemsize, array.strides[2] // array.itemsize
    o, i = p // inner, p % inner
    together = near == 1 and i + count <= inner and p + count <= hi
    for lane in range(count):
        put(places, lane, o * far + i * near)
        if p + lane + 1 < hi:
            i += 1
            if i == inner:
                i = 0
                o += 1
    return together


@njit(**STRICT)
def _classes_apart(array):
    return array.strides[1] // array.itemsize


@njit(**STRICT)
def _read(base, places, together, shift):
    if together:
        return load(base, get(places, 0) + shift)
    return gather(base, places, shift)


@njit(**STRICT)
def _write(base, places, together, shift, value):
    if together:
        store(base, get(places, 0) + shift, value)
    else:
        scatter(base, places, shift, value)


@njit(**STRICT)
def _take(base, places, together, apart, n, tile):
    """Bring a tile in; its maxima."""
    step = lanes(tile)
    m = splat(tile, -np.inf)
    for c in range(n):
        v = _read(base, places, together, c * apart)
        store(tile, c * step, v)
        m = maximum(v, m)
    return m


@njit(**STRICT)
def _add(sums, c, value):
    """Add class c's vector to its partial sum."""
    step = lanes(sums)
    slot = (c & (2 * step - 1)) * step
    if c >= 2 * step:
        value = load(sums, slot) + value
    store(sums, slot, value)


@njit(**STRICT)
def _fold(sums, n):
    """The partial sums of n classes, folded as ``rows.py`` folds the lanes of its two vectors."""
    step = lanes(sums)
    used = min(n, 2 * step)
    half = step
    while half > 0:
        for k in range(min(half, used - half)):
            store(sums, k * step, load(sums, k * step) + load(sums, (k + half) * step))
        used = min(used, half)
        half //= 2
    return load(sums, 0)


@njit(**STRICT)
def _sum(base, places, together, apart, n, m, tile, keep, sums):
    """``(s, rest)`` per lane; ``keep`` (which may be ``tile``) takes the scaled exponentials."""
    step = lanes(tile)
    one = unit(get(tile, 0))
    for c in range(n):
        e = exp_scaled(load(tile, c * step) - m, None)
        if keep is not None:
            store(keep, c * step, e)
        _add(sums, c, e)
    s = _fold(sums, n) / one
    rest = s - 1.0
    confident = less(s, CONFIDENT)
    if any_lane(confident):
        for c in range(n):
            v = _read(base, places, together, c * apart)
            t = v - m
            e = exp_scaled(t, lost(v, m, t))
            if keep is not None:
                store(keep, c * step, select(confident, e, load(keep, c * step)))
            _add(sums, c, select(less(t, 0.0), e, 0.0))
        exact = _fold(sums, n) / one
        rest = select(confident, exact, rest)
        s = select(confident, exact + 1.0, s)
    return s, rest


# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base, result = pointer(x, 0), pointer(out, 0)
    step = lanes(base)
    buffer = room(base, (n + 2 * step) * step)
    tile, sums = pointer(buffer, 0), pointer(buffer, n * step)
    offsets = np.empty(2 * step, np.int64)
    places, spots = pointer(offsets, 0), pointer(offsets, step)
    apart, classes = _classes_apart(x), _classes_apart(out)
    for p in range(lo, hi, step):
        together = _places(x, p, hi, step, places)
        side = _places(out, p, hi, step, spots)
        m = _take(base, places, together, apart, n, tile)
        _, rest = _sum(base, places, together, apart, n, m, tile, None, sums)
        log_s = log1p(rest)
        for c in range(n):
            _write(result, spots, side, c * classes, (load(tile, c * step) - m) - log_s)
    hold(buffer)
    hold(offsets)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    upstream, base, result = pointer(g, 0), pointer(y, 0), pointer(out, 0)
    step = lanes(base)
    buffer = room(base, (n + 2 * step) * step)
    tile, sums = pointer(buffer, 0), pointer(buffer, n * step)
    offsets = np.empty(3 * step, np.int64)
    places, above, spots = pointer(offsets, 0), pointer(offsets, step), pointer(offsets, 2 * step)
    for p in range(lo, hi, step):
        together = _places(y, p, hi, step, places)
        beside = _places(g, p, hi, step, above)
        side = _places(out, p, hi, step, spots)
        for c in range(n):
            v = _read(upstream, above, beside, c * _classes_apart(g))
            store(tile, c * step, v)
            _add(sums, c, v)
        factor = _fold(sums, n) / unit(get(tile, 0))
        for c in range(n):
            e = exp_scaled(minimum(_read(base, places, together, c * _classes_apart(y)), TOP), None)
            _write(result, spots, side, c * _classes_apart(out), load(tile, c * step) - e * factor)
    hold(buffer)
    hold(offsets)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def _numbers(array, p, hi, stride, into):
    """One number per position of a tile."""
    for lane in range(lanes(into)):
        put(into, lane, array[min(p + lane, hi - 1) * stride])
    return load(into, 0)


@njit(**STRICT)
def _hits(target, mask, counts, p, hi, count, hits):
    """Where each lane's target stands in a tile; class 0 for a row that does not count (its target may be any number)."""
    inner = target.shape[1]
    o, i = p // inner, p % inner
    for lane in range(count):
        y = np.int64(target[o, i]) & mask
        put(hits, lane, (y if counts[min(p + lane, hi - 1)] != 0 else 0) * count + lane)
        if p + lane + 1 < hi:
            i += 1
            if i == inner:
                i = 0
                o += 1


@njit(**STRICT)
def _put_losses(loss, p, hi, values, into):
    store(into, 0, values)
    for lane in range(min(lanes(into), hi - p)):
        loss[p + lane] = get(into, lane)


@njit(**STRICT)
def _put_at(result, spots, hits, classes, values, counts, p, hi, into):
    """The gradient at each lane's target, where the row counts."""
    step = lanes(into)
    store(into, 0, values)
    for lane in range(min(step, hi - p)):
        if counts[p + lane] != 0:
            put(result, get(spots, lane) + get(hits, lane) // step * classes, get(into, lane))


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    buffer = room(base, (n + 2 * step + 1) * step)
    tile, sums, numbers = pointer(buffer, 0), pointer(buffer, n * step), pointer(buffer, (n + 2 * step) * step)
    offsets = np.empty(3 * step, np.int64)
    places, spots, hits = pointer(offsets, 0), pointer(offsets, step), pointer(offsets, 2 * step)
    one = unit(loss.dtype.type(0))
    for p in range(lo, hi, step):
        together = _places(x, p, hi, step, places)
        _hits(target, mask, scale, p, hi, step, hits)
        m = _take(base, places, together, _classes_apart(x), n, tile)
        x_y = gather(tile, hits, 0)
        if out is None:
            s, rest = _sum(base, places, together, _classes_apart(x), n, m, tile, None, sums)
        else:
            s, rest = _sum(base, places, together, _classes_apart(x), n, m, tile, tile, sums)
        each = _numbers(scale, p, hi, 1, numbers)
        nothing = equal(each, 0.0)
        _put_losses(loss, p, hi, select(nothing, 0.0, pick_loss(each, log1p(rest), m - x_y)), numbers)
        if out is not None:
            result = pointer(out, 0)
            side = _places(out, p, hi, step, spots)
            coef = each * _numbers(upstream, p, hi, upstream.size > 1, numbers)
            nothing = either(nothing, equal(coef, 0.0))
            others = select(less(x_y, m), s - gather(tile, hits, 0) / one, rest)
            factor = coef / s / one
            for c in range(n):
                e = load(tile, c * step)
                _write(result, spots, side, c * _classes_apart(out), select(nothing, 0.0, e * factor))
            _put_at(result, spots, hits, _classes_apart(out), select(nothing, 0.0, pull(coef, others, s)), scale, p, hi, numbers)
    hold(buffer)
    hold(offsets)


# ------------------------------ cross entropy, any target masses ------------------------------


@njit(**STRICT)
def _masses(w, y, above, beside, apart, a, b, c):
    """q = w (a y + b) of class c in every lane; without y, w b."""
    if y is None:
        return b * get(w, c)
    return fma(_read(y, above, beside, c * apart), a, b) * get(w, c)


@njit(**STRICT)
def _tile_masses(tile, w, y, above, beside, apart, a, b, m, n, sums):
    """``(sum q, sum q (m - x))`` per lane; a class without mass adds 0 even at -inf."""
    step = lanes(tile)
    for c in range(n):
        _add(sums, c, _masses(w, y, above, beside, apart, a, b, c))
    mass = _fold(sums, n)
    for c in range(n):
        q = _masses(w, y, above, beside, apart, a, b, c)
        _add(sums, c, select(equal(q, 0.0), 0.0, q * (m - load(tile, c * step))))
    return mass, _fold(sums, n)


@njit(**STRICT)
def _write_masses(keep, w, y, above, beside, apart, a, b, result, spots, side, classes, n, total, s, rest, g, nothing):
    """g (total p - q), as in ``rows.py``."""
    step = lanes(keep)
    one = unit(get(keep, 0))
    factor = total / s / one
    away = total * (rest / s)
    for c in range(n):
        e = load(keep, c * step)
        q = _masses(w, y, above, beside, apart, a, b, c)
        d = select(equal(e, one), (total - q) - away, e * factor - q)
        _write(result, spots, side, c * classes, select(nothing, 0.0, d * g))


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, masses, classes = pointer(x, 0), pointer(y, 0), pointer(w, 0)
    step = lanes(base)
    buffer = room(base, (2 * n + 2 * step + 1) * step)
    tile, keep = pointer(buffer, 0), pointer(buffer, n * step)
    sums, numbers = pointer(buffer, 2 * n * step), pointer(buffer, (2 * n + 2 * step) * step)
    offsets = np.empty(3 * step, np.int64)
    places, above, spots = pointer(offsets, 0), pointer(offsets, step), pointer(offsets, 2 * step)
    for p in range(lo, hi, step):
        together = _places(x, p, hi, step, places)
        beside = _places(y, p, hi, step, above)
        m = _take(base, places, together, _classes_apart(x), n, tile)
        s, rest = _sum(base, places, together, _classes_apart(x), n, m, tile, keep, sums)
        apart = _classes_apart(y)
        total, gaps = _tile_masses(tile, classes, masses, above, beside, apart, splat(tile, a), splat(tile, b), m, n, sums)
        _put_losses(loss, p, hi, mass_loss(total, log1p(rest), gaps), numbers)
        if out is not None:
            side = _places(out, p, hi, step, spots)
            g = _numbers(upstream, p, hi, upstream.size > 1, numbers)
            _write_masses(
                keep, classes, masses, above, beside, apart, splat(tile, a), splat(tile, b),
                pointer(out, 0), spots, side, _classes_apart(out), n, total, s, rest, g, equal(g, 0.0),
            )  # fmt: skip
    hold(buffer)
    hold(offsets)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    step = lanes(base)
    buffer = room(base, (2 * n + 2 * step + 1) * step)
    tile, keep = pointer(buffer, 0), pointer(buffer, n * step)
    sums, numbers = pointer(buffer, 2 * n * step), pointer(buffer, (2 * n + 2 * step) * step)
    offsets = np.empty(3 * step, np.int64)
    places, hits, spots = pointer(offsets, 0), pointer(offsets, step), pointer(offsets, 2 * step)
    one = unit(loss.dtype.type(0))
    for p in range(lo, hi, step):
        together = _places(x, p, hi, step, places)
        _hits(target, mask, spread, p, hi, step, hits)
        m = _take(base, places, together, _classes_apart(x), n, tile)
        x_y = gather(tile, hits, 0)
        s, rest = _sum(base, places, together, _classes_apart(x), n, m, tile, keep, sums)
        hit = _numbers(scale, p, hi, 1, numbers)
        b = _numbers(spread, p, hi, 1, numbers)
        nothing = equal(b, 0.0)
        mass, gaps = _tile_masses(tile, classes, None, None, False, 0, b, b, m, n, sums)
        log_s = log1p(rest)
        value = mass_loss(mass, log_s, gaps)
        value = select(equal(hit, 0.0), value, value + pick_loss(hit, log_s, m - x_y))
        _put_losses(loss, p, hi, select(nothing, 0.0, value), numbers)
        if out is not None:
            result = pointer(out, 0)
            side = _places(out, p, hi, step, spots)
            g = _numbers(upstream, p, hi, upstream.size > 1, numbers)
            nothing = either(nothing, equal(g, 0.0))
            total = mass + hit
            for lane in range(step):
                put(numbers, lane, get(classes, get(hits, lane) // step))
            q = load(numbers, 0) * b
            d = (mass - q) - total * (rest / s)
            d = select(less(x_y, m), (gather(keep, hits, 0) * (total / s / one) - q) - hit, d)
            _write_masses(
                keep, classes, None, None, False, 0, b, b,
                result, spots, side, _classes_apart(out), n, total, s, rest, g, nothing,
            )  # fmt: skip
            _put_at(result, spots, hits, _classes_apart(out), select(nothing, 0.0, d * g), spread, p, hi, numbers)
    hold(buffer)
    hold(offsets)
