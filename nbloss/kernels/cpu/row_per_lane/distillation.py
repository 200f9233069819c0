"""The distillation loss and its gradient, one position per lane. The formulas are those of ``math.divergence``.

The teacher is packed beside the student. As in ``log_softmax``, each step goes through all tiles of a block before the next one begins. A
tile in which a lane is outside of the limits is computed again by `_safe_tile`, which gives the other lanes the same bits.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.optional import if_given
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.divergence import (
    divergence,
    factor,
    gradient,
    large_moved,
    large_shift,
    safe_terms,
    terms,
    z_limits,
)
from nbloss.kernels.cpu.row_per_lane.blocks import (
    block_output,
    block_tiles,
    next_block,
    positions_to_line,
    prefetch_input,
    prefetch_output,
    prefetch_plan,
)
from nbloss.kernels.cpu.row_per_lane.pack import pack, unpack
from nbloss.kernels.cpu.row_per_lane.per_row import load_per_row
from nbloss.kernels.cpu.row_per_lane.reduce import tile_max
from nbloss.kernels.cpu.row_per_lane.tile import slot_of
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import offset, pointer
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
    minimum,
    promote,
    select,
)
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import BLOCK_MAX_TILES
from nbloss.kernels.math.divergence import LN2, MOST, NEAR

SUM, EXCESS, SHIFT, TOTAL = range(4)  # what is saved for a tile, as in ``tile``: sum e, and the symbols of ``math.divergence``
SLOTS = 4


@njit(**INLINE)
def _finite(e, d, safe):
    """d; with ``safe`` (not None), 0 where e is 0."""
    if safe is None:
        return d
    return select(equal(e, 0.0), 0.0, d)


@njit(**INLINE)
def _gap_sums(tile, teacher, n, m, beta, keep, safe):
    """``(sum e, k, max (x - t), min (x - t))`` of each lane. Stores e in ``keep``."""
    width, zero = lanes(tile), splat(tile, 0.0)
    total = gaps = promote(zero)
    top, low = splat(tile, -np.inf), splat(tile, np.inf)
    c = 0
    while c < n:
        added = added_gaps = zero
        stop = c + 4 if c + 4 <= n else n
        while c < stop:
            t = load(teacher, c * width)
            e, d = exp_scaled(fma(t, beta, -m), None), load(tile, c * width) - t
            store(keep, c * width, e)
            added, added_gaps = added + e, fma(e, _finite(e, d, safe), added_gaps)
            top, low = maximum(d, top), minimum(d, low)
            c += 1
        total, gaps = total + promote(added), gaps + promote(added_gaps)
    return demote(total, m), demote(gaps / total, m) * beta, top, low


@njit(**INLINE)
def _class_terms(tile, teacher, c, m, k, beta, keep, safe):
    """``(e, z, terms)`` of class c; with ``safe`` (not None), of any class."""
    width = lanes(tile)
    v, e = load(tile, c * width), load(keep, c * width)
    z = fma(v - load(teacher, c * width), beta, -k)
    if safe is None:
        near, move = terms(e, z)
        return e, z, near, move
    low, high = z_limits(z)
    z, near, move = safe_terms(e, z, exp_scaled(fma(v, beta, -m) - k, None), low, high)
    return e, z, near, move


@njit(**INLINE)
def _term_sums(tile, teacher, n, m, k, beta, keep, moved, s, safe):
    """``(excess, shift, total)`` of each lane. Stores e (exp(z) - 1) in ``moved``."""
    width, zero = lanes(tile), splat(tile, 0.0)
    excess = shift = promote(zero)
    c = 0
    while c < n:
        added = added_shift = zero
        stop = c + 4 if c + 4 <= n else n
        while c < stop:
            e, z, near, move = _class_terms(tile, teacher, c, m, k, beta, keep, safe)
            if moved is not None:
                store(moved, c * width, move)
            added, added_shift = added + near, fma(e, z, added_shift)
            c += 1
        excess, shift = excess + promote(added), shift + promote(added_shift)
    return demote(excess, m) / s, demote(shift, m) / s, demote(excess + shift, m) / s


@njit(**NO_INLINE)
def _safe_tile(tile, teacher, n, beta, keep, moved, saved, span):
    """The steps of a tile that may have any lanes; stores SUM to TOTAL."""
    width, one = lanes(tile), exp_scale(get(keep, 0))
    m, top = tile_max(teacher, n) * beta, tile_max(tile, n) * beta
    s, k, _, _ = _gap_sums(tile, teacher, n, m, beta, keep, True)
    own = impossible = splat(tile, 0.0)
    for c in range(n):
        v, t = load(tile, c * width), load(teacher, c * width)
        own = own + exp_scaled(fma(v, beta, -top), None)
        impossible = select(mask_and(equal(v, -np.inf), less(-np.inf, t)), 1.0, impossible)
    excess, shift, total = _term_sums(tile, teacher, n, m, k, beta, keep, moved, s, True)
    most = (top - m) - k
    large = mask_or(equal(impossible, 1.0), mask_not(less(most, MOST)))
    most = select(equal(impossible, 1.0), np.inf, most)
    of_large, ratio = large_shift(most, log1p(own / one - 1.0), log1p(s / one - 1.0), LN2), (s + s) / own
    if moved is not None:
        for c in range(n):
            other = exp_scaled(fma(load(tile, c * width), beta, -top), None)
            d = large_moved(load(keep, c * width), other, ratio)
            store(moved, c * width, select(large, d, load(moved, c * width)))
    store(slot_of(saved, SUM, span), 0, s)
    store(slot_of(saved, EXCESS, span), 0, select(large, 0.0, excess))
    store(slot_of(saved, SHIFT, span), 0, select(large, of_large, shift))
    store(slot_of(saved, TOTAL, span), 0, select(large, 1.0, total))


@njit(**INLINE)
def _write_gradient(keep, moved, n, total, common, g):
    """The gradient in place of the exponentials."""
    width, nothing = lanes(keep), equal(g, 0.0)
    if any_true(nothing):
        for c in range(n):
            d = gradient(load(keep, c * width), load(moved, c * width), total, common)
            store(keep, c * width, select(nothing, 0.0, d))
    else:
        for c in range(n):
            store(keep, c * width, gradient(load(keep, c * width), load(moved, c * width), total, common))


def distillation(x, y, beta, upstream, loss, out, lo, hi):
    n, inner = x.shape[1], x.shape[2]
    base, losses = pointer(x, 0), pointer(loss, 0)
    width, step = lanes(base), lanes(pointer(y, 0))
    low, high = z_limits(splat(base, 0.0))
    inverse, square = cast(base, beta), cast(base, 1.0 / (beta * beta))
    size = block_tiles(4 * n, width)
    area, span = size * n * width, BLOCK_MAX_TILES
    block, kept, teachers, moving, saved, numbers = carve(base, (area, area, area, area, SLOTS * span * width, width))
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    reads, teacher_reads, writes = prefetch_plan(x, n), prefetch_plan(y, n), prefetch_plan(out, n)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        teacher_ahead = pack(y, n, p, stop, offsets, teachers)
        ahead = pack(x, n, p, stop, offsets, block)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            shift_of_tile, at = k * n * width, offset(saved, k * width)
            tile, teacher = offset(block, shift_of_tile), offset(teachers, shift_of_tile)
            keep, moved = offset(kept, shift_of_tile), if_given(out, offset(moving, shift_of_tile))
            prefetch_input(x, reads, stop + k * width, ahead + k * width)
            for j in range(k * width, (k + 1) * width, step):
                prefetch_input(y, teacher_reads, stop + j, teacher_ahead + j)
            prefetch_output(out, writes, p + k * width, written + k * width)
            m = tile_max(teacher, n) * inverse
            s, mean, most, least = _gap_sums(tile, teacher, n, m, inverse, keep, None)
            if all_true(mask_and(less(most * inverse - mean, high), less(low, least * inverse - mean))):
                excess, shift, total = _term_sums(tile, teacher, n, m, mean, inverse, keep, moved, s, None)
                store(slot_of(at, SUM, span), 0, s)
                store(slot_of(at, EXCESS, span), 0, excess)
                store(slot_of(at, SHIFT, span), 0, shift)
                store(slot_of(at, TOTAL, span), 0, total)
            else:
                _safe_tile(tile, teacher, n, inverse, keep, moved, at, span)
        for k in range(tiles):
            shift_of_tile, at, first = k * n * width, offset(saved, k * width), p + k * width
            s, total = load(slot_of(at, SUM, span), 0), load(slot_of(at, TOTAL, span), 0)
            excess, shift = load(slot_of(at, EXCESS, span), 0), load(slot_of(at, SHIFT, span), 0)
            store_n(losses, first, stop - first, divergence(excess, shift, total, log1p(total), NEAR) * square)
            if out is not None:
                g = load_per_row(pointer(upstream, 0), upstream.size, first, stop, numbers)
                _write_gradient(offset(kept, shift_of_tile), offset(moving, shift_of_tile), n, total, factor(g, inverse, s, total), g)
        if out is not None:
            unpack(out, n, p, stop, offsets, kept, base)
        p = stop
    free(block)
