"""``lanes.py`` for any target masses: smoothed class numbers, and probabilities."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_losses import numbers_of
from nbloss.kernels.cpu.lane_sums import lane_sums, masses, sums_room, tops, total_masses
from nbloss.kernels.cpu.memory import (
    gather,
    get,
    get_integer,
    lanes,
    load,
    moved,
    pointer,
    put,
    scatter,
    smaller,
    splat,
    store,
    store_first,
)
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.row_sums import CONFIDENT, mass_loss, pick_loss
from nbloss.kernels.cpu.simd import either, equal, less, select
from nbloss.kernels.cpu.tiles import bring, carry, line_start, slab_end, slab_tiles
from nbloss.kernels.cpu.vecmath import STRICT, log1p, unit


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
        q = masses(w, y, a, b, c, step)
        d = select(equal(e, top), (total - q) - away, e * factor - q)
        store(keep, c * step, select(nothing, 0.0, d * g))


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    step = lanes(base)
    size = slab_tiles(3 * n, step)
    each = size * n * step
    buffer = room(base, 3 * each + (sums_room(step) + 1) * step)
    doubles = local(np.float64, 256)
    slab, kept, targets, sums = buffer, moved(buffer, each), moved(buffer, 2 * each), moved(buffer, 3 * each)
    numbers, losses = moved(sums, sums_room(step) * step), pointer(loss, 0)
    places = local(np.int64, 16)
    share, floor = splat(base, a), splat(base, b)
    before = line_start(base, out)
    p = lo
    while p < hi:
        stop = slab_end(x.shape[2], p, hi, size * step, before)
        tiles = (stop - p + step - 1) // step
        bring(y, n, p, stop, places, targets)
        bring(x, n, p, stop, places, slab)
        for k in range(tiles):
            shift, q = k * n * step, p + k * step
            tile, keep, mass = moved(slab, shift), moved(kept, shift), moved(targets, shift)
            m = tops(tile, n)
            s, rest = lane_sums(tile, n, m, keep, None, sums, doubles)
            total, gaps = total_masses(tile, classes, mass, share, floor, m, n, sums, doubles)
            store_first(losses, q, stop - q, mass_loss(total, log1p(rest), gaps))
            if out is not None:
                g = numbers_of(pointer(upstream, 0), upstream.size, q, stop, numbers)
                _write_masses(keep, classes, mass, share, floor, n, total, s, rest, g, equal(g, 0.0))
        if out is not None:
            carry(out, n, p, stop, places, kept, base)
        p = stop
    release(buffer)


@njit(**STRICT)
def _find_hits(targets, mask, counts, p, hi, step, hits):
    """Where each lane's target stands in a tile; class 0 for a row that does not count (its target may be any number)."""
    for lane in range(step):
        q = smaller(p + lane, hi - 1)
        put(hits, lane, (get_integer(targets, q) & mask if get(counts, q) != 0 else 0) * step + lane)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    step = lanes(base)
    one = unit(loss.dtype.type(0))
    size = slab_tiles(2 * n, step)
    each = size * n * step
    buffer = room(base, 2 * each + (sums_room(step) + 1) * step)
    doubles = local(np.float64, 256)
    slab, kept, sums = buffer, moved(buffer, each), moved(buffer, 2 * each)
    numbers, losses = moved(sums, sums_room(step) * step), pointer(loss, 0)
    places, hits = local(np.int64, 16), local(np.int64, 16)
    spreads = pointer(spread, 0)
    before = line_start(base, out)
    p = lo
    while p < hi:
        stop = slab_end(x.shape[2], p, hi, size * step, before)
        tiles = (stop - p + step - 1) // step
        bring(x, n, p, stop, places, slab)
        for k in range(tiles):
            tile, keep, q = moved(slab, k * n * step), moved(kept, k * n * step), p + k * step
            _find_hits(pointer(target, 0), mask, spreads, q, stop, step, hits)
            m = tops(tile, n)
            x_y = gather(tile, hits, 0)
            s, rest = lane_sums(tile, n, m, keep, None, sums, doubles)
            hit, b = numbers_of(pointer(scale, 0), scale.size, q, stop, numbers), numbers_of(spreads, spread.size, q, stop, numbers)
            nothing = equal(b, 0.0)
            mass, gaps = total_masses(tile, classes, None, b, b, m, n, sums, doubles)
            log_s = log1p(rest)
            value = mass_loss(mass, log_s, gaps)
            value = select(equal(hit, 0.0), value, value + pick_loss(hit, log_s, m - x_y))
            store_first(losses, q, stop - q, select(nothing, 0.0, value))
            if out is not None:
                g = numbers_of(pointer(upstream, 0), upstream.size, q, stop, numbers)
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
            carry(out, n, p, stop, places, kept, base)
        p = stop
    release(buffer)
