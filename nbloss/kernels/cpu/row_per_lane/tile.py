"""The losses of a tile, one row or pixel per lane, and what makes its exponentials gradients."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.reduce import tile_sums
from nbloss.kernels.cpu.row_per_lane.reduce_unshifted import unshifted_is_exact, unshifted_sums
from nbloss.kernels.cpu.simd.integers import get_integer, load_integers
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_x4, put, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset
from nbloss.kernels.cpu.simd.vec import all_true, equal, fma, less, mask_and, mask_or, maximum, select
from nbloss.kernels.cpu.simd.vecmath import divide, exp_scale, exp_scaled, log1p, reciprocal, unshifted_bounds
from nbloss.kernels.cpu.vector_per_row.reduce import grad_at_target, index_loss

# What is laid aside for a tile, a vector each, and the same kind of some tiles side by side: m - x[y]; what is to be divided by what, for
# the sum without the term that it is taken from, and what rounding took from the first; where there is a gradient, s and the sum of
# what is not y's, scaled alike, and y.
GAP, NUMERATOR, DENOMINATOR, LOW, SUM, OTHERS, CLASS = range(7)

SAVED = 7


@njit(**INLINE)
def load_per_row(base, count, p, stop, into):
    """One number per position of a tile, of ``count`` there are; an array of one number has it for all."""
    width = lanes(into)
    if count == 1:
        return splat(into, get(base, 0))
    if p + width <= count:
        return load(base, p)
    for lane in range(width):
        put(into, lane, get(base, min_int(p + lane, stop - 1)))
    return load(into, 0)


@njit(**INLINE)
def load_classes(targets, count, mask, p, stop, into):
    """The targets of a tile, as floats. They are compared with each class in turn: numbers written one by one could not be read back as a
    vector before the processor's stores have drained, which takes longer than a short row."""
    if p + lanes(into) <= count:
        return load_integers(offset(targets, p), mask, load(into, 0))
    for lane in range(lanes(into)):
        put(into, lane, np.int32(get_integer(targets, min_int(p + lane, stop - 1)) & mask))
    return load(into, 0)


@njit(**INLINE)
def _top_and_own(tile, n, y):
    """Each lane's maximum and its number of class y; 0 where that is none (a row that does not count may have any target)."""
    width = lanes(tile)
    m, own = splat(tile, -np.inf), splat(tile, 0.0)
    for c in range(n):
        v = load(tile, c * width)
        m = maximum(v, m)
        own = select(equal(y, 0.0), v, own)
        y = y - 1.0
    return m, own


@njit(**INLINE)
def slot_of(at, kind, span):
    """Where one kind of what is laid aside for a tile begins."""
    return offset(at, kind * span * lanes(at))


@njit(**INLINE)
def unshifted_tile(at, span, tile, n, y, uncounted, keep, transfers, run):
    """Lay aside what exponentials as they are say of a tile; in which lanes that is enough. ``uncounted`` rows need not be known."""
    own, others, low, s = unshifted_sums(tile, n, y, keep, transfers, run)
    return mask_or(uncounted, save_unshifted(at, span, own, others, low, s, y, keep))


@njit(**INLINE)
def save_unshifted(at, span, own, others, low, s, y, gradient):
    """Lay bare sums aside, with what a ``gradient`` needs of them; in which lanes they are enough."""
    store(slot_of(at, GAP, span), 0, splat(at, 0.0))
    store(slot_of(at, NUMERATOR, span), 0, others)
    store(slot_of(at, DENOMINATOR, span), 0, own)
    store(slot_of(at, LOW, span), 0, low)
    if gradient is not None:
        store(slot_of(at, SUM, span), 0, s)
        store(slot_of(at, OTHERS, span), 0, others)
        store(slot_of(at, CLASS, span), 0, y)
    return unshifted_is_exact(own, others, s, get(at, 0))


@njit(**INLINE)
def shifted_tile(at, span, tile, n, y, enough, keep, spare, sums, float64_sums):
    """Lay aside what a tile's maxima and sums are, but in the lanes of which ``enough`` is laid there. The tile may be ``keep``; or be
    ``spare``, and ``keep`` hold exponentials."""
    one = exp_scale(get(at, 0))
    m, x_y = _top_and_own(tile, n, y)
    if keep is None:
        s, rest = tile_sums(tile, n, m, None, None, sums, float64_sums)
    else:
        s, rest = tile_sums(tile, n, m, tile, spare, sums, float64_sums)
    _replace(slot_of(at, GAP, span), enough, m - x_y)
    _replace(slot_of(at, NUMERATOR, span), enough, rest)
    _replace(slot_of(at, DENOMINATOR, span), enough, splat(at, 1.0))
    _replace(slot_of(at, LOW, span), enough, splat(at, 0.0))
    if keep is not None:
        others = select(less(0.0, m - x_y), s - exp_scaled(x_y - m, None) / one, rest)
        _replace(slot_of(at, SUM, span), enough, s * one)
        _replace(slot_of(at, OTHERS, span), enough, others * one)
        store(slot_of(at, CLASS, span), 0, y)


@njit(**INLINE)
def _replace(at, kept, value):
    store(at, 0, select(kept, load(at, 0), value))


@njit(**INLINE)
def blend(tile, other, n, mask):
    """``tile``, and where the mask does not hold the other one."""
    width = lanes(tile)
    for c in range(n):
        store(tile, c * width, select(mask, load(tile, c * width), load(other, c * width)))


@njit(**INLINE)
def tile_logs(saved, span, tiles, gradient):
    """log s in the place of ``UP``, and 1 / s in that of ``DOWN`` if there is a ``gradient``, of four tiles at a time: each is one long
    chain of instructions, and a processor looks ahead no further than to the next one."""
    width = lanes(saved)
    for k in range(0, tiles, 4):
        at = offset(saved, k * width)
        up, down = load_x4(slot_of(at, NUMERATOR, span), 0), load_x4(slot_of(at, DENOMINATOR, span), 0)
        r = reciprocal(down)
        rest = divide(up, down, r)
        low = (fma(-rest, down, up) + load_x4(slot_of(at, LOW, span), 0)) * r
        store(slot_of(at, NUMERATOR, span), 0, log1p(rest, low))
        if gradient is not None:
            store(slot_of(at, DENOMINATOR, span), 0, reciprocal(load_x4(slot_of(at, SUM, span), 0)))


@njit(**INLINE)
def store_losses(at, span, each, losses, q, stop):
    """Write the losses of a tile."""
    loss = index_loss(each, load(slot_of(at, NUMERATOR, span), 0), load(slot_of(at, GAP, span), 0))
    store_n(losses, q, stop - q, select(equal(each, 0.0), 0.0, loss))


@njit(**INLINE)
def gradient_factors(at, span, tile, n, each, above, bare):
    """``(factor, at_y, y)``: the gradient is e * factor, but ``at_y`` at class y; of losses that count ``each``, times ``above``.

    Where that would not have every digit, or a row does not count, the gradient takes the exponentials' place at once: factor 1, no y.
    """
    width = lanes(at)
    s, others, y = load(slot_of(at, SUM, span), 0), load(slot_of(at, OTHERS, span), 0), load(slot_of(at, CLASS, span), 0)
    r = load(slot_of(at, DENOMINATOR, span), 0)
    coef = select(equal(each, 0.0), 0.0, each * above)  # above may be nan where no row counts
    if bare:
        factor = divide(coef, s, r)
        at_y = -(factor * others)
        tiny, _, most = unshifted_bounds(get(at, 0))
        size = maximum(factor, -factor)
        fine = mask_and(less(tiny, size), less(size, most))
    else:  # as ``rows.py`` does
        one = exp_scale(get(at, 0))
        factor, at_y = coef / (s / one) / one, grad_at_target(coef, others, s)
        fine = mask_or(less(factor, 0.0), less(0.0, factor))
    if not all_true(fine):
        nothing = equal(coef, 0.0)
        if bare:
            at_y = select(fine, at_y, -(coef * divide(others, s, r)))
        first, second = select(fine, factor, r), select(fine, 1.0, coef)
        for c in range(n):
            d = select(equal(y, 0.0), at_y, (load(tile, c * width) * first) * second)
            store(tile, c * width, select(nothing, 0.0, d))
            y = y - 1.0
        factor, y = splat(at, 1.0), splat(at, -1.0)
    return factor, at_y, y
