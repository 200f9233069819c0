"""Cross entropy of class numbers, smoothed or not, one position per lane.

As in ``log_softmax``, each step goes through all tiles of a block before the next one begins. Up to LANES_MAX_CLASSES classes, the sums are
taken without the maximum; it is subtracted only in lanes that would lose digits (``tile.sums_of_tile``).
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.pipeline import less_floor
from nbloss.kernels.cpu.compile.optional import if_given
from nbloss.kernels.cpu.compile.pipeline import INLINE
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
from nbloss.kernels.cpu.row_per_lane.per_row import class_weight_sum, load_classes, load_per_row, load_share
from nbloss.kernels.cpu.row_per_lane.tile import SAVED, gradient_factors, shifted_tile, store_losses, sums_of_tile, tile_logs
from nbloss.kernels.cpu.simd.load_store import lanes, load, store
from nbloss.kernels.cpu.simd.pointers import offset, pointer, start_if_given
from nbloss.kernels.cpu.simd.vec import equal, select
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import BLOCK_MAX_TILES


@njit(**INLINE)
def _write(tile, n, factor, at_target, y, floor, w):
    """The gradient in place of the exponentials."""
    width = lanes(tile)
    for c in range(n):
        store(tile, c * width, select(equal(y, 0.0), at_target, less_floor(load(tile, c * width) * factor, floor, w, c)))
        y = y - 1.0


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    n, inner = x.shape[1], x.shape[2]
    base = pointer(x, 0)
    width = lanes(base)
    size = block_tiles(n * buffers_of_map(out, options), width)
    block, numbers, saved = carve(base, (size * n * width, width, SAVED * BLOCK_MAX_TILES * width))
    slopes = slope_buffer(out, options, base, size * n * width)
    offsets = stack_alloc(np.int64, 16)
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    weights, total_w, likely = start_if_given(w), class_weight_sum(start_if_given(w), n), False
    before = positions_to_line(base, out)
    reads, writes = prefetch_plan(x, n), prefetch_plan(out, n)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        ahead = pack(x, n, p, stop, offsets, block)
        map_block(block, slopes, tiles * n * width, options)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            tile, at, q = offset(block, k * n * width), offset(saved, k * width), p + k * width
            prefetch_input(x, reads, stop + k * width, ahead + k * width)
            prefetch_output(out, writes, q, written + k * width)
            y = load_classes(targets, target.size, mask, q, stop, numbers)
            keep, share = if_given(out, tile), load_share(spread, q, stop, numbers)
            if options is None:
                each = load_per_row(scales, scale.size, q, stop, numbers)
                likely = sums_of_tile(
                    at, BLOCK_MAX_TILES, x, n, q, stop, tile, y, each, share, weights, total_w, keep, None, 0, offsets, likely
                )
            else:
                shifted_tile(at, BLOCK_MAX_TILES, tile, n, y, share, weights, keep)
        tile_logs(saved, BLOCK_MAX_TILES, tiles, out)
        for k in range(tiles):
            tile, at, q = offset(block, k * n * width), offset(saved, k * width), p + k * width
            each, share = load_per_row(scales, scale.size, q, stop, numbers), load_share(spread, q, stop, numbers)
            store_losses(at, BLOCK_MAX_TILES, each, share, total_w, options, losses, q, stop)
            if out is not None:
                above = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
                factor, at_target, y, floor = gradient_factors(at, BLOCK_MAX_TILES, tile, n, each, share, weights, total_w, above, options)
                _write(tile, n, factor, at_target, y, floor, weights)
        if out is not None:
            multiply_block(block, slopes, tiles * n * width, options)
            unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(block)
    free(slopes)
