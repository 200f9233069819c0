"""Floor 1: the cross entropy of pixels: few classes, on an axis of their own, and positions side by side in input and output.

The arithmetic is that of ``lanes.py``, to the last bit; memory is walked as ``moves.py`` says.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_losses import (
    FOUND,
    bare_tile,
    blend,
    classes_of,
    exact_tile,
    logarithms,
    numbers_of,
    tile_factors,
    tile_losses,
)
from nbloss.kernels.cpu.lane_sums import SHORT, sums_room
from nbloss.kernels.cpu.memory import apart, lanes, moved, pointer, prefetch_read, smaller, store, to_aligned
from nbloss.kernels.cpu.moves import TILES, move, move_in, move_out
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.simd import equal, every_lane
from nbloss.kernels.cpu.streams import pixels_pass
from nbloss.kernels.cpu.tiles import bring, line_start, slab_end
from nbloss.kernels.cpu.vecmath import STRICT

LEAST = 64  # positions of an image: shorter ones are walked in ``lanes.py``


def walks(x, out):
    """Whether this is the way for arrays (outer, C, inner) that ``lanes.py`` could walk, too."""
    side_by_side = x.strides[2] == x.itemsize and (out is None or out.strides[2] == out.itemsize)
    return side_by_side and x.shape[2] >= LEAST and x.shape[1] <= SHORT


@njit(**STRICT)
def _first(array, p):
    """Where position p's class 0 lies."""
    inner = array.shape[2]
    return pointer(array, p // inner * apart(array, 0) + p % inner)


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = smaller(x.shape[1], SHORT)  # which says to the compiler that there are no more
    inner, between = x.shape[2], apart(x, 1)
    base = pointer(x, 0)
    step = lanes(base)
    full = TILES * step
    area = n * full
    buffer = room(base, 3 * area + (TILES * (FOUND + 3) + sums_room(step) + 1 + n) * step)
    doubles = local(np.float64, 256)
    slab, following, last = buffer, moved(buffer, area), moved(buffer, 2 * area)
    found = moved(buffer, 3 * area)
    terms = moved(found, TILES * FOUND * step)
    sums = moved(terms, TILES * 3 * step)
    numbers = moved(sums, sums_room(step) * step)
    spare = moved(numbers, step)
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    places = local(np.int64, 16)
    before = line_start(base, out)
    written, past = 0, False
    if out is not None:
        far, streamed = apart(out, 1), pixels_pass(out, base)
        line = pointer(out, 0)
    p, stop = lo, slab_end(inner, lo, hi, full, before)
    for c in range(n):
        move_in(n, c, (_first(x, p), between, stop - p, slab))
    while p < hi:
        after = slab_end(inner, stop, hi, full, before) if stop < hi else stop
        inward = _first(x, stop), between, after - stop, following
        if out is None:
            moving = n, inward, None
        else:
            moving = n, inward, (line, far, written, last, terms, past)
        run = 0
        for q in range(p, stop, step):
            k = (q - p) // step
            tile, at = moved(slab, k * n * step), moved(found, k * step)
            prefetch_read(targets, q + 2 * full)
            y = classes_of(targets, target.size, mask, q, stop, numbers)
            uncounted = equal(numbers_of(scales, scale.size, q, stop, numbers), 0.0)
            if out is None:
                enough = bare_tile(at, TILES, tile, n, y, uncounted, None, moving, run)
            else:
                enough = bare_tile(at, TILES, tile, n, y, uncounted, tile, moving, run)
            if not every_lane(enough):
                bring(x, n, q, smaller(q + step, stop), places, spare)
                if out is None:
                    exact_tile(at, TILES, spare, n, y, enough, None, spare, sums, doubles)
                else:
                    exact_tile(at, TILES, spare, n, y, enough, tile, spare, sums, doubles)
                    blend(tile, spare, n, enough)
            run += (n + 3) // 4
        for c in range(run, n):
            move(moving, c)
        logarithms(found, TILES, TILES, out)
        for q in range(p, stop, step):
            k = (q - p) // step
            tile, at = moved(slab, k * n * step), moved(found, k * step)
            each = numbers_of(scales, scale.size, q, stop, numbers)
            tile_losses(at, TILES, each, losses, q, stop)
            if out is not None:
                above = numbers_of(pointer(upstream, 0), upstream.size, q, stop, numbers)
                factor, at_y, y = tile_factors(at, TILES, tile, n, each, above, True)
                term = moved(terms, 3 * k * step)
                store(term, 0, factor)
                store(term, step, at_y)
                store(term, 2 * step, y)
        if out is not None:
            line, written = _first(out, p), stop - p
            past = streamed and to_aligned(line) == 0 and far % step == 0
        slab, following, last = following, last, slab
        p, stop = stop, after
    if out is not None:
        for c in range(n):
            move_out(n, c, (line, far, written, last, terms, past))
    release(buffer)
