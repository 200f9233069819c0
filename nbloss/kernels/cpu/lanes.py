"""Floor 1: short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

Slabs of tiles are brought into L1, worked on there, and carried out (``tiles.py``): rows may lie anywhere in memory. What is found out
about a tile's rows is laid aside, and the next step begins when all tiles of the slab are through the one before: a tile of few classes
is one long chain of dependent instructions, and a processor can only work on several chains if they are short.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_sums import SHORT, lane_sums, tops, total
from nbloss.kernels.cpu.memory import (
    apart,
    get,
    get_integer,
    hold,
    lanes,
    load,
    load_integers,
    moved,
    pointer,
    prefetch_read,
    prefetch_write,
    put,
    room,
    splat,
    store,
)
from nbloss.kernels.cpu.row_sums import pick_loss, pull
from nbloss.kernels.cpu.simd import either, equal, less, minimum, rounded, select
from nbloss.kernels.cpu.tiles import NOWHERE, bring, carry, map_tile, slab_tiles
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit

LONGEST = 4096  # classes of one tile: 256 kB of buffer


@njit(**STRICT)
def _fetch(base, into, between, n, offset, ahead):
    """Fetch what the next slab has in this tile's place, and the lines that this tile will be written to."""
    if offset != NOWHERE:
        for c in range(n):
            prefetch_read(base, offset + ahead + c * between)
            if into is not None:
                prefetch_write(into, offset + c * between)


# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    size = slab_tiles(n, step)
    buffer = room(base, (size * (n + 2) + 2 * step) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, sums, found = pointer(buffer, 0), pointer(buffer, size * n * step), pointer(buffer, (size * n + 2 * step) * step)
    offsets = np.empty(size + step, np.int64)
    places = pointer(offsets, 0)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        bring(x, n, p, hi, tiles, places, slab)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            _fetch(base, pointer(out, 0), apart(x, 1), n, get(places, k), size * step)
            if n > SHORT:
                map_tile(x.shape[2], apart(x, 0), apart(x, 2), q, hi, step, moved(places, size))
            m = tops(tile, n)
            _, rest = lane_sums(tile, n, m, None, base, apart(x, 1), moved(places, size), sums, doubles)
            store(found, 2 * k * step, m)
            store(found, (2 * k + 1) * step, rest)
        for k in range(tiles):
            tile = moved(slab, k * n * step)
            m, log_s = load(found, 2 * k * step), log1p(load(found, (2 * k + 1) * step))
            for c in range(n):
                store(tile, c * step, (load(tile, c * step) - m) - log_s)
        carry(out, n, p, hi, tiles, places, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    base = pointer(y, 0)
    step = lanes(base)
    size = slab_tiles(2 * n, step)
    buffer = room(base, (2 * size * n + 2 * step) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, upstream, sums = pointer(buffer, 0), pointer(buffer, size * n * step), pointer(buffer, 2 * size * n * step)
    offsets = np.empty(size + step, np.int64)
    places = pointer(offsets, 0)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        bring(y, n, p, hi, tiles, places, slab)
        bring(g, n, p, hi, tiles, places, upstream)
        for k in range(tiles):
            tile, above = moved(slab, k * n * step), moved(upstream, k * n * step)
            factor = rounded(total(above, n, sums, doubles) / np.float64(unit(get(tile, 0))), load(tile, 0))
            for c in range(n):
                e = exp_scaled(minimum(load(tile, c * step), TOP), None)
                store(tile, c * step, load(above, c * step) - e * factor)
        carry(out, n, p, hi, tiles, places, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def numbers_of(base, count, p, hi, into):
    """One number per position of a tile; an array of one number has it for all."""
    step = lanes(into)
    if count == 1:
        return splat(into, get(base, 0))
    if p + step <= hi:
        return load(base, p)
    for lane in range(step):
        put(into, lane, get(base, min(p + lane, hi - 1)))
    return load(into, 0)


@njit(**STRICT)
def put_losses(losses, p, hi, values, into):
    if p + lanes(into) <= hi:
        store(losses, p, values)
        return
    store(into, 0, values)
    for lane in range(hi - p):
        put(losses, p + lane, get(into, lane))


@njit(**STRICT)
def _classes_of(targets, mask, p, hi, into):
    """The targets of a tile, as floats. They are compared with each class in turn: numbers written one by one could not be read back as a
    vector before the processor's stores have drained, which takes longer than a short row."""
    if p + lanes(into) <= hi:
        return load_integers(moved(targets, p), mask, load(into, 0))
    for lane in range(lanes(into)):
        put(into, lane, np.int32(get_integer(targets, min(p + lane, hi - 1)) & mask))
    return load(into, 0)


@njit(**STRICT)
def _picked(tile, n, y):
    """Each lane's number of class y; 0 where that is none (a row that does not count may have any target)."""
    step = lanes(tile)
    result = splat(tile, 0.0)
    for c in range(n):
        result = select(equal(y, 0.0), load(tile, c * step), result)
        y = y - 1.0
    return result


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    one = unit(loss.dtype.type(0))
    size = slab_tiles(n, step)
    buffer = room(base, (size * (n + 4) + 2 * step + 1) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, sums, numbers = pointer(buffer, 0), pointer(buffer, size * n * step), pointer(buffer, (size * n + 2 * step) * step)
    found = moved(numbers, step)
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    offsets = np.empty(size + step, np.int64)
    places = pointer(offsets, 0)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        bring(x, n, p, hi, tiles, places, slab)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            if out is None:
                _fetch(base, None, apart(x, 1), n, get(places, k), size * step)
            else:
                _fetch(base, pointer(out, 0), apart(x, 1), n, get(places, k), size * step)
            y = _classes_of(targets, mask, q, hi, numbers)
            if n > SHORT:
                map_tile(x.shape[2], apart(x, 0), apart(x, 2), q, hi, step, moved(places, size))
            m = tops(tile, n)
            x_y = _picked(tile, n, y)
            if out is None:
                _, rest = lane_sums(tile, n, m, None, base, apart(x, 1), moved(places, size), sums, doubles)
            else:
                s, rest = lane_sums(tile, n, m, tile, base, apart(x, 1), moved(places, size), sums, doubles)
                store(found, (4 * k + 2) * step, s)
                store(found, (4 * k + 3) * step, y)
            store(found, 4 * k * step, m - x_y)
            store(found, (4 * k + 1) * step, rest)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            gap, rest = load(found, 4 * k * step), load(found, (4 * k + 1) * step)
            each = numbers_of(scales, scale.size, q, hi, numbers)
            nothing = equal(each, 0.0)
            put_losses(losses, q, hi, select(nothing, 0.0, pick_loss(each, log1p(rest), gap)), numbers)
            if out is not None:
                s, y = load(found, (4 * k + 2) * step), load(found, (4 * k + 3) * step)
                coef = each * numbers_of(pointer(upstream, 0), upstream.size, q, hi, numbers)
                nothing = either(nothing, equal(coef, 0.0))
                others = select(less(0.0, gap), s - _picked(tile, n, y) / one, rest)
                factor, at_y = coef / s / one, pull(coef, others, s)
                for c in range(n):
                    d = select(equal(y, 0.0), at_y, load(tile, c * step) * factor)
                    store(tile, c * step, select(nothing, 0.0, d))
                    y = y - 1.0
        if out is not None:
            carry(out, n, p, hi, tiles, places, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)
