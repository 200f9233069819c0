"""The losses of a tile, one position per lane, and the factors that turn its exponentials into gradients.

Label smoothing gives the class c of a row share * w[c], and the target's class ``each`` besides: ``share`` is a number per row or None (no
smoothing: Numba prunes it), w are class weights or None (ones), and ``total_w`` is their float64 sum. A row counts where its share, or
without smoothing its weight ``each``, is not 0.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.pipeline import less_floor
from nbloss.kernels.cpu.compile.optional import if_given, none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.epilogue import index_at_target, index_factor, index_loss, smoothed_at_target, smoothed_loss, soft_factors
from nbloss.kernels.cpu.row_per_lane.pack import pack
from nbloss.kernels.cpu.row_per_lane.per_row import own_logit, own_weight
from nbloss.kernels.cpu.row_per_lane.reduce import tile_sums, weighted_gaps
from nbloss.kernels.cpu.row_per_lane.reduce_unshifted import extremes, target_sums, unshifted_is_exact, unshifted_would_fail
from nbloss.kernels.cpu.simd.division import divide, reciprocal
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_x4, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset
from nbloss.kernels.cpu.simd.vec import (
    all_true,
    any_true,
    demote,
    equal,
    fma,
    less,
    mask_and,
    mask_not,
    mask_or,
    maximum,
    select,
)
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p, unshifted_bounds, unshifted_scale

# What is saved for a tile between the steps, in slots of one vector; a slot of neighbouring tiles is contiguous (``slot_of``).
#
# slot         holds
# GAP          m - x[target]; 0 where the maximum m was not subtracted
# NUMERATOR    the sum without the term that DENOMINATOR holds; later log s
# DENOMINATOR  the target's exponential, or where m was subtracted that of 0; later 1 / SUM
# LOW          rounding error of NUMERATOR
# SUM          s, in the scale of the exponentials            |
# OTHERS       the sum without the target's term, alike       | where there is a gradient
# CLASS        the target                                     |
# TOP          m; not written for unshifted sums
# GAPS         sum of w (m - x), or of w (x[target] - x)      |
# OWN          the target's exponential                       | for label smoothing
# WEIGHT       the target's class weight                      |
GAP, NUMERATOR, DENOMINATOR, LOW, SUM, OTHERS, CLASS, TOP, GAPS, OWN, WEIGHT = range(11)
SAVED = 11  # slots


@none_of_none
def _zero_if_given(floor):
    return floor * 0.0


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
def ignored_rows(each, share):
    """The lanes whose rows do not count."""
    if share is None:
        return equal(each, 0.0)
    return equal(share, 0.0)


@njit(**INLINE)
def _save_smoothing(at, span, n, y, w, share, gaps, own, gradient):
    """Save what label smoothing adds; nothing without it."""
    if share is not None:
        store(slot_of(at, GAPS, span), 0, demote(gaps, share))
        if gradient is not None:
            store(slot_of(at, OWN, span), 0, own)
            store(slot_of(at, WEIGHT, span), 0, own_weight(share, n, y, w))


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
def allowed(exact, each, share, total_w):
    """Lanes that are ``exact`` and whose smoothing allows unshifted sums, or whose rows are ignored.

    The loss is then each log(s / own) + share sum w (log(s / own) + x[y] - x). The differences may be negative: the rounding error of the
    second term is at most that of the first one times 2 share total_w / each.
    """
    if share is None:
        return mask_or(equal(each, 0.0), exact)
    return mask_or(equal(share, 0.0), mask_and(exact, mask_not(less(each, share * total_w))))


@njit(**INLINE)
def unshifted_tile(at, span, tile, n, y, each, share, w, total_w, keep, transfers, run):
    """Save a tile's unshifted sums; returns in which lanes they have full precision. Lanes of ignored rows always pass."""
    own, others, low, s, gaps = target_sums(tile, n, y, None, own_logit(share, tile, n, y), w, keep, transfers, run)
    _save_smoothing(at, span, n, y, w, share, gaps, own, keep)
    return allowed(save_unshifted(at, span, own, others, low, s, y, keep), each, share, total_w)


@none_of_none
def _compared_with(share, subtracted, m, own):
    return select(subtracted, m, own)


@njit(**NO_INLINE)
def mixed_tile(at, span, tile, n, y, each, share, w, total_w, needed, keep):
    """``(exact, subtracted)``: like ``unshifted_tile``, but the maximum is subtracted where ``needed`` or certain to be needed.

    A lane has the same bits whichever of both functions computes it, if its unshifted sums are exact.
    """
    one = unshifted_scale(get(at, 0))
    m, largest, own_x = extremes(tile, n, y)
    certain = mask_not(allowed(mask_not(unshifted_would_fail(m, largest, own_x, get(at, 0))), each, share, total_w))
    subtracted = mask_or(needed, certain)
    above = _compared_with(share, subtracted, m, own_x)
    own, others, low, s, gaps = target_sums(tile, n, y, select(subtracted, m, 0.0), above, w, keep, None, 0)
    _save_smoothing(at, span, n, y, w, share, gaps, own, keep)
    exact = mask_or(subtracted, allowed(save_unshifted(at, span, own, others, low, s, y, keep), each, share, total_w))
    gap = m - own_x
    at_top = equal(gap, 0.0)  # otherwise the loss is at least log 2, and the maximum's own term may be subtracted from the sum
    rest = select(at_top, others, (others - one) + (own + low))
    store(slot_of(at, GAP, span), 0, select(subtracted, gap, 0.0))
    store(slot_of(at, NUMERATOR, span), 0, select(subtracted, rest, others))
    store(slot_of(at, DENOMINATOR, span), 0, select(subtracted, one, own))
    store(slot_of(at, LOW, span), 0, select(subtracted, select(at_top, low, 0.0), low))
    return exact, subtracted


@njit(**INLINE)
def sums_of_tile(at, span, x, n, q, stop, tile, y, each, share, w, total_w, keep, transfers, run, offsets, likely):
    """Save a tile's sums; returns whether the maximum had to be subtracted in a lane.

    ``likely`` says whether that is expected, and changes no bit: as in the tile before, mostly. Then the maxima are looked up first, and no
    time goes to sums that fail. Otherwise the lanes that fail are computed again, from the logits.
    """
    needed, again = less(y, y), likely
    if not likely:
        needed = mask_not(unshifted_tile(at, span, tile, n, y, each, share, w, total_w, keep, transfers, run))
        again = any_true(needed)
        if again and keep is not None:
            pack(x, n, q, min_int(q + lanes(at), stop), offsets, tile)
    found = again
    while again:
        exact, subtracted = mixed_tile(at, span, tile, n, y, each, share, w, total_w, needed, keep)
        needed, again, found = mask_or(subtracted, mask_not(exact)), not all_true(exact), any_true(subtracted)
        if again and keep is not None:
            pack(x, n, q, min_int(q + lanes(at), stop), offsets, tile)
    return found


@njit(**INLINE)
def shifted_tile(at, span, tile, n, y, share, w, keep):
    """Save a tile's maxima and exact sums. ``keep`` takes the exponentials, and may be ``tile``."""
    one = exp_scale(get(at, 0))
    m, x_y = _top_and_own(tile, n, y)
    gap = m - x_y
    if share is not None:
        store(slot_of(at, GAPS, span), 0, weighted_gaps(tile, w, m, n))
    if keep is None:
        s, rest = tile_sums(tile, n, m, None)
    else:
        s, rest = tile_sums(tile, n, m, tile)
    store(slot_of(at, TOP, span), 0, m)
    store(slot_of(at, GAP, span), 0, gap)
    store(slot_of(at, NUMERATOR, span), 0, rest)
    store(slot_of(at, DENOMINATOR, span), 0, splat(at, 1.0))
    store(slot_of(at, LOW, span), 0, splat(at, 0.0))
    if keep is not None:
        own = exp_scaled(-gap, None)
        store(slot_of(at, SUM, span), 0, s * one)
        store(slot_of(at, OTHERS, span), 0, select(less(0.0, gap), s - own / one, rest) * one)
        store(slot_of(at, CLASS, span), 0, y)
        if share is not None:
            store(slot_of(at, OWN, span), 0, own)
            store(slot_of(at, WEIGHT, span), 0, own_weight(share, n, y, w))


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
def store_losses(at, span, each, share, total_w, options, losses, q, stop):
    """Store the losses of a tile."""
    log_s, gap, top = load(slot_of(at, NUMERATOR, span), 0), load(slot_of(at, GAP, span), 0), load(slot_of(at, TOP, span), 0)
    if share is None:
        loss = index_loss(each, log_s, gap, top, options)
    else:
        loss = smoothed_loss(each, share, share * total_w, log_s, gap, load(slot_of(at, GAPS, span), 0), top, options)
    store_n(losses, q, stop - q, select(ignored_rows(each, share), 0.0, loss))


@njit(**INLINE)
def gradient_factors(at, span, tile, n, each, share, w, total_w, above, options):
    """``(factor, at_target, y, floor)``: the gradient of class c is e * factor - floor * w[c], and ``at_target`` at class y.

    ``above`` is the upstream gradient; ``floor`` is None without smoothing. Where the factor would lose digits, and in rows without weight,
    the gradient replaces the exponentials here: factor 1, no class y, no floor.
    """
    width = lanes(at)
    s, others, y = load(slot_of(at, SUM, span), 0), load(slot_of(at, OTHERS, span), 0), load(slot_of(at, CLASS, span), 0)
    r = load(slot_of(at, DENOMINATOR, span), 0)
    ignored, floor = ignored_rows(each, share), if_given(share, share)
    coef = select(ignored, 0.0, each * above)  # the upstream gradient of a mean over no rows is nan
    if share is not None:
        hit, floor, spread = coef, select(ignored, 0.0, share * above), select(ignored, 0.0, (share * total_w) * above)
        coef = hit + spread
        own, own_q = load(slot_of(at, OWN, span), 0), floor * load(slot_of(at, WEIGHT, span), 0)
        at_peak = less(others, own)
    multiplier = coef  # of p
    if options is None:  # unshifted sums: row options need the log-sum-exp, whose digits the maximum keeps
        factor = divide(coef, s, r)
        if share is None:
            # +0 in ignored rows, and all of the weight where the target has no part of the sum: the product is rounded twice
            at_target = select(equal(others, s), -coef, 0.0 - factor * others)
        else:
            at_target = smoothed_at_target(own * r, own_q, hit, spread, coef, coef * divide(others, s, r), at_peak)
        tiny, _, most = unshifted_bounds(get(at, 0))
        size = maximum(factor, -factor)
        # A factor of 0 is fine where all exponentials are finite: ignored rows among others would send most tiles through the loop below.
        idle = mask_and(equal(coef, 0.0), mask_and(less(tiny, s), less(s, most)))
        fine = mask_or(idle, mask_and(less(tiny, size), less(size, most)))
    else:  # the operations of ``vector_per_row``, so that a row has the same bits
        one, log_s = exp_scale(get(at, 0)), load(slot_of(at, NUMERATOR, span), 0)
        gap, top = load(slot_of(at, GAP, span), 0), load(slot_of(at, TOP, span), 0)
        multiplier = index_factor(coef, log_s, gap, top, options)
        factor = multiplier / (s / one) / one
        if share is None:
            at_target = index_at_target(coef, multiplier, others, exp_scaled(-gap, None), s, log_s, top, options)
        else:
            of_p, away = soft_factors(coef, others / one, s / one, log_s, top, options)
            at_target = smoothed_at_target(own / one, own_q, hit, spread, of_p, away, at_peak)
        fine = mask_or(less(factor, 0.0), less(0.0, factor))
    if not all_true(fine):
        nothing = equal(coef, 0.0)
        if options is None and share is None:
            at_target = select(fine, at_target, -(coef * divide(others, s, r)))
        first, second = select(fine, factor, r), select(fine, 1.0, multiplier)
        for c in range(n):
            d = select(equal(y, 0.0), at_target, less_floor((load(tile, c * width) * first) * second, floor, w, c))
            store(tile, c * width, select(nothing, 0.0, d))
            y = y - 1.0
        factor, y = splat(at, 1.0), splat(at, -1.0)
        floor = _zero_if_given(floor)
    return factor, at_target, y, floor
