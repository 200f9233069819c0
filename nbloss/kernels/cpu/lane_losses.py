"""Floor 1: the losses of a tile, one row or pixel per lane, and what makes its exponentials gradients."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.lane_sums import bare_enough, bare_sums, lane_sums
from nbloss.kernels.cpu.memory import get, get_integer, lanes, load, load_integers, moved, put, smaller, splat, store, store_first
from nbloss.kernels.cpu.row_sums import pick_loss, pull
from nbloss.kernels.cpu.simd import both, either, equal, every_lane, less, maximum, select
from nbloss.kernels.cpu.vecmath import STRICT, bounds, exp_scaled, log1p, quotient, unit

FOUND = 5  # vectors that are laid aside for a tile


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
def classes_of(targets, count, mask, p, stop, into):
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
def _lay_aside(at, gap, rest, s, others, y, keep):
    """Five vectors per tile, for ``tile_losses`` and ``tile_factors``: m - x[y], the sum without the term it is taken from, and, where
    there is a gradient, s and the sum of what is not y's, both scaled alike, and y."""
    step = lanes(at)
    store(at, 0, gap)
    store(at, step, rest)
    if keep is not None:
        store(at, 2 * step, s)
        store(at, 3 * step, others)
        store(at, 4 * step, y)


@njit(**STRICT)
def bare_tile(at, tile, n, y, uncounted, keep, moving, run):
    """Lay aside what exponentials as they are say of a tile; in which lanes that is enough. ``uncounted`` rows need not be known."""
    own, others = bare_sums(tile, n, y, keep, moving, run)
    rest = quotient(others, own)
    _lay_aside(at, own - own, rest, own + others, others, y, keep)
    return either(uncounted, bare_enough(own, others, rest, get(tile, 0)))


@njit(**STRICT)
def exact_tile(at, tile, n, y, enough, keep, spare, sums, doubles):
    """Lay aside what a tile's maxima and sums are, but in the lanes of which ``enough`` is laid there. The tile may be ``keep``; or be
    ``spare``, and ``keep`` hold exponentials."""
    step = lanes(at)
    one = unit(get(at, 0))
    m, x_y = _top_and_own(tile, n, y)
    if keep is None:
        s, rest = lane_sums(tile, n, m, None, None, sums, doubles)
    else:
        s, rest = lane_sums(tile, n, m, tile, spare, sums, doubles)
    others = rest
    if keep is not None:
        others = select(less(0.0, m - x_y), s - exp_scaled(x_y - m, None) / one, rest) * one
    gap, s = select(enough, load(at, 0), m - x_y), s * one
    rest = select(enough, load(at, step), rest)
    if keep is not None:
        s, others = select(enough, load(at, 2 * step), s), select(enough, load(at, 3 * step), others)
    _lay_aside(at, gap, rest, s, others, y, keep)


@njit(**STRICT)
def blend(tile, other, n, mask):
    """``tile``, and where the mask does not hold the other one."""
    step = lanes(tile)
    for c in range(n):
        store(tile, c * step, select(mask, load(tile, c * step), load(other, c * step)))


@njit(**STRICT)
def tile_losses(at, each, losses, q, stop):
    """Write the losses of a tile."""
    step = lanes(at)
    store_first(losses, q, stop - q, select(equal(each, 0.0), 0.0, pick_loss(each, log1p(load(at, step)), load(at, 0))))


@njit(**STRICT)
def tile_factors(at, tile, n, each, above, bare):
    """``(factor, at_y, y)``: the gradient is e * factor, but ``at_y`` at class y; of a loss each * ..., times ``above``.

    Where that would not have every digit, or a row does not count, the gradient takes the exponentials' place at once: factor 1, no y.
    """
    step = lanes(at)
    s, others, y = load(at, 2 * step), load(at, 3 * step), load(at, 4 * step)
    coef = select(equal(each, 0.0), 0.0, each * above)  # above may be nan where no row counts
    if bare:
        factor = quotient(coef, s)
        at_y = -(factor * others)
        least, most = bounds(get(at, 0))
        size = maximum(factor, -factor)
        fine = both(less(least, size), less(size, most))
    else:  # as ``rows.py`` does
        one = unit(get(at, 0))
        factor, at_y = coef / (s / one) / one, pull(coef, others, s)
        fine = either(less(factor, 0.0), less(0.0, factor))
    if not every_lane(fine):
        nothing = equal(coef, 0.0)
        at_y = select(fine, at_y, pull(coef, others, s))
        inverse, coef = select(fine, factor, 1.0 / s), select(fine, 1.0, coef)
        for c in range(n):
            d = select(equal(y, 0.0), at_y, (load(tile, c * step) * inverse) * coef)
            store(tile, c * step, select(nothing, 0.0, d))
            y = y - 1.0
        factor, y = splat(at, 1.0), splat(at, -1.0)
    return factor, at_y, y
