"""Pixels of many classes: the gradient of log_softmax.

No cache holds a slab of many classes, and pieces of four lines from as many places as there are classes came at a third of the speed of
memory. So every class is walked in runs of sixteen vectors, twice: for the sums, and for the gradient. That reads the upstream gradient
twice and still took half to nine tenths of the time of slabs.

The result may be rows, where logits lie transposed: a block of classes is transposed in a cache and its lines go past the caches, each as a
whole. Lines do not begin where blocks do, in every row elsewhere, so they are put together from two blocks.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_sums import add, flush, fold, sums_room
from nbloss.kernels.cpu.memory import (
    apart,
    get,
    lanes,
    load,
    load_first,
    load_four,
    moved,
    pointer,
    prefetch_read,
    smaller,
    splat,
    store,
    store_first,
    stream,
    to_aligned,
)
from nbloss.kernels.cpu.moves import TILES
from nbloss.kernels.cpu.pixels import read, write
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.row_sums import BLOCK
from nbloss.kernels.cpu.simd import minimum, quarter, rounded
from nbloss.kernels.cpu.streams import pixels_pass
from nbloss.kernels.cpu.tiles import CALLED, place, slab_end
from nbloss.kernels.cpu.turn import piece, turn_in
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, unit

RUN = 16  # tiles
AHEAD = 2  # classes that memory is asked for before they are summed
PART = 16  # classes of a block: a line of float32


@njit(**CALLED)
def _turn(tile, joined):
    """A tile's block of classes into the second half of its rows' blocks."""
    step = lanes(tile)
    for c in range(0, PART, step):
        for lane in range(0, step, piece(tile)):
            turn_in(moved(tile, c * step + lane), step, moved(joined, 2 * PART * lane + PART + c), 2 * PART)


@njit(**CALLED)
def _write_rows(first, between, count, c, n, joined):
    """Write the whole lines that rows' blocks have, the last one and that of the classes from c on; at the ends of rows, what is left."""
    step = lanes(joined)
    for k in range(count):
        row, last, new = moved(first, k * between), moved(joined, 2 * PART * k), moved(joined, 2 * PART * k + PART)
        start = to_aligned(row)
        if c == 0:
            for j in range(0, start, step):
                store_first(row, j, start - j, load(new, j))
        elif c % PART == 0:
            for j in range(0, PART, step):
                stream(row, c - PART + start + j, load(last, start + j))
        if c == n - PART:
            whole = c % PART == 0
            done, rest = (c, new) if whole else (n // PART * PART - PART, last)
            for j in range(start, PART, step):
                store_first(row, done + j, PART - j, load_first(rest, j, PART - j, 0.0))
            for j in range(PART if whole else 0, PART, step):
                store(row, c + j, load(new, j))
        for j in range(0, PART, step):
            store(last, j, load(new, j))


@njit(**STRICT)
def _gradient(row, between, above, above_between, c, k, count, factors):
    """g - exp(y) * factor of class c, for the next pixels from the k-th on."""
    line, more = moved(row, c * between + k), moved(above, c * above_between + k)
    for j in range(0, TILES * lanes(line), lanes(line)):
        prefetch_read(line, AHEAD * between + j)
        prefetch_read(more, AHEAD * above_between + j)
    e = exp_scaled(minimum(read(line, count - k), TOP), None)
    return read(more, count - k) - e * load_four(factors, k)


@njit(**STRICT)
def _sum_run(line, between, n, count, sums, doubles, factors):
    """The sum over the classes of each of ``count`` pixels, added as tiles add (``lane_sums.total``)."""
    step = lanes(line)
    each, wide = sums_room(step) * step, step * step
    zero, one = splat(line, 0.0), np.float64(unit(get(factors, 0)))
    for start in range(0, n, BLOCK):
        end = smaller(n, start + BLOCK)
        for c in range(start, end):
            for k in range(0, count, step):
                here = moved(line, c * between + k)
                prefetch_read(here, AHEAD * between)
                add(moved(sums, k // step * each), c, load_first(here, 0, count - k, 0.0))
        for k in range(0, count, step):
            flush(moved(sums, k // step * each), start, end, moved(doubles, k // step * wide))
    for k in range(0, count, step):
        total = fold(moved(sums, k // step * each), n, moved(doubles, k // step * wide))
        store(factors, k, rounded(total / one, zero))


def log_softmax_backward(g, y, out, lo, hi):
    n, inner = y.shape[1], y.shape[2]
    between, above_between, far, across = apart(y, 1), apart(g, 1), apart(out, 1), apart(out, 2)
    base = pointer(y, 0)
    step = lanes(base)
    turned = across != 1
    part, most = TILES * step, (RUN // 2 if turned else RUN) * step  # of rows less, as a block of them is put together in a first cache
    factors = room(base, (1 + 3 * PART) * most + RUN * sums_room(step) * step)
    block, joined, sums = moved(factors, most), moved(factors, (1 + PART) * most), moved(factors, (1 + 3 * PART) * most)
    doubles = room(local(np.float64, 1), RUN * step * step)
    before, streamed = to_aligned(base) if turned else to_aligned(pointer(out, 0)), pixels_pass(out, base)
    # a share begins where a vector does, too: else each would end in a run of a few pixels
    positions = y.shape[0] * inner
    p, hi = smaller(lo + before, positions) if lo > 0 else lo, smaller(hi + before, positions)
    while p < hi:
        stop = slab_end(inner, p, hi, most, before)
        count, above, row, result = stop - p, place(g, p), place(y, p), place(out, p)
        _sum_run(above, above_between, n, count, sums, doubles, factors)
        c = 0
        while turned and c < n:
            c = smaller(c, n - PART)
            for j in range(PART):
                for k in range(0, count, part):
                    d = _gradient(row, between, above, above_between, c + j, k, count, factors)
                    tiles = moved(block, PART * k + j * step)
                    store(tiles, 0, quarter(d, 0))
                    store(tiles, PART * step, quarter(d, 1))
                    store(tiles, 2 * PART * step, quarter(d, 2))
                    store(tiles, 3 * PART * step, quarter(d, 3))
            for k in range(0, count, step):
                _turn(moved(block, PART * k), moved(joined, 2 * PART * k))
            _write_rows(result, across, count, c, n, joined)
            c += PART
        while c < n:
            for k in range(0, count, part):
                d = _gradient(row, between, above, above_between, c, k, count, factors)
                write(moved(result, c * far + k), count - k, streamed, d)
            c += 1
        p = stop
    release(factors)
    release(doubles)
