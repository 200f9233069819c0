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
from nbloss.kernels.cpu.row_per_lane.reduce import fold_partial_sums
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_float64, splat, store
from nbloss.kernels.cpu.simd.pointers import offset, pointer
from nbloss.kernels.cpu.simd.vec import demote, equal, fma, promote, select
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES


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
def _class_dot(above, tile, n, float64_sums):
    """The float64 sum of g y of each lane. Of many classes, class c goes to partial sum c mod (2 * lanes), as in ``vector_per_row``."""
    width = lanes(tile)
    zero = promote(splat(tile, 0.0))
    if n <= LANES_MAX_CLASSES:
        for c in range(n):
            zero = fma(promote(load(above, c * width)), promote(load(tile, c * width)), zero)
        return zero
    like = load(tile, 0)
    for k in range(2 * width):
        store(float64_sums, k * width, zero)
    for c in range(n):
        slot = (c & (2 * width - 1)) * width
        total = load_float64(float64_sums, slot, like)
        store(float64_sums, slot, fma(promote(load(above, c * width)), promote(load(tile, c * width)), total))
    for k in range(width):
        other = load_float64(float64_sums, (k + width) * width, like)
        store(float64_sums, k * width, load_float64(float64_sums, k * width, like) + other)
    return fold_partial_sums(tile, n, float64_sums)


def softmax_backward(g, y, out, lo, hi):
    """out = y (g - sum of g y). The sum is subtracted as two numbers: where y is close to 1, g and the sum cancel."""
    n, inner = y.shape[1], y.shape[2]
    base = pointer(y, 0)
    width = lanes(base)
    size = block_tiles(2 * n, width)
    block, upstream = carve(base, (size * n * width, size * n * width))
    float64_sums, offsets = stack_alloc(np.float64, 512), stack_alloc(np.int64, 16)
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
            high, low = two_numbers(_class_dot(above, tile, n, float64_sums), load(tile, 0))
            for c in range(n):
                store(tile, c * width, load(tile, c * width) * ((load(above, c * width) - high) - low))
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(block)
