"""Pixels: few classes, on an axis of their own, and positions side by side in input and output.

The arithmetic is that of ``lanes.py``, to the last bit. The cross entropy with its gradient walks memory as ``moves.py`` says, alone as
``pixel_losses.py`` does; log_softmax and its gradient have less to compute, and go through in one direction: a slab of eight tiles into L1,
its sums there, and out to where they belong.
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
from nbloss.kernels.cpu.lane_sums import lane_sums, sums_room
from nbloss.kernels.cpu.memory import (
    apart,
    get,
    lanes,
    load,
    load_first_four,
    load_four,
    moved,
    pointer,
    prefetch_read,
    prefetch_write,
    smaller,
    splat,
    store,
    store_first,
    stream,
    to_aligned,
)
from nbloss.kernels.cpu.moves import TILES, move, move_in, move_out
from nbloss.kernels.cpu.pixel_losses import losses
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.simd import doubled, equal, every_lane, four, four_of, maximum, minimum, quarter, rounded
from nbloss.kernels.cpu.streams import pixels_pass
from nbloss.kernels.cpu.tiles import bring, classes_fetched, line_start, place, slab_end
from nbloss.kernels.cpu.tuning import SHORT
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit

# ------------------------------ log_softmax ------------------------------


@njit(**STRICT)
def read(line, count):
    """The next pixels of one class, as many as four vectors hold; zeros beyond ``count``."""
    if count >= TILES * lanes(line):
        return load_four(line, 0)
    return load_first_four(line, 0, count, 0.0)


@njit(**STRICT)
def write(line, count, past, value):
    """Write the first ``count`` pixels of four vectors, ``past`` the caches."""
    step = lanes(line)
    if count < TILES * step:
        store_first(line, 0, count, quarter(value, 0))
        store_first(line, step, count - step, quarter(value, 1))
        store_first(line, 2 * step, count - 2 * step, quarter(value, 2))
        store_first(line, 3 * step, count - 3 * step, quarter(value, 3))
    elif past and to_aligned(line) == 0:
        stream(line, 0, value)
    else:
        store(line, 0, value)


@njit(**STRICT)
def _ask(c, n, part, line, between, later, later_between):
    """Ask for a part of class c of a slab, or where there are no so many classes of a first one of a ``later`` slab."""
    place = moved(line, c * between + part) if c < n else moved(later, (c - n) * later_between + part)
    for k in range(TILES):
        prefetch_read(place, k * lanes(place))


@njit(**STRICT)
def _ask_place(written, past):
    """Ask for where as many pixels will be ``written`` if not ``past`` the caches."""
    if not past:
        for k in range(TILES):
            prefetch_write(written, k * lanes(written))


@njit(**STRICT)
def _dealt(line, count, slab, n):
    """The next pixels of one class, which are put into four tiles of a slab."""
    step, v = lanes(line), read(line, count)
    store(slab, 0, quarter(v, 0))
    store(slab, n * step, quarter(v, 1))
    store(slab, 2 * n * step, quarter(v, 2))
    store(slab, 3 * n * step, quarter(v, 3))
    return v


@njit(**STRICT)
def _logs(line, count, past, slab, n, tops, logs):
    """Write the log-probabilities of what ``_dealt`` has put down."""
    step = lanes(line)
    v = four_of(load(slab, 0), load(slab, n * step), load(slab, 2 * n * step), load(slab, 3 * n * step))
    write(line, count, past, (v - load_four(tops, 0)) - load_four(logs, 0))


def log_softmax(x, out, lo, hi):
    n = smaller(x.shape[1], SHORT)
    inner, between, far = x.shape[2], apart(x, 1), apart(out, 1)
    base = pointer(x, 0)
    step = lanes(base)
    part = TILES * step
    full = 2 * part
    slab, doubles = room(base, (n + 2) * full + sums_room(step) * step), local(np.float64, 256)
    tops, logs, sums = moved(slab, n * full), moved(slab, (n + 1) * full), moved(slab, (n + 2) * full)
    before, streamed, ahead = line_start(base, out), pixels_pass(out, base), classes_fetched(x, n)
    p = lo
    while p < hi:
        stop = slab_end(inner, p, hi, full, before)
        count, row, result = stop - p, place(x, p), place(out, p)
        following = place(x, smaller(stop, hi - 1))
        first = second = four(splat(base, -np.inf))
        for c in range(n):
            line, written, into = moved(row, c * between), moved(result, c * far), moved(slab, c * step)
            past = streamed and to_aligned(written) == 0
            _ask_place(written, past)
            first = maximum(_dealt(line, count, into, n), first)
            _ask_place(moved(written, part), past)
            second = maximum(_dealt(moved(line, part), count - part, moved(into, n * part), n), second)
        store(tops, 0, first)
        store(tops, part, second)
        for k in range(0, count, step):
            for c in range(ahead):
                prefetch_read(following, c * between + k)
            _, rest = lane_sums(moved(slab, k * n), n, load(tops, k), None, None, sums, doubles)
            store(logs, k, rest)
        for k in range(0, count, part):
            store(logs, k, log1p(load_four(logs, k)))
        for c in range(n):
            written, kept = moved(result, c * far), moved(slab, c * step)
            for k in range(0, count, part):
                _logs(moved(written, k), count - k, streamed, moved(kept, k * n), n, moved(tops, k), moved(logs, k))
        p = stop
    release(slab)


@njit(**STRICT)
def _kept(line, count, into):
    """The next pixels of one class in float64; they are put down."""
    v = read(line, count)
    store(into, 0, v)
    return doubled(v)


def log_softmax_backward(g, y, out, lo, hi):
    n = smaller(y.shape[1], SHORT)
    inner, between, above_between, far = y.shape[2], apart(y, 1), apart(g, 1), apart(out, 1)
    base = pointer(y, 0)
    step = lanes(base)
    part = TILES * step
    full = 2 * part  # longer runs than where memory is walked in two directions at once
    kept = room(base, (n + 1) * full)
    factors, zero, one = moved(kept, n * full), four(splat(base, 0.0)), np.float64(unit(get(kept, 0)))
    before, streamed, ahead = line_start(base, out), pixels_pass(out, base), classes_fetched(y, n)
    p = lo
    while p < hi:
        stop = slab_end(inner, p, hi, full, before)
        count, above, row, result = stop - p, place(g, p), place(y, p), place(out, p)
        following = place(g, smaller(stop, hi - 1))
        first = second = doubled(zero)
        for c in range(n):
            line, written, into = moved(above, c * above_between), moved(result, c * far), moved(kept, c * full)
            past = streamed and to_aligned(written) == 0
            _ask(c + ahead, n, 0, above, above_between, row, between)
            _ask_place(written, past)
            first = first + _kept(line, count, into)
            _ask(c + ahead, n, part, above, above_between, row, between)
            _ask_place(moved(written, part), past)
            second = second + _kept(moved(line, part), count - part, moved(into, part))
        store(factors, 0, rounded(first / one, zero))
        store(factors, part, rounded(second / one, zero))
        for c in range(n):
            line, written = moved(row, c * between), moved(result, c * far)
            for k in range(0, count, part):
                _ask(c + ahead, n, k, row, between, following, above_between)
                e = exp_scaled(minimum(read(moved(line, k), count - k), TOP), None)
                write(moved(written, k), count - k, streamed, load_four(kept, c * full + k) - e * load_four(factors, k))
        p = stop
    release(kept)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def _losses_and_gradients(x, target, mask, scale, upstream, loss, out, lo, hi):
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
    far, streamed = apart(out, 1), pixels_pass(out, base)
    line, written, past = pointer(out, 0), 0, False
    p, stop = lo, slab_end(inner, lo, hi, full, before)
    for c in range(n):
        move_in(n, c, (place(x, p), between, stop - p, slab))
    while p < hi:
        after = slab_end(inner, stop, hi, full, before) if stop < hi else stop
        inward = place(x, stop), between, after - stop, following
        moving = n, inward, (line, far, written, last, terms, past)
        run = 0
        for q in range(p, stop, step):
            k = (q - p) // step
            tile, at = moved(slab, k * n * step), moved(found, k * step)
            prefetch_read(targets, q + 2 * full)
            y = classes_of(targets, target.size, mask, q, stop, numbers)
            uncounted = equal(numbers_of(scales, scale.size, q, stop, numbers), 0.0)
            enough = bare_tile(at, TILES, tile, n, y, uncounted, tile, moving, run)
            if not every_lane(enough):
                bring(x, n, q, smaller(q + step, stop), places, spare)
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
            above = numbers_of(pointer(upstream, 0), upstream.size, q, stop, numbers)
            factor, at_y, y = tile_factors(at, TILES, tile, n, each, above, True)
            term = moved(terms, 3 * k * step)
            store(term, 0, factor)
            store(term, step, at_y)
            store(term, 2 * step, y)
        line, written = place(out, p), stop - p
        past = streamed and to_aligned(line) == 0 and far % step == 0
        slab, following, last = following, last, slab
        p, stop = stop, after
    for c in range(n):
        move_out(n, c, (line, far, written, last, terms, past))
    release(buffer)


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    if out is None:
        losses(x, target, mask, scale, loss, lo, hi)
    else:
        _losses_and_gradients(x, target, mask, scale, upstream, loss, out, lo, hi)
