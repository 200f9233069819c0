"""The Hessian of the cross entropy, one position per lane: its product with an array v, and its diagonal.

v is packed beside the logits, converted from its own storage type. As in ``log_softmax``, each step goes through all tiles of a block
before the next one begins. The formulas, with ``ref`` and ``mean``, are those of ``math.epilogue``.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import curvature, hessian_diagonal, hessian_product, lift
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
from nbloss.kernels.cpu.row_per_lane.reduce import tile_max, tile_sums
from nbloss.kernels.cpu.row_per_lane.tile import slot_of
from nbloss.kernels.cpu.simd.load_store import cast, lanes, load, load_x4, splat, store
from nbloss.kernels.cpu.simd.pointers import offset, pointer
from nbloss.kernels.cpu.simd.vec import any_true, demote, equal, fma, less, promote, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import BLOCK_MAX_TILES
from nbloss.kernels.math.epilogue import CONFIDENT

TOP, REST, SUM, LOG, REF, MEAN = range(6)  # what is saved for a tile, as in ``tile``: m, s - 1, s, log s, and those of ``math.epilogue``
HESSIAN_SLOTS = 6


@njit(**INLINE)
def _at_maximum(tile, v, n, one):
    """v at the class whose exponential is that of the maximum; 0 where there is none."""
    width, result = lanes(tile), splat(tile, 0.0)
    for c in range(n):
        result = select(equal(load(tile, c * width), one), load(v, c * width), result)
    return result


@njit(**INLINE)
def _mean_product(tile, v, n, ref):
    """The float64 sum of e (v - ref) of each lane."""
    width, zero, total, c = lanes(tile), splat(tile, 0.0), promote(splat(tile, 0.0)), 0
    while c < n:
        added, stop = zero, c + 4 if c + 4 <= n else n
        while c < stop:
            added = fma(load(tile, c * width), load(v, c * width) - ref, added)
            c += 1
        total = total + promote(added)
    return total


@njit(**INLINE)
def _write_product(tile, v, n, ref, mean, factor, more, g, options):
    """The product in place of the exponentials."""
    width, nothing = lanes(tile), equal(g, 0.0)
    zeros = any_true(nothing)
    for c in range(n):
        d = hessian_product(load(tile, c * width), (load(v, c * width) - ref) - mean, factor, more, options)
        if zeros:
            d = select(nothing, 0.0, d)
        store(tile, c * width, d)


@njit(**INLINE)
def _write_diagonal(tile, n, rest, s, a, b, g, one, options):
    """The diagonal in place of the exponentials. Only confident rows have a class apart, their maximum."""
    width, nothing = lanes(tile), equal(g, 0.0)
    inverse, away, peak = 1.0 / s / one, rest / s, select(less(s, CONFIDENT), s * 0.0 + one, -1.0)  # no exponential is negative
    for c in range(n):
        e = load(tile, c * width)
        p = e * inverse
        d = hessian_diagonal(p, select(equal(e, peak), away, 1.0 - p), a, b, options)
        store(tile, c * width, select(nothing, 0.0, d))


@njit(**INLINE)
def _hessian(x, v, coef, options, out, lo, hi):
    """The product with v; without v, the diagonal."""
    n, inner = x.shape[1], x.shape[2]
    base = pointer(x, 0)
    width = lanes(base)
    one = exp_scale(cast(base, 0.0))
    size = block_tiles(2 * n if v is None else 3 * n, width)
    area, span = size * n * width, BLOCK_MAX_TILES
    block, values, saved, numbers = carve(base, (area, area, HESSIAN_SLOTS * span * width, width))
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    reads, more_reads, writes = prefetch_plan(x, n), prefetch_plan(v, n), prefetch_plan(out, n)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        values_ahead = -1
        if v is not None:
            values_ahead = pack(v, n, p, stop, offsets, values)
        ahead = pack(x, n, p, stop, offsets, block)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            tile, at = offset(block, k * n * width), offset(saved, k * width)
            prefetch_input(x, reads, stop + k * width, ahead + k * width)
            if v is not None:
                for j in range(k * width, (k + 1) * width, lanes(pointer(v, 0))):
                    prefetch_input(v, more_reads, stop + j, values_ahead + j)
            prefetch_output(out, writes, p + k * width, written + k * width)
            m = tile_max(tile, n)
            s, rest = tile_sums(tile, n, m, tile)
            store(slot_of(at, TOP, span), 0, m)
            store(slot_of(at, REST, span), 0, rest)
            store(slot_of(at, SUM, span), 0, s)
            if v is not None:
                other, confident, ref = offset(values, k * n * width), less(s, CONFIDENT), splat(base, 0.0)
                if any_true(confident):
                    ref = select(confident, _at_maximum(tile, other, n, one), 0.0)
                store(slot_of(at, REF, span), 0, ref)
                store(slot_of(at, MEAN, span), 0, demote(_mean_product(tile, other, n, ref) / promote(s * one), s))
        if options is not None:
            for k in range(0, tiles, 4):
                at = offset(saved, k * width)
                store(slot_of(at, LOG, span), 0, log1p(load_x4(slot_of(at, REST, span), 0)))
        for k in range(tiles):
            tile, at, first = offset(block, k * n * width), offset(saved, k * width), p + k * width
            g = load_per_row(pointer(coef, 0), coef.size, first, stop, numbers)
            s, rest, log_s = load(slot_of(at, SUM, span), 0), load(slot_of(at, REST, span), 0), load(slot_of(at, LOG, span), 0)
            a = curvature(g, log_s, load(slot_of(at, TOP, span), 0), options)
            if v is None:
                _write_diagonal(tile, n, rest, s, a, lift(g, 1.0, options), g, one, options)
            else:
                ref, mean = load(slot_of(at, REF, span), 0), load(slot_of(at, MEAN, span), 0)
                more = lift(g, ref + mean, options) / s / one
                _write_product(tile, offset(values, k * n * width), n, ref, mean, a / s / one, more, g, options)
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(block)


def cross_entropy_hvp(x, v, coef, options, out, lo, hi):
    _hessian(x, v, coef, options, out, lo, hi)


def cross_entropy_hessian_diag(x, coef, options, out, lo, hi):
    _hessian(x, None, coef, options, out, lo, hi)
