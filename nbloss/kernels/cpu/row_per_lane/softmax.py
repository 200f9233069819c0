"""softmax and its gradient, one position per lane. The exponentials take the place of the logits in a block."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import (
    block_output,
    block_tiles,
    next_block,
    positions_to_line,
    prefetch_input,
    prefetch_output,
    prefetch_plan,
)
from nbloss.kernels.cpu.row_per_lane.log_softmax import normalized_tiles
from nbloss.kernels.cpu.row_per_lane.pack import pack, unpack
from nbloss.kernels.cpu.simd.load_store import lanes, load, splat, store
from nbloss.kernels.cpu.simd.pointers import offset, pointer
from nbloss.kernels.cpu.simd.vec import demote, equal, fma, promote, select
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc


def softmax(x, out, lo, hi):
    """out = exp(x - m) / s."""
    normalized_tiles(x, out, True, lo, hi)


@njit(**INLINE)
def two_numbers(total, like):
    """``(high, low)`` of a float64 sum, in the type of ``like``; an infinite sum has no rounding error."""
    high = demote(total, like)
    low = demote(total - promote(high), like)
    return high, select(equal(low - low, 0.0), low, 0.0)


@njit(**INLINE)
def _class_dot(above, tile, n):
    """The float64 sum of g y of each lane."""
    width, total = lanes(tile), promote(splat(tile, 0.0))
    for c in range(n):
        total = fma(promote(load(above, c * width)), promote(load(tile, c * width)), total)
    return total


def softmax_backward(g, y, out, lo, hi):
    """out = y (g - sum of g y). The sum is subtracted as two numbers: where y is close to 1, g and the sum cancel."""
    n, inner = y.shape[1], y.shape[2]
    base = pointer(y, 0)
    width = lanes(base)
    size = block_tiles(2 * n, width)
    block, upstream = carve(base, (size * n * width, size * n * width))
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    reads, upstream_reads, writes = prefetch_plan(y, n), prefetch_plan(g, n), prefetch_plan(out, n)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        ahead, upstream_ahead = pack(y, n, p, stop, offsets, block), pack(g, n, p, stop, offsets, upstream)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            tile, above = offset(block, k * n * width), offset(upstream, k * n * width)
            prefetch_input(y, reads, stop + k * width, ahead + k * width)
            prefetch_input(g, upstream_reads, stop + k * width, upstream_ahead + k * width)
            prefetch_output(out, writes, p + k * width, written + k * width)
            high, low = two_numbers(_class_dot(above, tile, n), load(tile, 0))
            for c in range(n):
                store(tile, c * width, load(tile, c * width) * ((load(above, c * width) - high) - low))
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(block)
