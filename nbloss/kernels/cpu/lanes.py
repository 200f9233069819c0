"""Floor 1: short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

Slabs of tiles are brought into L1, worked on there, and carried out (``tiles.py``): rows may lie anywhere in memory. What is found out
about a tile's rows is laid aside, and the next step begins when all tiles of the slab are through the one before: a tile of few classes
is one long chain of dependent instructions, and a processor can only work on several chains if they are short.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_sums import SHORT, lane_sums, sums_room, tops, total
from nbloss.kernels.cpu.memory import (
    get,
    get_integer,
    lanes,
    load,
    load_integers,
    moved,
    pointer,
    put,
    smaller,
    splat,
    store,
    store_first,
)
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.row_sums import pick_loss, pull
from nbloss.kernels.cpu.simd import any_lane, either, equal, less, maximum, minimum, rounded, select
from nbloss.kernels.cpu.tiles import (
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
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit

LONGEST = 4096  # classes of one tile: 256 kB of buffer, and as much for the tile as it was before its exponentials


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
    p = lo
    while p < hi:
        stop = slab_end(y.shape[2], p, hi, size * step, before)
        tiles = (stop - p + step - 1) // step
        bring(y, n, p, stop, places, slab)
        bring(g, n, p, stop, places, upstream)
        for k in range(tiles):
            tile, above = moved(slab, k * n * step), moved(upstream, k * n * step)
            factor = rounded(total(above, n, sums, doubles) / np.float64(unit(get(tile, 0))), load(tile, 0))
            for c in range(n):
                e = exp_scaled(minimum(load(tile, c * step), TOP), None)
                store(tile, c * step, load(above, c * step) - e * factor)
        carry(out, n, p, stop, places, slab, base)
        p = stop
    release(buffer)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def numbers_of(base, count, p, stop, into):
    """One number per position of a tile, of ``count`` there are; an array of one number has it for all."""
    step = lanes(into)
    if count == 1:
        return splat(into, get(base, 0))
    if p + step <= count:
        return load(base, p)
    for lane in range(step):
        put(into, lane, get(base, smaller(p + lane, stop - 1)))
    return load(into, 0)


@njit(**STRICT)
def _classes_of(targets, count, mask, p, stop, into):
    """The targets of a tile, as floats. They are compared with each class in turn: numbers written one by one could not be read back as a
    vector before the processor's stores have drained, which takes longer than a short row."""
    if p + lanes(into) <= count:
        return load_integers(moved(targets, p), mask, load(into, 0))
    for lane in range(lanes(into)):
        put(into, lane, np.int32(get_integer(targets, smaller(p + lane, stop - 1)) & mask))
    return load(into, 0)


@njit(**STRICT)
def _top_and_own(tile, n, y):
    """Each lane's maximum and its number of class y; 0 where that is none (a row that does not count may have any target)."""
    step = lanes(tile)
    m, own = splat(tile, -np.inf), splat(tile, 0.0)
    for c in range(n):
        v = load(tile, c * step)
        m = maximum(v, m)
        own = select(equal(y, 0.0), v, own)
        y = y - 1.0
    return m, own


@njit(**STRICT)
def _write(tile, n, y, factor, at_y, nothing):
    """The gradient in place of the exponentials; ``nothing`` is None where every row counts."""
    step = lanes(tile)
    for c in range(n):
        d = select(equal(y, 0.0), at_y, load(tile, c * step) * factor)
        if nothing is not None:
            d = select(nothing, 0.0, d)
        store(tile, c * step, d)
        y = y - 1.0


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    one = unit(loss.dtype.type(0))
    size = slab_tiles(n, step)
    again = n if n > SHORT else 0  # a tile as it was before the exponentials took its place
    buffer = room(base, (size * (n + 4) + sums_room(step) + 1 + again) * step)
    doubles = local(np.float64, 256)
    slab, sums, numbers = buffer, moved(buffer, size * n * step), moved(buffer, (size * n + sums_room(step)) * step)
    found = moved(numbers, step)
    spare = moved(found, 4 * size * step)
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
            tile, q = moved(slab, k * n * step), p + k * step
            fetch(x, classes_in, ahead + k * step)
            fetch_rows(base, rows, stop + k * step)
            fetch_lines(out, lines, q, classes_out, written + k * step)
            y = _classes_of(targets, target.size, mask, q, stop, numbers)
            m, x_y = _top_and_own(tile, n, y)
            if out is None:
                _, rest = lane_sums(tile, n, m, None, None, sums, doubles)
            else:
                s, rest = lane_sums(tile, n, m, tile, spare, sums, doubles)
                store(found, (4 * k + 2) * step, s)
                store(found, (4 * k + 3) * step, y)
            store(found, 4 * k * step, m - x_y)
            store(found, (4 * k + 1) * step, rest)
        for k in range(tiles):
            tile, q = moved(slab, k * n * step), p + k * step
            gap, rest = load(found, 4 * k * step), load(found, (4 * k + 1) * step)
            each = numbers_of(scales, scale.size, q, stop, numbers)
            nothing = equal(each, 0.0)
            store_first(losses, q, stop - q, select(nothing, 0.0, pick_loss(each, log1p(rest), gap)))
            if out is not None:
                s, y = load(found, (4 * k + 2) * step), load(found, (4 * k + 3) * step)
                coef = each * numbers_of(pointer(upstream, 0), upstream.size, q, stop, numbers)
                nothing = either(nothing, equal(coef, 0.0))
                others = select(less(0.0, gap), s - exp_scaled(-gap, None) / one, rest)
                factor, at_y = coef / s / one, pull(coef, others, s)
                if any_lane(nothing):
                    _write(tile, n, y, factor, at_y, nothing)
                else:
                    _write(tile, n, y, factor, at_y, None)
        if out is not None:
            carry(out, n, p, stop, places, slab, base)
        p = stop
    release(buffer)
