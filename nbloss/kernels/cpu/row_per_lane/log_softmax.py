"""log_softmax and its gradient, one position per lane; the loops serve ``softmax``, too.

A block is packed into the first cache, changed there, and unpacked to the output. Each step goes through all tiles of the block before the
next step begins: a tile of few classes is one long chain of dependent instructions, and a processor overlaps several chains only if
they are short.
"""

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
from nbloss.kernels.cpu.row_per_lane.pack import pack, unpack
from nbloss.kernels.cpu.row_per_lane.reduce import class_dot, class_sum, tile_max, tile_sums, two_numbers
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, store
from nbloss.kernels.cpu.simd.pointers import offset, pointer
from nbloss.kernels.cpu.simd.vec import demote, minimum
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc


@njit(**INLINE)
def normalized_tiles(x, out, probabilities, lo, hi):
    """out = (x - m) - log s; with ``probabilities`` (True or None), out = exp(x - m) / s."""
    n, inner = x.shape[1], x.shape[2]
    base = pointer(x, 0)
    width = lanes(base)
    size = block_tiles(n, width)
    block, maxima, rests = carve(base, (size * n * width, size * width, size * width))
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    reads, writes = prefetch_plan(x, n), prefetch_plan(out, n)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        ahead = pack(x, n, p, stop, offsets, block)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            tile = offset(block, k * n * width)
            prefetch_input(x, reads, stop + k * width, ahead + k * width)
            prefetch_output(out, writes, p + k * width, written + k * width)
            m = tile_max(tile, n)
            if probabilities is None:
                _, rest = tile_sums(tile, n, m, None)
                store(maxima, k * width, m)
                store(rests, k * width, rest)
            else:
                s, _ = tile_sums(tile, n, m, tile)
                store(rests, k * width, s)
        for k in range(tiles):
            tile = offset(block, k * n * width)
            if probabilities is None:
                m, log_s = load(maxima, k * width), log1p(load(rests, k * width))
                for c in range(n):
                    store(tile, c * width, (load(tile, c * width) - m) - log_s)
            else:
                factor = 1.0 / load(rests, k * width) / exp_scale(get(rests, 0))
                for c in range(n):
                    store(tile, c * width, load(tile, c * width) * factor)
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(block)


def log_softmax(x, out, lo, hi):
    """out = (x - m) - log s."""
    normalized_tiles(x, out, None, lo, hi)


@njit(**INLINE)
def gradient_tiles(g, y, out, probabilities, lo, hi):
    """out = g - exp(y) * sum of g; with ``probabilities`` (True or None), out = y (g - sum of g y).

    The second sum is subtracted as two numbers: where y is close to 1, g and the sum cancel.
    """
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
            if probabilities is None:
                factor = demote(class_sum(above, n) / np.float64(exp_scale(get(tile, 0))), load(tile, 0))
                for c in range(n):
                    e = exp_scaled(minimum(load(tile, c * width), MAX_EXP_ARGUMENT), None)
                    store(tile, c * width, load(above, c * width) - e * factor)
            else:
                high, low = two_numbers(class_dot(above, tile, n), load(tile, 0))
                for c in range(n):
                    store(tile, c * width, load(tile, c * width) * ((load(above, c * width) - high) - low))
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(block)


def log_softmax_backward(g, y, out, lo, hi):
    """out = g - exp(y) * sum of g."""
    gradient_tiles(g, y, out, None, lo, hi)
