"""Short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

Slabs of tiles are brought into L1, worked on there, and carried out (``tiles.py``): rows may lie anywhere in memory. What is found out
about a tile's rows is laid aside, and the next step begins when all tiles of the slab are through the one before: a tile of few classes
is one long chain of dependent instructions, and a processor can only work on several chains if they are short.
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
from nbloss.kernels.cpu.lane_sums import lane_sums, sums_room, tops, total
from nbloss.kernels.cpu.memory import get, lanes, load, moved, pointer, smaller, store
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.simd import equal, every_lane, less, minimum, rounded, select
from nbloss.kernels.cpu.tiles import (
    MOST,
    bring,
    carry,
    classes_fetched,
    fetch,
    fetch_lines,
    fetch_rows,
    line_start,
    packed,
    slab_end,
    slab_lines,
    slab_tiles,
)
from nbloss.kernels.cpu.tuning import SHORT
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit

# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    size = slab_tiles(n, step)
    buffer = room(base, (size * (n + 2) + sums_room(step)) * step)
    doubles = local(np.float64, 256)
    slab, sums, found = buffer, moved(buffer, size * n * step), moved(buffer, (size * n + sums_room(step)) * step)
    places = local(np.int64, 16)
    before = line_start(base, out)
    rows, lines = packed(x), packed(out)
    classes_in, classes_out = classes_fetched(x, n), classes_fetched(out, n)
    p = lo
    while p < hi:
        stop = slab_end(x.shape[2], p, hi, size * step, before)
        tiles = (stop - p + step - 1) // step
        ahead = bring(x, n, p, stop, places, slab)
        written = slab_lines(out, n, p, stop, base)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            fetch(x, classes_in, ahead + k * step)
            fetch_rows(base, rows, stop + k * step)
            fetch_lines(out, lines, q, classes_out, written + k * step)
            m = tops(tile, n)
            _, rest = lane_sums(tile, n, m, None, None, sums, doubles)
            store(found, 2 * k * step, m)
            store(found, (2 * k + 1) * step, rest)
        for k in range(tiles):
            tile = moved(slab, k * n * step)
            m, log_s = load(found, 2 * k * step), log1p(load(found, (2 * k + 1) * step))
            for c in range(n):
                store(tile, c * step, (load(tile, c * step) - m) - log_s)
        carry(out, n, p, stop, places, slab, base)
        p = stop
    release(buffer)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    base = pointer(y, 0)
    step = lanes(base)
    size = slab_tiles(2 * n, step)
    buffer = room(base, (2 * size * n + sums_room(step)) * step)
    doubles = local(np.float64, 256)
    slab, upstream, sums = buffer, moved(buffer, size * n * step), moved(buffer, 2 * size * n * step)
    places = local(np.int64, 16)
    before = line_start(base, out)
    rows_y, rows_g, lines = packed(y), packed(g), packed(out)
    classes_y, classes_g, classes_out = classes_fetched(y, n), classes_fetched(g, n), classes_fetched(out, n)
    p = lo
    while p < hi:
        stop = slab_end(y.shape[2], p, hi, size * step, before)
        tiles = (stop - p + step - 1) // step
        ahead, above_ahead = bring(y, n, p, stop, places, slab), bring(g, n, p, stop, places, upstream)
        written = slab_lines(out, n, p, stop, base)
        for k in range(tiles):
            tile, above, q = moved(slab, k * n * step), moved(upstream, k * n * step), p + k * step
            fetch(y, classes_y, ahead + k * step)
            fetch(g, classes_g, above_ahead + k * step)
            fetch_rows(base, rows_y, stop + k * step)
            fetch_rows(pointer(g, 0), rows_g, stop + k * step)
            fetch_lines(out, lines, q, classes_out, written + k * step)
            factor = rounded(total(above, n, sums, doubles) / np.float64(unit(get(tile, 0))), load(tile, 0))
            for c in range(n):
                e = exp_scaled(minimum(load(tile, c * step), TOP), None)
                store(tile, c * step, load(above, c * step) - e * factor)
        carry(out, n, p, stop, places, slab, base)
        p = stop
    release(buffer)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def _write(tile, n, factor, at_y, y):
    """The gradient in place of the exponentials."""
    step = lanes(tile)
    for c in range(n):
        store(tile, c * step, select(equal(y, 0.0), at_y, load(tile, c * step) * factor))
        y = y - 1.0


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    size = slab_tiles(n, step)
    buffer = room(base, (size * n + MOST * FOUND + sums_room(step) + 1 + n) * step)
    doubles = local(np.float64, 256)
    slab, sums, numbers = buffer, moved(buffer, size * n * step), moved(buffer, (size * n + sums_room(step)) * step)
    found = moved(numbers, step)
    spare = moved(found, FOUND * MOST * step)  # a tile as it was before the exponentials took its place
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    places = local(np.int64, 16)
    before = line_start(base, out)
    rows, lines = packed(x), packed(out)
    classes_in, classes_out = classes_fetched(x, n), classes_fetched(out, n)
    p = lo
    while p < hi:
        stop = slab_end(x.shape[2], p, hi, size * step, before)
        tiles = (stop - p + step - 1) // step
        ahead = bring(x, n, p, stop, places, slab)
        written = slab_lines(out, n, p, stop, base)
        for k in range(tiles):
            tile, at, q = moved(slab, k * n * step), moved(found, k * step), p + k * step
            fetch(x, classes_in, ahead + k * step)
            fetch_rows(base, rows, stop + k * step)
            fetch_lines(out, lines, q, classes_out, written + k * step)
            y = classes_of(targets, target.size, mask, q, stop, numbers)
            uncounted = equal(numbers_of(scales, scale.size, q, stop, numbers), 0.0)
            enough = less(y, y)
            if n <= SHORT:
                if out is None:
                    enough = bare_tile(at, MOST, tile, n, y, uncounted, None, None, 0)
                else:
                    enough = bare_tile(at, MOST, tile, n, y, uncounted, tile, None, 0)
            if not every_lane(enough):
                there = tile
                if n <= SHORT:
                    bring(x, n, q, smaller(q + step, stop), places, spare)
                    there = spare
                if out is None:
                    exact_tile(at, MOST, there, n, y, enough, None, spare, sums, doubles)
                else:
                    exact_tile(at, MOST, there, n, y, enough, tile, spare, sums, doubles)
                    if n <= SHORT:
                        blend(tile, spare, n, enough)
        logarithms(found, MOST, tiles, out)
        for k in range(tiles):
            tile, at, q = moved(slab, k * n * step), moved(found, k * step), p + k * step
            each = numbers_of(scales, scale.size, q, stop, numbers)
            tile_losses(at, MOST, each, losses, q, stop)
            if out is not None:
                above = numbers_of(pointer(upstream, 0), upstream.size, q, stop, numbers)
                factor, at_y, y = tile_factors(at, MOST, tile, n, each, above, n <= SHORT)
                _write(tile, n, factor, at_y, y)
        if out is not None:
            carry(out, n, p, stop, places, slab, base)
        p = stop
    release(buffer)
