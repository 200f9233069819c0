"""Floor 1: short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

Slabs of tiles are brought into L1, worked on there, and carried out (``tiles.py``): rows may lie anywhere in memory.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_sums import lane_sums, tops, total
from nbloss.kernels.cpu.memory import gather, get, hold, lanes, load, moved, pointer, put, room, scatter, splat, store
from nbloss.kernels.cpu.row_sums import pick_loss, pull
from nbloss.kernels.cpu.simd import either, equal, less, minimum, rounded, select
from nbloss.kernels.cpu.tiles import bring, carry, slab_tiles
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit

LONGEST = 4096  # classes of one tile: 256 kB of buffer


# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    size = slab_tiles(n, step)
    buffer = room(base, (size * n + 2 * step) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, sums = pointer(buffer, 0), pointer(buffer, size * n * step)
    offsets = np.empty(size + step, np.int64)
    places = pointer(offsets, 0)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        bring(x, n, p, hi, tiles, places, slab)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            m = tops(tile, n)
            _, rest = lane_sums(tile, n, m, None, x, q, hi, places, sums, doubles)
            log_s = log1p(rest)
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
def numbers_of(array, p, hi, into):
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
def find_hits(target, mask, counts, p, hi, step, hits):
    """Where each lane's target stands in a tile; class 0 for a row that does not count (its target may be any number)."""
    for lane in range(step):
        q = min(p + lane, hi - 1)
        put(hits, lane, (np.int64(target[q]) & mask if counts[q] != 0 else 0) * step + lane)


@njit(**STRICT)
def put_losses(loss, p, hi, values, into):
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
    size = slab_tiles(n, step)
    buffer = room(base, (size * n + 2 * step + 1) * step)
    wide = np.empty(step * step, np.float64)
    doubles = pointer(wide, 0)
    slab, sums, numbers = pointer(buffer, 0), pointer(buffer, size * n * step), pointer(buffer, (size * n + 2 * step) * step)
    offsets = np.empty(size + 2 * step, np.int64)
    places, hits = pointer(offsets, 0), pointer(offsets, size + step)
    for p in range(lo, hi, size * step):
        tiles = min(size, (hi - p + step - 1) // step)
        bring(x, n, p, hi, tiles, places, slab)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            find_hits(target, mask, scale, q, hi, step, hits)
            m = tops(tile, n)
            x_y = gather(tile, hits, 0)
            if out is None:
                s, rest = lane_sums(tile, n, m, None, x, q, hi, places, sums, doubles)
            else:
                s, rest = lane_sums(tile, n, m, tile, x, q, hi, places, sums, doubles)
            each = numbers_of(scale, q, hi, numbers)
            nothing = equal(each, 0.0)
            put_losses(loss, q, hi, select(nothing, 0.0, pick_loss(each, log1p(rest), m - x_y)), numbers)
            if out is not None:
                coef = each * numbers_of(upstream, q, hi, numbers)
                nothing = either(nothing, equal(coef, 0.0))
                others = select(less(x_y, m), s - gather(tile, hits, 0) / one, rest)
                factor = coef / s / one
                for c in range(n):
                    store(tile, c * step, select(nothing, 0.0, load(tile, c * step) * factor))
                scatter(tile, hits, 0, select(nothing, 0.0, pull(coef, others, s)))
        if out is not None:
            carry(out, n, p, hi, tiles, places, slab)
    hold(buffer)
    hold(wide)
    hold(offsets)
