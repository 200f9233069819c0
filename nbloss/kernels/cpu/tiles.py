"""Floor 1: between memory and tiles. A tile is as many positions as a vector has lanes, class by class: one lane per row or pixel.

A few tiles make a slab that is brought into L1, worked on there, and carried out: classes that lie a power of two apart, (N, C, H, W), do
not throw each other out of the cache. How a tile moves is seen from where its positions lie:

* BESIDE: neighbours in memory, as pixels are. Whole vectors, class by class.
* TURNED: the classes are neighbours, as in rows. Squares transposed in registers.
* APART: anything else; number by number.

The lanes of the last tile that hold no position of their own repeat the last one, and are not written (or write the same numbers to the
same place).

What is called for every tile takes pointers and numbers, no arrays: Numba counts references to those, in calls around which all vectors are
put by.
"""

from numba import njit

from nbloss.kernels.cpu.memory import apart, gather, get, lanes, load, moved, pointer, put, scatter, store
from nbloss.kernels.cpu.turn import turn_in, turn_out, whole_rows
from nbloss.kernels.cpu.vecmath import STRICT

BESIDE, TURNED, APART = 0, 1, 2
NOWHERE = -(2**62)  # an offset that no tile has
CALLED = {"error_model": "numpy", "fastmath": False}  # one copy of this code for all that is moved, not one per use


@njit(**STRICT)
def slab_tiles(n, step):
    """How many tiles of n vectors make a slab: 16 kB, a third of an L1 cache: the next slab and the output's lines come too."""
    return max(1, min(32, 4096 // (n * step)))


@njit(**STRICT)
def map_tile(inner, far, near, p, hi, step, places):
    """The offset of each position of a tile, the last one again beyond hi."""
    o, i = p // inner, p % inner
    for lane in range(step):
        put(places, lane, o * far + i * near)
        if p + lane + 1 < hi:
            i += 1
            if i == inner:
                i = 0
                o += 1


@njit(**STRICT)
def _look(inner, far, between, near, p, hi, step):
    """How a tile moves, its first position's offset, and what its positions lie apart (0 if that differs)."""
    rows = min(step, hi - p)
    if inner == 1:
        offset, distance = p * far, far
    else:
        o, i = p // inner, p % inner
        offset = o * far + i * near
        distance = near if i + rows <= inner else 0
    if distance == 1 and rows == step:
        return BESIDE, offset, distance
    if distance != 0 and between == 1:
        return TURNED, offset, distance
    return APART, offset, distance


@njit(**CALLED)
def bring(array, n, p, hi, tiles, places, slab):
    """Fill a slab: per tile n vectors, and as many more as a vector has lanes are overwritten after the last."""
    base = pointer(array, 0)
    step = lanes(base)
    inner, far, between, near = array.shape[2], apart(array, 0), apart(array, 1), apart(array, 2)
    beside = 0
    for k in range(tiles):
        q, tile = p + k * step, moved(slab, k * n * step)
        kind, offset, distance = _look(inner, far, between, near, q, hi, step)
        put(places, k, NOWHERE)
        if kind == BESIDE:
            put(places, k, offset)
            beside += 1
        elif kind == TURNED:
            rows = min(step, hi - q)
            for c in range(0, n, step):
                first = max(0, min(c, n - step))  # the last square overlaps the one before
                count = min(n, step)
                whole = whole_rows(rows, distance, n - first, step)
                turn_in(moved(base, offset + first), distance, rows, whole, count, moved(tile, first * step))
        else:
            map_tile(inner, far, near, q, hi, step, moved(places, tiles))
            for c in range(n):
                store(tile, c * step, gather(base, moved(places, tiles), c * between))
    if beside > 0:
        for c in range(n):
            row = moved(base, c * between)
            for k in range(tiles):
                if get(places, k) != NOWHERE:
                    store(slab, (k * n + c) * step, load(row, get(places, k)))


@njit(**CALLED)
def carry(array, n, p, hi, tiles, places, slab):
    """Write a slab out."""
    base = pointer(array, 0)
    step = lanes(base)
    inner, far, between, near = array.shape[2], apart(array, 0), apart(array, 1), apart(array, 2)
    beside = 0
    for k in range(tiles):
        q, tile = p + k * step, moved(slab, k * n * step)
        kind, offset, distance = _look(inner, far, between, near, q, hi, step)
        put(places, k, NOWHERE)
        if kind == BESIDE:
            put(places, k, offset)
            beside += 1
        elif kind == TURNED:
            rows = min(step, hi - q)
            for c in range(0, n, step):
                first = max(0, min(c, n - step))
                whole = whole_rows(rows, distance, n - first, step)
                turn_out(moved(tile, first * step), moved(base, offset + first), distance, rows, whole, min(n, step))
        else:
            map_tile(inner, far, near, q, hi, step, moved(places, tiles))
            for c in range(n):
                scatter(base, moved(places, tiles), c * between, load(tile, c * step))
    if beside > 0:
        for c in range(n):
            row = moved(base, c * between)
            for k in range(tiles):
                if get(places, k) != NOWHERE:
                    store(row, get(places, k), load(slab, (k * n + c) * step))
