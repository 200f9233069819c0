"""What comes from memory and goes there while exponentials are computed.

Pixels are worked on in slabs of four tiles: four lines of every class. While one slab's exponentials are computed, the next one comes in
and the gradient of the one before goes out, a class at a time, between four exponentials and the next four: memory and arithmetic then
take their time together. Runs of four lines, as classes a power of two apart share their places in every cache and their banks in memory.
"""

from numba import njit

from nbloss.kernels.cpu.memory import lanes, load, load_first, moved, prefetch_read, store, store_first, stream
from nbloss.kernels.cpu.simd import equal, select
from nbloss.kernels.cpu.vecmath import STRICT

TILES = 4  # of a slab
AHEAD = 6  # classes that memory is asked for before they are moved


@njit(**STRICT)
def move_in(n, c, inward):
    """Bring class c of a slab of ``count`` pixels, whose first one's class 0 is at ``line``; ask for a later one."""
    line, between, count, slab = inward
    step = lanes(slab)
    here = moved(line, c * between)
    for k in range(TILES):
        if (k + 1) * step <= count:
            store(slab, (k * n + c) * step, load(here, k * step))
        elif k * step < count:
            store(slab, (k * n + c) * step, load_first(here, k * step, count - k * step, 0.0))
    later = moved(line, (c + AHEAD) * between) if c + AHEAD < n else moved(line, (c + AHEAD - n) * between + TILES * step)
    for k in range(TILES):
        prefetch_read(later, k * step)


@njit(**STRICT)
def move_out(n, c, outward):
    """Write class c of a slab's gradient, of exponentials and ``terms`` (factor, y's gradient and y of each tile); ``past`` the caches."""
    line, between, count, slab, terms, past = outward
    step = lanes(slab)
    here = moved(line, c * between)
    for k in range(TILES):
        at = moved(terms, 3 * k * step)
        d = select(equal(load(at, 2 * step), c), load(at, step), load(slab, (k * n + c) * step) * load(at, 0))
        if (k + 1) * step > count:
            store_first(here, k * step, count - k * step, d)
        elif past:
            stream(here, k * step, d)
        else:
            store(here, k * step, d)


@njit(**STRICT)
def move(moving, c):
    """Move class c, if there is one, of the slabs that are to come in and go out."""
    n, inward, outward = moving
    if c < n:
        move_in(n, c, inward)
        move_out(n, c, outward)
