"""The losses of a tile, one position per lane, and the factors that turn its exponentials into gradients."""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import index_at_target, index_factor, index_loss
from nbloss.kernels.cpu.row_per_lane.pack import pack
from nbloss.kernels.cpu.row_per_lane.reduce import tile_sums
from nbloss.kernels.cpu.row_per_lane.reduce_unshifted import unshifted_is_exact, unshifted_sums
from nbloss.kernels.cpu.simd.integers import get_integer, load_integers
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_x4, put, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset
from nbloss.kernels.cpu.simd.vec import all_true, equal, fma, less, mask_and, mask_or, maximum, select
from nbloss.kernels.cpu.simd.vecmath import divide, exp_scale, exp_scaled, log1p, reciprocal, unshifted_bounds

# What is saved for a tile between the steps, in slots of one vector; a slot of neighbouring tiles is contiguous (``slot_of``).
#
# slot         holds
# GAP          m - x[target]; 0 for unshifted sums
# NUMERATOR    the sum without the term that DENOMINATOR holds; later log s
# DENOMINATOR  the target's exponential (unshifted) or 1 (shifted); later 1 / SUM
# LOW          rounding error of NUMERATOR
# SUM          s, in the scale of the exponentials            |
# OTHERS       the sum without the target's term, alike       | where there is a gradient
# CLASS        the target                                     |
# TOP          m; not written for unshifted sums
GAP, NUMERATOR, DENOMINATOR, LOW, SUM, OTHERS, CLASS, TOP = range(8)
SAVED = 8  # slots


def if_given(array, value):
    """``value`` where there is an array, else None: Numba prunes what is None."""


@overload(if_given, jit_options=INLINE)
def _if_given(array, value):
    if isinstance(array, types.NoneType):
        return lambda array, value: None
    return lambda array, value: value


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
def _top_and_own(tile, n, y):
    """``(m, x[y])`` of each lane; x[y] is 0 where y is no class (an ignored row may have any target)."""
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
    """The address of a tile's slot, where ``at`` is its first one and ``span`` tiles have slots."""
    return offset(at, kind * span * lanes(at))


@njit(**INLINE)
def unshifted_tile(at, span, tile, n, y, ignored, keep, transfers, run):
    """Save a tile's unshifted sums; returns in which lanes they have full precision. Lanes of ``ignored`` rows always pass."""
    own, others, low, s = unshifted_sums(tile, n, y, keep, transfers, run)
    return mask_or(ignored, save_unshifted(at, span, own, others, low, s, y, keep))


@njit(**INLINE)
def save_unshifted(at, span, own, others, low, s, y, gradient):
    """Save unshifted sums, and what a ``gradient`` needs of them; returns in which lanes they have full precision."""
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
def shifted_tile(at, span, tile, n, y, done, keep, copy, sums, float64_sums):
    """Save a tile's maxima and exact sums, except in the lanes that are ``done``.

    ``tile`` may be ``keep``, which takes the exponentials; or it may be ``copy``, while ``keep`` holds other exponentials.
    """
    one = exp_scale(get(at, 0))
    m, x_y = _top_and_own(tile, n, y)
    if keep is None:
        s, rest = tile_sums(tile, n, m, None, None, sums, float64_sums)
    else:
        s, rest = tile_sums(tile, n, m, tile, copy, sums, float64_sums)
    store(slot_of(at, TOP, span), 0, m)
    _replace(slot_of(at, GAP, span), done, m - x_y)
    _replace(slot_of(at, NUMERATOR, span), done, rest)
    _replace(slot_of(at, DENOMINATOR, span), done, splat(at, 1.0))
    _replace(slot_of(at, LOW, span), done, splat(at, 0.0))
    if keep is not None:
        others = select(less(0.0, m - x_y), s - exp_scaled(x_y - m, None) / one, rest)
        _replace(slot_of(at, SUM, span), done, s * one)
        _replace(slot_of(at, OTHERS, span), done, others * one)
        store(slot_of(at, CLASS, span), 0, y)


@njit(**INLINE)
def repair_unshifted(at, span, x, n, q, stop, y, exact, keep, offsets, copy, sums, float64_sums):
    """Compute a tile's lanes again from the logits, with the maximum, where its unshifted sums are not ``exact``."""
    if not all_true(exact):
        pack(x, n, q, min_int(q + lanes(at), stop), offsets, copy)
        shifted_tile(at, span, copy, n, y, exact, keep, copy, sums, float64_sums)
        if keep is not None:
            _blend(keep, copy, n, exact)


@njit(**INLINE)
def _replace(at, kept, value):
    store(at, 0, select(kept, load(at, 0), value))


@njit(**INLINE)
def _blend(tile, other, n, mask):
    """Replace ``tile`` by ``other`` where the mask does not hold."""
    width = lanes(tile)
    for c in range(n):
        store(tile, c * width, select(mask, load(tile, c * width), load(other, c * width)))


@njit(**INLINE)
def tile_logs(saved, span, tiles, gradient):
    """Replace NUMERATOR by log s and, where there is a ``gradient``, DENOMINATOR by 1 / SUM.

    Four tiles at a time: each is one long chain of dependent instructions, and a processor looks ahead about one chain.
    """
    width = lanes(saved)
    for k in range(0, tiles, 4):
        at = offset(saved, k * width)
        numerator, denominator = load_x4(slot_of(at, NUMERATOR, span), 0), load_x4(slot_of(at, DENOMINATOR, span), 0)
        r = reciprocal(denominator)
        rest = divide(numerator, denominator, r)
        low = (fma(-rest, denominator, numerator) + load_x4(slot_of(at, LOW, span), 0)) * r
        store(slot_of(at, NUMERATOR, span), 0, log1p(rest, low))
        if gradient is not None:
            store(slot_of(at, DENOMINATOR, span), 0, reciprocal(load_x4(slot_of(at, SUM, span), 0)))


@njit(**INLINE)
def store_losses(at, span, each, options, losses, q, stop):
    """Store the losses of a tile, whose rows have the weights ``each``."""
    log_s, gap, top = load(slot_of(at, NUMERATOR, span), 0), load(slot_of(at, GAP, span), 0), load(slot_of(at, TOP, span), 0)
    store_n(losses, q, stop - q, select(equal(each, 0.0), 0.0, index_loss(each, log_s, gap, top, options)))


@njit(**INLINE)
def gradient_factors(at, span, tile, n, each, above, unshifted, options):
    """``(factor, at_target, y)``: the gradient is e * factor, and ``at_target`` at class y; ``above`` is the upstream gradient.

    Where the factor would lose digits, and in rows without weight, the gradient replaces the exponentials here: factor 1, no class y.
    """
    width = lanes(at)
    s, others, y = load(slot_of(at, SUM, span), 0), load(slot_of(at, OTHERS, span), 0), load(slot_of(at, CLASS, span), 0)
    r = load(slot_of(at, DENOMINATOR, span), 0)
    coef = select(equal(each, 0.0), 0.0, each * above)  # the upstream gradient of a mean over no rows is nan
    multiplier = coef  # of p
    if unshifted:
        factor = divide(coef, s, r)
        at_target = -(factor * others)
        tiny, _, most = unshifted_bounds(get(at, 0))
        size = maximum(factor, -factor)
        fine = mask_and(less(tiny, size), less(size, most))
    else:  # the operations of ``vector_per_row``, so that a row has the same bits
        one, log_s = exp_scale(get(at, 0)), load(slot_of(at, NUMERATOR, span), 0)
        gap, top = load(slot_of(at, GAP, span), 0), load(slot_of(at, TOP, span), 0)
        multiplier = index_factor(coef, log_s, top, options)
        factor = multiplier / (s / one) / one
        at_target = index_at_target(coef, others, exp_scaled(-gap, None), s, log_s, top, options)
        fine = mask_or(less(factor, 0.0), less(0.0, factor))
    if not all_true(fine):
        nothing = equal(coef, 0.0)
        if unshifted:
            at_target = select(fine, at_target, -(coef * divide(others, s, r)))
        first, second = select(fine, factor, r), select(fine, 1.0, multiplier)
        for c in range(n):
            d = select(equal(y, 0.0), at_target, (load(tile, c * width) * first) * second)
            store(tile, c * width, select(nothing, 0.0, d))
            y = y - 1.0
        factor, y = splat(at, 1.0), splat(at, -1.0)
    return factor, at_target, y
