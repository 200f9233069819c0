"""Floor 1: short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

A tile is as many positions as a vector has lanes. A few tiles make a slab that is brought into L1, class by class, worked on there, and
carried out class by class: rows may lie anywhere in memory (a transposed matrix, a negative stride) for the price of a gather, and
classes that lie a power of two apart, (N, C, H, W), do not throw each other out of the cache. Neighbouring pixels move as whole
vectors. The lanes of the last tile that hold no position of their own repeat the last one: they write the same numbers to the same
place.

The sums take the order of ``rows.py``: class c goes to partial sum c mod 2 * lanes, which are folded in the same tree.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import apart, gather, get, hold, lanes, load, load_doubles, moved, pointer, put, room, scatter, splat, store
from nbloss.kernels.cpu.rows import BLOCK, CONFIDENT, mass_loss, pick_loss, pull
from nbloss.kernels.cpu.simd import any_lane, doubled, either, equal, fma, less, maximum, minimum, rounded, select
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, lost, unit

SHORT = 64  # classes; up to here contiguous rows go one to a lane too
LONGEST = 4096  # classes of one tile: 256 kB of buffer


@njit(**STRICT)
def _tiles(n, step):
    """How many tiles make a slab: some 24 kB, half an L1 cache."""
    return max(1, min(32, 6144 // (n * step)))


@njit(**STRICT)
def _map(array, p, hi, step, tiles, places, beside):
    """Offsets of the positions of ``tiles`` tiles from p on (the last one again beyond hi), and which tiles are neighbours in memory."""
    inner = array.shape[2]
    far, near = apart(array, 0), apart(array, 2)
    o, i = p // inner, p % inner
    for k in range(tiles):
        put(beside, k, near == 1 and i + step <= inner and p + step <= hi)
        for lane in range(step):
            put(places, k * step + lane, o * far + i * near)
            if p + lane + 1 < hi:
                i += 1
                if i == inner:
                    i = 0
                    o += 1
        p += step


@njit(**STRICT)
def _bring(array, n, tiles, places, beside, slab):
    """Fill a slab: per tile, n vectors."""
    base = pointer(array, 0)
    step = lanes(base)
    for c in range(n):
        row = moved(base, c * apart(array, 1))
        for k in range(tiles):
            if get(beside, k):
                v = load(row, get(places, k * step))
            else:
                v = gather(row, moved(places, k * step), 0)
            store(slab, (k * n + c) * step, v)


@njit(**STRICT)
def _carry(array, n, tiles, places, beside, slab):
    """Write a slab out."""
    base = pointer(array, 0)
    step = lanes(base)
    for c in range(n):
        row = moved(base, c * apart(array, 1))
        for k in range(tiles):
            v = load(slab, (k * n + c) * step)
            if get(beside, k):
                store(row, get(places, k * step), v)
            else:
                scatter(row, moved(places, k * step), 0, v)


@njit(**STRICT)
def _top(tile, n):
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
    for k in range(min(count, step)):
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
    used = min(n, step)
    half = step // 2
    while half > 0:
        for k in range(min(half, used - half)):
            store(doubles, k * step, load_doubles(doubles, k * step, like) + load_doubles(doubles, (k + half) * step, like))
        used = min(used, half)
        half //= 2
    return load_doubles(doubles, 0, like)


@njit(**STRICT)
def _sum(tile, n, m, keep, array, places, sums, doubles):
    """``(s, rest)`` per lane; ``keep`` (which may be ``tile``: then a long row is read again) takes the scaled exponentials.

    Short rows are always summed with every digit: with few classes, some lane is nearly always confident.
    """
    step = lanes(tile)
    inverse = 1.0 / np.float64(unit(get(tile, 0)))
    zero = splat(tile, 0.0)
    total = doubled(zero)
    rest = total
    confident = equal(zero, 0.0)
    if n > SHORT:
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
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
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            for c in range(start, stop):
                v = load(tile, c * step)
                if n > SHORT:  # the tile may hold the exponentials by now
                    v = gather(pointer(array, c * apart(array, 1)), places, 0)
                t = v - m
                e = exp_scaled(t, lost(v, m, t))
                if keep is not None:
                    store(keep, c * step, select(confident, e, load(keep, c * step)))
                top = equal(t, 0.0)
                ties = ties + select(top, zero + 1.0, 0.0)
                _add(sums, c, select(top, 0.0, e))
            _flush(sums, start, stop, doubles)
        exact = _fold(sums, n, doubles) * inverse + doubled(ties)
        rest = select(confident, exact, rest)
        total = select(confident, exact + 1.0, total)
    return rounded(total, m), rounded(rest, m)


# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    size = _tiles(n, step)
    buffer = room(base, (size * n + 2 * step) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, sums = pointer(buffer, 0), pointer(buffer, size * n * step)
    offsets = np.empty(size * (step + 1), np.int64)
    places, beside = pointer(offsets, 0), pointer(offsets, size * step)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        _map(x, p, hi, step, tiles, places, beside)
        _bring(x, n, tiles, places, beside, slab)
        for k in range(tiles):
            tile = moved(slab, k * n * step)
            m = _top(tile, n)
            _, rest = _sum(tile, n, m, None, x, moved(places, k * step), sums, doubles)
            log_s = log1p(rest)
            for c in range(n):
                store(tile, c * step, (load(tile, c * step) - m) - log_s)
        _map(out, p, hi, step, tiles, places, beside)
        _carry(out, n, tiles, places, beside, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)


@njit(**STRICT)
def _total(tile, n, sums, doubles):
    """Sum over the classes of a tile, in float64."""
    step = lanes(tile)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for c in range(start, stop):
            _add(sums, c, load(tile, c * step))
        _flush(sums, start, stop, doubles)
    return _fold(sums, n, doubles)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    base = pointer(y, 0)
    step = lanes(base)
    size = _tiles(2 * n, step)
    buffer = room(base, (2 * size * n + 2 * step) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, upstream, sums = pointer(buffer, 0), pointer(buffer, size * n * step), pointer(buffer, 2 * size * n * step)
    offsets = np.empty(size * (step + 1), np.int64)
    places, beside = pointer(offsets, 0), pointer(offsets, size * step)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        _map(y, p, hi, step, tiles, places, beside)
        _bring(y, n, tiles, places, beside, slab)
        _map(g, p, hi, step, tiles, places, beside)
        _bring(g, n, tiles, places, beside, upstream)
        for k in range(tiles):
            tile, above = moved(slab, k * n * step), moved(upstream, k * n * step)
            factor = rounded(_total(above, n, sums, doubles) / np.float64(unit(get(tile, 0))), load(tile, 0))
            for c in range(n):
                e = exp_scaled(minimum(load(tile, c * step), TOP), None)
                store(tile, c * step, load(above, c * step) - e * factor)
        _map(out, p, hi, step, tiles, places, beside)
        _carry(out, n, tiles, places, beside, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def _numbers(array, p, hi, into):
    """One number per position of a tile; an array of one number has it for all."""
    step = lanes(into)
    if array.size == 1:
        return splat(into, array[0])
    if p + step <= hi:
        return load(pointer(array, p), 0)
    for lane in range(step):
        put(into, lane, array[min(p + lane, hi - 1)])
    return load(into, 0)


@njit(**STRICT)
def _hits(target, mask, counts, p, hi, step, hits):
    """Where each lane's target stands in a tile; class 0 for a row that does not count (its target may be any number)."""
    for lane in range(step):
        q = min(p + lane, hi - 1)
        put(hits, lane, (np.int64(target[q]) & mask if counts[q] != 0 else 0) * step + lane)


@njit(**STRICT)
def _put_losses(loss, p, hi, values, into):
    if p + lanes(into) <= hi:
        store(pointer(loss, p), 0, values)
        return
    store(into, 0, values)
    for lane in range(hi - p):
        loss[p + lane] = get(into, lane)


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    one = unit(loss.dtype.type(0))
    size = _tiles(n, step)
    buffer = room(base, (size * n + 2 * step + 1) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, sums, numbers = pointer(buffer, 0), pointer(buffer, size * n * step), pointer(buffer, (size * n + 2 * step) * step)
    offsets = np.empty(size * (step + 1) + step, np.int64)
    places, beside, hits = pointer(offsets, 0), pointer(offsets, size * step), pointer(offsets, size * (step + 1))
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        _map(x, p, hi, step, tiles, places, beside)
        _bring(x, n, tiles, places, beside, slab)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            _hits(target, mask, scale, q, hi, step, hits)
            m = _top(tile, n)
            x_y = gather(tile, hits, 0)
            if out is None:
                s, rest = _sum(tile, n, m, None, x, moved(places, k * step), sums, doubles)
            else:
                s, rest = _sum(tile, n, m, tile, x, moved(places, k * step), sums, doubles)
            each = _numbers(scale, q, hi, numbers)
            nothing = equal(each, 0.0)
            _put_losses(loss, q, hi, select(nothing, 0.0, pick_loss(each, log1p(rest), m - x_y)), numbers)
            if out is not None:
                coef = each * _numbers(upstream, q, hi, numbers)
                nothing = either(nothing, equal(coef, 0.0))
                others = select(less(x_y, m), s - gather(tile, hits, 0) / one, rest)
                factor = coef / s / one
                for c in range(n):
                    store(tile, c * step, select(nothing, 0.0, load(tile, c * step) * factor))
                scatter(tile, hits, 0, select(nothing, 0.0, pull(coef, others, s)))
        if out is not None:
            _map(out, p, hi, step, tiles, places, beside)
            _carry(out, n, tiles, places, beside, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)


# ------------------------------ cross entropy, any target masses ------------------------------


@njit(**STRICT)
def _masses(w, y, a, b, c, step):
    """q = w (a y + b) of class c in every lane; without y, w b."""
    if y is None:
        return b * get(w, c)
    return fma(load(y, c * step), a, b) * get(w, c)


@njit(**STRICT)
def _tile_masses(tile, w, y, a, b, m, n, sums, doubles):
    """``(sum q, sum q (m - x))`` per lane; a class without mass adds 0 even at -inf."""
    step = lanes(tile)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for c in range(start, stop):
            _add(sums, c, _masses(w, y, a, b, c, step))
        _flush(sums, start, stop, doubles)
    mass = _fold(sums, n, doubles)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for c in range(start, stop):
            q = _masses(w, y, a, b, c, step)
            _add(sums, c, select(equal(q, 0.0), 0.0, q * (m - load(tile, c * step))))
        _flush(sums, start, stop, doubles)
    return rounded(mass, m), rounded(_fold(sums, n, doubles), m)


@njit(**STRICT)
def _write_masses(keep, w, y, a, b, n, total, s, rest, g, nothing):
    """g (total p - q) in place of the exponentials, as in ``rows.py``."""
    step = lanes(keep)
    one = unit(get(keep, 0))
    top = select(less(s, CONFIDENT), s * 0.0 + one, -1.0)
    factor = total / s / one
    away = total * (rest / s)
    for c in range(n):
        e = load(keep, c * step)
        q = _masses(w, y, a, b, c, step)
        d = select(equal(e, top), (total - q) - away, e * factor - q)
        store(keep, c * step, select(nothing, 0.0, d * g))


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    step = lanes(base)
    size = _tiles(3 * n, step)
    each = size * n * step
    buffer = room(base, 3 * each + (2 * step + 1) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, kept, masses, sums = pointer(buffer, 0), pointer(buffer, each), pointer(buffer, 2 * each), pointer(buffer, 3 * each)
    numbers = moved(sums, 2 * step * step)
    offsets = np.empty(size * (step + 1), np.int64)
    places, beside = pointer(offsets, 0), pointer(offsets, size * step)
    share, floor = splat(base, a), splat(base, b)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        _map(y, p, hi, step, tiles, places, beside)
        _bring(y, n, tiles, places, beside, masses)
        _map(x, p, hi, step, tiles, places, beside)
        _bring(x, n, tiles, places, beside, slab)
        for k in range(tiles):
            shift, q = k * n * step, p + k * step
            tile, keep, mass = moved(slab, shift), moved(kept, shift), moved(masses, shift)
            m = _top(tile, n)
            s, rest = _sum(tile, n, m, keep, x, moved(places, k * step), sums, doubles)
            total, gaps = _tile_masses(tile, classes, mass, share, floor, m, n, sums, doubles)
            _put_losses(loss, q, hi, mass_loss(total, log1p(rest), gaps), numbers)
            if out is not None:
                g = _numbers(upstream, q, hi, numbers)
                _write_masses(keep, classes, mass, share, floor, n, total, s, rest, g, equal(g, 0.0))
        if out is not None:
            _map(out, p, hi, step, tiles, places, beside)
            _carry(out, n, tiles, places, beside, kept)
    hold(buffer)
    hold(wide)
    hold(offsets)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    step = lanes(base)
    one = unit(loss.dtype.type(0))
    size = _tiles(2 * n, step)
    each = size * n * step
    buffer = room(base, 2 * each + (2 * step + 1) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, kept, sums = pointer(buffer, 0), pointer(buffer, each), pointer(buffer, 2 * each)
    numbers = moved(sums, 2 * step * step)
    offsets = np.empty(size * (step + 1) + step, np.int64)
    places, beside, hits = pointer(offsets, 0), pointer(offsets, size * step), pointer(offsets, size * (step + 1))
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        _map(x, p, hi, step, tiles, places, beside)
        _bring(x, n, tiles, places, beside, slab)
        for k in range(tiles):
            tile, keep, q = moved(slab, k * n * step), moved(kept, k * n * step), p + k * step
            _hits(target, mask, spread, q, hi, step, hits)
            m = _top(tile, n)
            x_y = gather(tile, hits, 0)
            s, rest = _sum(tile, n, m, keep, x, moved(places, k * step), sums, doubles)
            hit, b = _numbers(scale, q, hi, numbers), _numbers(spread, q, hi, numbers)
            nothing = equal(b, 0.0)
            mass, gaps = _tile_masses(tile, classes, None, b, b, m, n, sums, doubles)
            log_s = log1p(rest)
            value = mass_loss(mass, log_s, gaps)
            value = select(equal(hit, 0.0), value, value + pick_loss(hit, log_s, m - x_y))
            _put_losses(loss, q, hi, select(nothing, 0.0, value), numbers)
            if out is not None:
                g = _numbers(upstream, q, hi, numbers)
                nothing = either(nothing, equal(g, 0.0))
                total = mass + hit
                for lane in range(step):
                    put(numbers, lane, get(classes, get(hits, lane) // step))
                own = load(numbers, 0) * b
                d = (gather(keep, hits, 0) * (total / s / one) - own) - hit
                at_top = select(less(s, CONFIDENT), (mass - own) - total * (rest / s), d)
                d = select(less(x_y, m), d, at_top)
                _write_masses(keep, classes, None, b, b, n, total, s, rest, g, nothing)
                scatter(keep, hits, 0, select(nothing, 0.0, d * g))
        if out is not None:
            _map(out, p, hi, step, tiles, places, beside)
            _carry(out, n, tiles, places, beside, kept)
    hold(buffer)
    hold(wide)
    hold(offsets)
