"""The losses of a tile, one row or pixel per lane, and what makes its exponentials gradients."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.bare_sums import bare_enough, bare_sums
from nbloss.kernels.cpu.lane_sums import lane_sums
from nbloss.kernels.cpu.memory import (
    get,
    get_integer,
    lanes,
    load,
    load_four,
    load_integers,
    moved,
    put,
    smaller,
    splat,
    store,
    store_first,
)
from nbloss.kernels.cpu.row_sums import pick_loss, pull
from nbloss.kernels.cpu.simd import both, either, equal, every_lane, fma, less, maximum, select
from nbloss.kernels.cpu.vecmath import STRICT, bounds, exp_scaled, inverse, log1p, over, unit

# What is laid aside for a tile, a vector each, and the same kind of some tiles side by side: m - x[y]; what is to be divided by what, for
# the sum without the term that it is taken from, and what rounding took from the first; where there is a gradient, s and the sum of
# what is not y's, scaled alike, and y.
GAP, UP, DOWN, LOW, SUM, OTHERS, CLASS = range(7)
FOUND = 7


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
def _seen(at, kind, span):
    """Where one kind of what is laid aside for a tile begins."""
    return moved(at, kind * span * lanes(at))


@njit(**STRICT)
def bare_tile(at, span, tile, n, y, uncounted, keep, moving, run):
    """Lay aside what exponentials as they are say of a tile; in which lanes that is enough. ``uncounted`` rows need not be known."""
    own, others, low, s = bare_sums(tile, n, y, keep, moving, run)
    return either(uncounted, laid_aside(at, span, own, others, low, s, y, keep))


@njit(**STRICT)
def laid_aside(at, span, own, others, low, s, y, gradient):
    """Lay bare sums aside, with what a ``gradient`` needs of them; in which lanes they are enough."""
    store(_seen(at, GAP, span), 0, splat(at, 0.0))
    store(_seen(at, UP, span), 0, others)
    store(_seen(at, DOWN, span), 0, own)
    store(_seen(at, LOW, span), 0, low)
    if gradient is not None:
        store(_seen(at, SUM, span), 0, s)
        store(_seen(at, OTHERS, span), 0, others)
        store(_seen(at, CLASS, span), 0, y)
    return bare_enough(own, others, s, get(at, 0))


@njit(**STRICT)
def exact_tile(at, span, tile, n, y, enough, keep, spare, sums, doubles):
    """Lay aside what a tile's maxima and sums are, but in the lanes of which ``enough`` is laid there. The tile may be ``keep``; or be
    ``spare``, and ``keep`` hold exponentials."""
    one = unit(get(at, 0))
    m, x_y = _top_and_own(tile, n, y)
    if keep is None:
        s, rest = lane_sums(tile, n, m, None, None, sums, doubles)
    else:
        s, rest = lane_sums(tile, n, m, tile, spare, sums, doubles)
    _replace(_seen(at, GAP, span), enough, m - x_y)
    _replace(_seen(at, UP, span), enough, rest)
    _replace(_seen(at, DOWN, span), enough, splat(at, 1.0))
    _replace(_seen(at, LOW, span), enough, splat(at, 0.0))
    if keep is not None:
        others = select(less(0.0, m - x_y), s - exp_scaled(x_y - m, None) / one, rest)
        _replace(_seen(at, SUM, span), enough, s * one)
        _replace(_seen(at, OTHERS, span), enough, others * one)
        store(_seen(at, CLASS, span), 0, y)


@njit(**STRICT)
def _replace(at, kept, value):
    store(at, 0, select(kept, load(at, 0), value))


@njit(**STRICT)
def blend(tile, other, n, mask):
    """``tile``, and where the mask does not hold the other one."""
    step = lanes(tile)
    for c in range(n):
        store(tile, c * step, select(mask, load(tile, c * step), load(other, c * step)))


@njit(**STRICT)
def logarithms(found, span, tiles, gradient):
    """log s in the place of ``UP``, and 1 / s in that of ``DOWN`` if there is a ``gradient``, of four tiles at a time: each is one long
    chain of instructions, and a processor looks ahead no further than to the next one."""
    step = lanes(found)
    for k in range(0, tiles, 4):
        at = moved(found, k * step)
        up, down = load_four(_seen(at, UP, span), 0), load_four(_seen(at, DOWN, span), 0)
        r = inverse(down)
        rest = over(up, down, r)
        low = (fma(-rest, down, up) + load_four(_seen(at, LOW, span), 0)) * r
        store(_seen(at, UP, span), 0, log1p(rest, low))
        if gradient is not None:
            store(_seen(at, DOWN, span), 0, inverse(load_four(_seen(at, SUM, span), 0)))


@njit(**STRICT)
def tile_losses(at, span, each, losses, q, stop):
    """Write the losses of a tile."""
    loss = pick_loss(each, load(_seen(at, UP, span), 0), load(_seen(at, GAP, span), 0))
    store_first(losses, q, stop - q, select(equal(each, 0.0), 0.0, loss))


@njit(**STRICT)
def tile_factors(at, span, tile, n, each, above, bare):
    """``(factor, at_y, y)``: the gradient is e * factor, but ``at_y`` at class y; of losses that count ``each``, times ``above``.

    Where that would not have every digit, or a row does not count, the gradient takes the exponentials' place at once: factor 1, no y.
    """
    step = lanes(at)
    s, others, y = load(_seen(at, SUM, span), 0), load(_seen(at, OTHERS, span), 0), load(_seen(at, CLASS, span), 0)
    r = load(_seen(at, DOWN, span), 0)
    coef = select(equal(each, 0.0), 0.0, each * above)  # above may be nan where no row counts
    if bare:
        factor = over(coef, s, r)
        at_y = -(factor * others)
        tiny, _, most = bounds(get(at, 0))
        size = maximum(factor, -factor)
        fine = both(less(tiny, size), less(size, most))
    else:  # as ``rows.py`` does
        one = unit(get(at, 0))
        factor, at_y = coef / (s / one) / one, pull(coef, others, s)
        fine = either(less(factor, 0.0), less(0.0, factor))
    if not every_lane(fine):
        nothing = equal(coef, 0.0)
        if bare:
            at_y = select(fine, at_y, -(coef * over(others, s, r)))
        first, second = select(fine, factor, r), select(fine, 1.0, coef)
        for c in range(n):
            d = select(equal(y, 0.0), at_y, (load(tile, c * step) * first) * second)
            store(tile, c * step, select(nothing, 0.0, d))
            y = y - 1.0
        factor, y = splat(at, 1.0), splat(at, -1.0)
    return factor, at_y, y
