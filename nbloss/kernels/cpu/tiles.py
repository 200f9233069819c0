"""Between memory and tiles. A tile is as many positions as a vector has lanes, class by class: one lane per row or pixel.

A few tiles make a slab that is brought into L1, worked on there, and carried out: classes that lie a power of two apart, (N, C, H, W), do
not throw each other out of the cache. How a slab moves is seen from where its positions lie:

* BESIDE: neighbours in memory, as pixels are. Whole vectors, class by class.
* TURNED: the classes are neighbours, as in rows, and make a piece of a vector or leave no gaps. Transposed in registers.
* APART: anything else, and ragged tiles of rows; number by number.

A slab of pixels ends where its image does, so that it moves in one way. The lanes of its last tile that hold no position of their own hold
zeros or the last position again, and are not written (or to the last position's place, before that one).

What is called for every tile takes pointers and numbers, no arrays: Numba counts references to those, in calls around which all vectors are
put by.
"""

from numba import njit

from nbloss.kernels.cpu.memory import (
    apart,
    gather,
    lanes,
    larger,
    load,
    load_first,
    moved,
    pointer,
    prefetch_read,
    prefetch_write,
    put,
    scatter,
    smaller,
    store,
    store_first,
    stream,
    to_aligned,
)
from nbloss.kernels.cpu.parts import PART
from nbloss.kernels.cpu.streams import pixels_pass, tuned
from nbloss.kernels.cpu.turn import deal_in, deal_out, piece, turn_in, turn_out
from nbloss.kernels.cpu.vecmath import STRICT

MOST = 12  # tiles of a slab
BESIDE, TURNED, APART = 0, 1, 2
NOWHERE = -(2**62)
PLACES, PERIOD = 12, 65536  # a second cache has 8 to 16 places for lines that lie so many bytes, or a multiple, apart
FEW = 64  # classes whose slabs and the next ones fit a first cache
CALLED = {"error_model": "numpy", "fastmath": False, **PART}  # one copy of this code for all that is moved, not one per use


@njit(**STRICT)
def place(array, p):
    """Where position p's class 0 lies."""
    inner = array.shape[2]
    return pointer(array, p // inner * apart(array, 0) + p % inner * apart(array, 2))


@njit(**STRICT)
def slab_tiles(n, step):
    """How many tiles of n vectors make a slab: 16 kB, a third of an L1 cache: the next slab and the output's lines come too.

    Of few classes MOST tiles: longer slabs were slower, as loads wait for older stores to addresses that end like theirs. Of many
    classes four, while that is a quarter of the second cache: every class is on another page, which is not worth opening for one vector.
    """
    least = 4 if 4 * n * step <= tuned("slab") else 2 if 2 * n * step <= tuned("slab") else 1
    return larger(least, smaller(MOST, 4096 // (n * step)))


@njit(**STRICT)
def line_start(base, out):
    """How many positions lie before the first cache line of what is written, or of what is read if nothing is."""
    if out is None:
        return to_aligned(base)
    return to_aligned(pointer(out, 0))


@njit(**STRICT)
def slab_end(inner, p, hi, most, before):
    """Where a slab of at most so many positions ends that begins at p.

    Where its image does, or else such that the next one begins at the start of a cache line, ``before`` positions (and whole vectors) after
    an image's start. Images shorter than a vector are not looked at.
    """
    stop = smaller(hi, p + most)
    if inner < 16:
        return stop
    start = p - p % inner
    if stop >= start + inner:
        return start + inner
    over = (stop - start - before) % 16
    return stop - over if stop < hi and stop - over > p else stop


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
def _look(array, n, p, stop):
    """How a slab moves, its first position's offset, and what its positions lie apart (0 if that differs)."""
    inner, far, between, near = array.shape[2], apart(array, 0), apart(array, 1), apart(array, 2)
    if inner == 1:
        offset, distance = p * far, far
    else:
        o, i = p // inner, p % inner
        offset = o * far + i * near
        distance = near if i + stop - p <= inner or far == inner * near else 0
    if distance == 1:
        return BESIDE, offset, distance
    if distance != 0 and between == 1 and (n >= piece(pointer(array, 0)) or (distance == n and n >= 2)):
        return TURNED, offset, distance
    return APART, offset, distance


@njit(**CALLED)
def bring(array, n, p, stop, places, slab):
    """Fill a slab: per tile n vectors.

    Returns how far from the array's start the next slab would lie if this one and it are of pixels, else NOWHERE.
    """
    base = pointer(array, 0)
    step = lanes(base)
    inner, far, between, near = array.shape[2], apart(array, 0), apart(array, 1), apart(array, 2)
    kind, offset, distance = _look(array, n, p, stop)
    whole, rest = (stop - p) // step, (stop - p) % step
    if kind == BESIDE:
        for c in range(n):
            row = moved(base, offset + c * between)
            for k in range(whole):
                store(slab, (k * n + c) * step, load(row, k * step))
            if rest:
                store(slab, (whole * n + c) * step, load_first(row, whole * step, rest, 0.0))
        return offset + stop - p
    wide = piece(base)
    for q in range(p, stop, step):
        tile, row = moved(slab, (q - p) * n), moved(base, offset + (q - p) * distance)
        if kind == APART or q + step > stop:
            map_tile(inner, far, near, q, stop, step, places)
            for c in range(n):
                store(tile, c * step, gather(base, places, c * between))
        elif distance == n and n == 2:
            deal_in(row, 2, tile)
        elif distance == n and n == 3:
            deal_in(row, 3, tile)
        else:
            for c in range(0, n, wide):
                first = smaller(c, n - wide)
                turn_in(moved(row, first), distance, moved(tile, first * step), step)
    return NOWHERE


@njit(**STRICT)
def packed(array):
    """How long rows are that follow each other without gaps; 0 where there are none."""
    if array is None:
        return 0
    n = array.shape[1]
    return n if array.shape[2] == 1 and apart(array, 1) == 1 and apart(array, 0) == n else 0


@njit(**STRICT)
def fetch_rows(base, n, p):
    """Ask for a tile of packed rows of n numbers."""
    step = lanes(base)
    for c in range(n):
        prefetch_read(base, p * n + c * step)


@njit(**STRICT)
def classes_fetched(array, n):
    """How many classes of the next slab of pixels are asked for.

    A power of two apart they share their places in a cache, and more of them would throw each other out; many do not fit.
    """
    if array is None:
        return 0
    between = apart(array, 1) * array.itemsize
    most = PLACES * (PERIOD // larger(1, smaller(PERIOD, between & -between))) if n <= FEW else PLACES
    return smaller(n, most)


@njit(**STRICT)
def fetch(array, classes, offset):
    """Ask for a tile of the next slab while this one is worked on."""
    if offset >= 0:
        base = pointer(array, 0)
        for c in range(classes):
            prefetch_read(base, offset + c * apart(array, 1))


@njit(**STRICT)
def slab_lines(out, n, p, stop, source):
    """How far from the array's start a slab of pixels will be written; NOWHERE if it is of rows or goes past the caches."""
    if out is None:
        return NOWHERE
    kind, offset, _ = _look(out, n, p, stop)
    return offset if kind == BESIDE and not pixels_pass(out, source) else NOWHERE


@njit(**STRICT)
def fetch_lines(out, rows, p, classes, offset):
    """Ask for the lines that a tile will be written to: a store that misses the caches holds up those behind it.

    Of packed rows of so many numbers, from row ``p`` on; or of so many classes of pixels, at ``offset``.
    """
    if out is None:
        return
    base = pointer(out, 0)
    step = lanes(base)
    for c in range(rows):
        prefetch_write(base, p * rows + c * step)
    if offset >= 0:
        for c in range(classes):
            prefetch_write(base, offset + c * apart(out, 1))


@njit(**CALLED)
def carry(array, n, p, stop, places, slab, source):
    """Write a slab out, whose numbers came from ``source``."""
    base = pointer(array, 0)
    streamed = pixels_pass(array, source)
    step = lanes(base)
    inner, far, between, near = array.shape[2], apart(array, 0), apart(array, 1), apart(array, 2)
    kind, offset, distance = _look(array, n, p, stop)
    whole, rest = (stop - p) // step, (stop - p) % step
    if kind == BESIDE:
        for c in range(n):
            row = moved(base, offset + c * between)
            if streamed and to_aligned(row) == 0:
                for k in range(whole):
                    stream(row, k * step, load(slab, (k * n + c) * step))
            else:
                for k in range(whole):
                    store(row, k * step, load(slab, (k * n + c) * step))
            if rest:
                store_first(row, whole * step, rest, load(slab, (whole * n + c) * step))
        return
    wide = piece(base)
    for q in range(p, stop, step):
        tile, row = moved(slab, (q - p) * n), moved(base, offset + (q - p) * distance)
        if kind == APART or q + step > stop:
            map_tile(inner, far, near, q, stop, step, places)
            for c in range(n):
                scatter(base, places, c * between, load(tile, c * step))
        elif distance == n and n == 2:
            deal_out(tile, row, 2)
        elif distance == n and n == 3:
            deal_out(tile, row, 3)
        else:
            for c in range(0, n, wide):
                first = smaller(c, n - wide)
                turn_out(moved(tile, first * step), moved(row, first), distance)
