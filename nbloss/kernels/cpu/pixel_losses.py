"""The cross entropy of pixels without a gradient: nothing is written but a loss each, so memory is only read.

The arithmetic is that of ``lanes.py``, to the last bit. Nothing needs to be kept of a pixel but three sums, so classes are walked four at a
time in runs of sixteen vectors, as memory likes it, and every number is seen once.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.bare_sums import add_four, add_one, summed_up
from nbloss.kernels.cpu.lane_losses import FOUND, classes_of, exact_tile, laid_aside, logarithms, numbers_of, tile_losses
from nbloss.kernels.cpu.lane_sums import sums_room
from nbloss.kernels.cpu.memory import apart, lanes, load, load_first, moved, pointer, prefetch_read, smaller, splat, store, to_aligned
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.simd import either, equal, every_lane, four_of
from nbloss.kernels.cpu.tiles import bring, place, slab_end
from nbloss.kernels.cpu.tuning import SHORT
from nbloss.kernels.cpu.vecmath import STRICT, exp_bare

RUN = 16  # tiles


@njit(**STRICT)
def _line(row, between, c, n, k, count):
    """The k-th vector of pixels of class c; the class after the next three, or of the next run, is asked for."""
    step = lanes(row)
    later = (c + 4) * between if c + 4 < n else (c + 4 - n) * between + RUN * step
    prefetch_read(row, later + k)
    return load_first(row, c * between + k, count - k, 0.0)


@njit(**STRICT)
def losses(x, target, mask, scale, loss, lo, hi):
    n = smaller(x.shape[1], SHORT)  # which says to the compiler that there are no more
    inner, between = x.shape[2], apart(x, 1)
    base = pointer(x, 0)
    step = lanes(base)
    most = RUN * step
    owns = room(base, (4 + FOUND) * most + (sums_room(step) + 1 + n) * step)
    totals, lows, classes, found = moved(owns, most), moved(owns, 2 * most), moved(owns, 3 * most), moved(owns, 4 * most)
    sums = moved(found, FOUND * most)
    numbers = moved(sums, sums_room(step) * step)
    spare = moved(numbers, step)
    doubles, places = local(np.float64, 256), local(np.int64, 16)
    targets, scales, results = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    zero, before, first = splat(base, 0.0), to_aligned(base), n & 3
    p = lo
    while p < hi:
        stop = slab_end(inner, p, hi, most, before)
        count, row = stop - p, place(x, p)
        for k in range(0, count, step):
            y = classes_of(targets, target.size, mask, p + k, stop, numbers)
            prefetch_read(targets, p + k + most)
            own = total = zero
            store(classes, k, y)
            for c in range(first):
                own, total = add_one(exp_bare(_line(row, between, c, n, k, count)), y - c, own, total)
            store(owns, k, own)
            store(totals, k, total)
            store(lows, k, zero)
        for c in range(first, n, 4):
            for k in range(0, count, step):
                a, b = _line(row, between, c, n, k, count), _line(row, between, c + 1, n, k, count)
                d, e = _line(row, between, c + 2, n, k, count), _line(row, between, c + 3, n, k, count)
                y = load(classes, k) - c
                own, total, low = add_four(exp_bare(four_of(a, b, d, e)), y, load(owns, k), load(totals, k), load(lows, k))
                store(owns, k, own)
                store(totals, k, total)
                store(lows, k, low)
        for k in range(0, count, step):
            at, y = moved(found, k), load(classes, k)
            uncounted = equal(numbers_of(scales, scale.size, p + k, stop, numbers), 0.0)
            own, others, low, s = summed_up(load(owns, k), load(totals, k), load(lows, k))
            enough = either(uncounted, laid_aside(at, RUN, own, others, low, s, y, None))
            if not every_lane(enough):
                bring(x, n, p + k, smaller(p + k + step, stop), places, spare)
                exact_tile(at, RUN, spare, n, y, enough, None, spare, sums, doubles)
        logarithms(found, RUN, (count + step - 1) // step, None)
        for k in range(0, count, step):
            tile_losses(moved(found, k), RUN, numbers_of(scales, scale.size, p + k, stop, numbers), results, p + k, stop)
        p = stop
    release(owns)
