"""Cross entropy against probabilities, one position per lane.

The probabilities are packed beside the logits, converted from their own storage type, and become the target distribution q. As in
``log_softmax``, each step goes through all tiles of a block before the next one begins.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.optional import if_given
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import soft_elsewhere, soft_factors, soft_gradient, soft_loss
from nbloss.kernels.cpu.logit_map import buffers_of_map, map_block, multiply_block, slope_buffer
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
from nbloss.kernels.cpu.row_per_lane.reduce import soft_sums, tile_max
from nbloss.kernels.cpu.row_per_lane.tile import slot_of
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_x4, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import offset, pointer, start_if_given
from nbloss.kernels.cpu.simd.vec import any_true, equal, less, mask_or, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import BLOCK_MAX_TILES
from nbloss.kernels.math.epilogue import CONFIDENT

TOP, REST, LOG, SUM, TOTAL, GAPS = range(6)  # what is saved for a tile, as in ``tile``: m, s - 1, log s, s, sum q, sum q (m - x)
SOFT_SLOTS = 6


@njit(**INLINE)
def _write_gradient(keep, q, n, total, factor, away, s, g, one):
    """The gradient in place of the exponentials. Only confident rows have a class apart, their maximum."""
    width = lanes(keep)
    confident, nothing = less(s, CONFIDENT), equal(g, 0.0)
    factor = factor * g / one
    if any_true(mask_or(confident, nothing)):
        total, away, peak = total * g, away * g, select(confident, s * 0.0 + one, -1.0)  # no exponential is negative
        for c in range(n):
            d = soft_gradient(load(keep, c * width), load(q, c * width) * g, total, factor, away, peak)
            store(keep, c * width, select(nothing, 0.0, d))
    else:
        for c in range(n):
            store(keep, c * width, soft_elsewhere(load(keep, c * width), load(q, c * width) * g, factor))


def cross_entropy_soft(x, y, w, a, b, options, upstream, loss, out, lo, hi):
    n, inner = x.shape[1], x.shape[2]
    base, losses = pointer(x, 0), pointer(loss, 0)
    width, step = lanes(base), lanes(pointer(y, 0))
    one = exp_scale(loss.dtype.type(0))
    size = block_tiles((2 + buffers_of_map(out, options)) * n, width)
    area, span = size * n * width, BLOCK_MAX_TILES
    block, kept, probabilities, saved, numbers = carve(base, (area, area, area, SOFT_SLOTS * span * width, width))
    slopes = slope_buffer(out, options, base, area)
    offsets = stack_alloc(np.int64, 16)
    before, weights = positions_to_line(base, out), start_if_given(w)
    reads, target_reads, writes = prefetch_plan(x, n), prefetch_plan(y, n), prefetch_plan(out, n)
    share, constant = splat(base, a), splat(base, b)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        target_ahead = pack(y, n, p, stop, offsets, probabilities)
        ahead = pack(x, n, p, stop, offsets, block)
        map_block(block, slopes, tiles * n * width, options)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            shift, at = k * n * width, offset(saved, k * width)
            tile, keep, q = offset(block, shift), if_given(out, offset(kept, shift)), offset(probabilities, shift)
            prefetch_input(x, reads, stop + k * width, ahead + k * width)
            for j in range(k * width, (k + 1) * width, step):
                prefetch_input(y, target_reads, stop + j, target_ahead + j)
            prefetch_output(out, writes, p + k * width, written + k * width)
            m = tile_max(tile, n)
            s, rest, total, gaps = soft_sums(tile, weights, q, share, constant, m, n, keep)
            store(slot_of(at, TOP, span), 0, m)
            store(slot_of(at, REST, span), 0, rest)
            store(slot_of(at, SUM, span), 0, s)
            store(slot_of(at, TOTAL, span), 0, total)
            store(slot_of(at, GAPS, span), 0, gaps)
        for k in range(0, tiles, 4):
            at = offset(saved, k * width)
            store(slot_of(at, LOG, span), 0, log1p(load_x4(slot_of(at, REST, span), 0)))
        for k in range(tiles):
            shift, at, first = k * n * width, offset(saved, k * width), p + k * width
            top, rest, log_s = load(slot_of(at, TOP, span), 0), load(slot_of(at, REST, span), 0), load(slot_of(at, LOG, span), 0)
            s, total, gaps = load(slot_of(at, SUM, span), 0), load(slot_of(at, TOTAL, span), 0), load(slot_of(at, GAPS, span), 0)
            store_n(losses, first, stop - first, soft_loss(total, log_s, gaps, top, options))
            if out is not None:
                g = load_per_row(pointer(upstream, 0), upstream.size, first, stop, numbers)
                factor, away = soft_factors(total, rest, s, log_s, top, options)
                _write_gradient(offset(kept, shift), offset(probabilities, shift), n, total, factor, away, s, g, one)
        if out is not None:
            multiply_block(kept, slopes, tiles * n * width, options)
            unpack(out, n, p, stop, offsets, kept, base)
        p = stop
    free(block)
    free(slopes)
