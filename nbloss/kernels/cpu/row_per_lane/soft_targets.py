"""Cross entropy, one position per lane, against a distribution over all classes: probabilities, or smoothed class numbers.

One kernel for both, as in ``vector_per_row.soft_targets``: what is None is pruned.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import index_loss, smoothed_at_target, soft_factors, soft_gradient, soft_loss
from nbloss.kernels.cpu.row_per_lane.blocks import block_tiles, next_block, positions_to_line
from nbloss.kernels.cpu.row_per_lane.pack import pack, unpack
from nbloss.kernels.cpu.row_per_lane.reduce import partial_sums_size, soft_target, soft_target_sums, tile_max, tile_sums
from nbloss.kernels.cpu.row_per_lane.tile import if_given, load_per_row
from nbloss.kernels.cpu.simd.integers import get_integer
from nbloss.kernels.cpu.simd.load_store import gather, get, lanes, load, put, scatter, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer
from nbloss.kernels.cpu.simd.vec import equal, less, mask_and, mask_or, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def _write_gradient(keep, w, y, a, b, n, total, factor, away, peak, g, nothing):
    """The gradient in place of the exponentials."""
    width = lanes(keep)
    for c in range(n):
        d = soft_gradient(load(keep, c * width), soft_target(w, y, a, b, c, width), total, factor, away, peak)
        store(keep, c * width, select(nothing, 0.0, d * g))


@njit(**INLINE)
def _target_offsets(targets, mask, counts, p, hi, width, hits):
    """The offset of each lane's target in a tile; that of class 0 for an ignored row, whose target may be any number."""
    for lane in range(width):
        q = min_int(p + lane, hi - 1)
        put(hits, lane, (get_integer(targets, q) & mask if get(counts, q) != 0 else 0) * width + lane)


@njit(**INLINE)
def _class_weights_at(w, hits, width, into):
    for lane in range(width):
        put(into, lane, get(w, get(hits, lane) // width))
    return load(into, 0)


@njit(**INLINE)
def _probabilities_size(y, size):
    """How many numbers the block of probabilities holds."""
    return 0 if y is None else size


def cross_entropy_soft(x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out, lo, hi):
    n, inner = x.shape[1], x.shape[2]
    base, weights, losses = pointer(x, 0), pointer(w, 0), pointer(loss, 0)
    width = lanes(base)
    one = exp_scale(loss.dtype.type(0))
    size = block_tiles(2 * n + _probabilities_size(y, n), width)
    area = size * n * width
    block, kept, probabilities, sums, numbers = carve(
        base, (area, area, _probabilities_size(y, area), partial_sums_size(width) * width, width)
    )
    float64_sums, offsets, hits = stack_alloc(np.float64, 256), stack_alloc(np.int64, 16), stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    share, constant = splat(base, a), splat(base, b)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        if y is not None:
            pack(y, n, p, stop, offsets, probabilities)
        pack(x, n, p, stop, offsets, block)
        for k in range(tiles):
            shift, q = k * n * width, p + k * width
            tile, keep, y_tile = offset(block, shift), offset(kept, shift), if_given(y, offset(probabilities, shift))
            m = tile_max(tile, n)
            if target is not None:
                _target_offsets(pointer(target, 0), mask, pointer(spread, 0), q, stop, width, hits)
                x_target = gather(tile, hits, 0)
                hit = load_per_row(pointer(scale, 0), scale.size, q, stop, numbers)
                constant = load_per_row(pointer(spread, 0), spread.size, q, stop, numbers)
            s, rest = tile_sums(tile, n, m, keep, None, sums, float64_sums)
            spread_total, gaps = soft_target_sums(tile, weights, y_tile, share, constant, m, n, sums, float64_sums)
            log_s = log1p(rest)
            value, total = soft_loss(spread_total, log_s, gaps, m, options), spread_total
            if target is not None:
                value = select(equal(hit, 0.0), value, value + index_loss(hit, log_s, m - x_target, m, options))
                value = select(equal(constant, 0.0), 0.0, value)
                total = spread_total + hit
            store_n(losses, q, stop - q, value)
            if out is not None:
                g = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
                nothing = equal(g, 0.0)
                if target is not None:
                    nothing = mask_or(equal(constant, 0.0), nothing)
                factor, away = soft_factors(total, rest, s, log_s, m, options)
                factor = factor / one
                confident = less(s, CONFIDENT)
                if target is not None:
                    own = _class_weights_at(weights, hits, width, numbers) * constant
                    at_peak = mask_and(equal(x_target, m), confident)
                    d = smoothed_at_target(gather(keep, hits, 0), own, hit, spread_total, factor, away, at_peak)
                peak = select(confident, s * 0.0 + one, -1.0)  # no exponential is negative
                _write_gradient(keep, weights, y_tile, share, constant, n, total, factor, away, peak, g, nothing)
                if target is not None:
                    scatter(keep, hits, 0, select(nothing, 0.0, d * g))
        if out is not None:
            unpack(out, n, p, stop, offsets, kept, base)
        p = stop
    free(block)
