"""Numbers per row as vectors, one row per lane: weights, targets, and the logit and class weight of each target."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.integers import get_integer, load_integers
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, put, splat
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer
from nbloss.kernels.cpu.simd.vec import equal, select


@njit(**INLINE)
def load_per_row(base, count, p, stop, into):
    """One number per position of a tile, from an array of ``count`` numbers; an array of one number applies to all positions."""
    width = lanes(into)
    if count == 1:
        return splat(into, get(base, 0))
    if p + width <= count:
        return load(base, p)
    for lane in range(width):
        put(into, lane, get(base, min_int(p + lane, stop - 1)))
    return load(into, 0)


@none_of_none
def load_share(spread, p, stop, into):
    """The share of each row of a tile; None without smoothing."""
    return load_per_row(pointer(spread, 0), spread.size, p, stop, into)


@njit(**INLINE)
def load_classes(targets, count, mask, p, stop, into):
    """The targets of a tile, as floating-point numbers, to be compared with each class in turn.

    Offsets of the targets' logits would be written one by one and read back as a vector. Such a load waits until the stores have drained,
    which takes longer than a short row.
    """
    if p + lanes(into) <= count:
        return load_integers(offset(targets, p), mask, load(into, 0))
    for lane in range(lanes(into)):
        put(into, lane, np.int32(get_integer(targets, min_int(p + lane, stop - 1)) & mask))
    return load(into, 0)


@njit(**INLINE)
def class_weight_sum(w, n):
    """The float64 sum of the class weights; n without weights."""
    if w is None:
        return np.float64(n)
    total = 0.0
    for c in range(n):
        total += get(w, c)
    return total


@njit(**INLINE)
def _own_of_four(tile, c, y, own):
    """``own``, or the logit of one of the classes c to c + 3, of which y (0 to 3) is the target."""
    width = lanes(tile)
    own = select(equal(y, 1.0), load(tile, (c + 1) * width), select(equal(y, 0.0), load(tile, c * width), own))
    return select(equal(y, 3.0), load(tile, (c + 3) * width), select(equal(y, 2.0), load(tile, (c + 2) * width), own))


@none_of_none
def own_logit(share, tile, n, y):
    """x[y]; None without smoothing, which alone needs it before the sums."""
    width, own, c = lanes(tile), splat(tile, 0.0), n & 3
    for k in range(c):
        own = select(equal(y, 0.0), load(tile, k * width), own)
        y = y - 1.0
    while c < n:
        own = _own_of_four(tile, c, y, own)
        y = y - 4.0
        c += 4
    return own


@njit(**INLINE)
def own_weight(like, n, y, w):
    """w[y] of each lane."""
    own, c = like * 0.0 + 1.0, n & 3
    if w is None:
        return own
    for k in range(c):
        own = select(equal(y, 0.0), get(w, k), own)
        y = y - 1.0
    while c < n:
        own = select(equal(y, 1.0), get(w, c + 1), select(equal(y, 0.0), get(w, c), own))
        own = select(equal(y, 3.0), get(w, c + 3), select(equal(y, 2.0), get(w, c + 2), own))
        y = y - 4.0
        c += 4
    return own
