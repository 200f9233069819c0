"""TODO"""

import numpy as np

from nbloss.kernels.cpu.row_per_lane.blocks import (
    block_end,
    block_output,
    block_tiles,
    classes_to_prefetch,
    packed_row_length,
    positions_to_line,
    prefetch_output,
    prefetch_packed_rows,
    prefetch_tile,
)
from nbloss.kernels.cpu.row_per_lane.pack import pack, unpack
from nbloss.kernels.cpu.row_per_lane.reduce import class_sum, partial_sums_size, tile_max, tile_sums
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, store
from nbloss.kernels.cpu.simd.pointers import offset, pointer
from nbloss.kernels.cpu.simd.vec import demote, minimum
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    size = block_tiles(n, width)
    buffer = alloc(base, (size * (n + 2) + partial_sums_size(width)) * width)
    float64_sums = stack_alloc(np.float64, 256)
    block, sums, saved = buffer, offset(buffer, size * n * width), offset(buffer, (size * n + partial_sums_size(width)) * width)
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    rows, lines = packed_row_length(x), packed_row_length(out)
    classes_in, classes_out = classes_to_prefetch(x, n), classes_to_prefetch(out, n)
    p = lo
    while p < hi:
        stop = block_end(x.shape[2], p, hi, size * width, before)
        tiles = (stop - p + width - 1) // width
        ahead = pack(x, n, p, stop, offsets, block)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            tile, q = offset(block, k * n * width), p + k * width
            prefetch_tile(x, classes_in, ahead + k * width)
            prefetch_packed_rows(base, rows, stop + k * width)
            prefetch_output(out, lines, q, classes_out, written + k * width)
            m = tile_max(tile, n)
            _, rest = tile_sums(tile, n, m, None, None, sums, float64_sums)
            store(saved, 2 * k * width, m)
            store(saved, (2 * k + 1) * width, rest)
        for k in range(tiles):
            tile = offset(block, k * n * width)
            m, log_s = load(saved, 2 * k * width), log1p(load(saved, (2 * k + 1) * width))
            for c in range(n):
                store(tile, c * width, (load(tile, c * width) - m) - log_s)
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(buffer)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    base = pointer(y, 0)
    width = lanes(base)
    size = block_tiles(2 * n, width)
    buffer = alloc(base, (2 * size * n + partial_sums_size(width)) * width)
    float64_sums = stack_alloc(np.float64, 256)
    block, upstream, sums = buffer, offset(buffer, size * n * width), offset(buffer, 2 * size * n * width)
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    rows_y, rows_g, lines = packed_row_length(y), packed_row_length(g), packed_row_length(out)
    classes_y, classes_g, classes_out = classes_to_prefetch(y, n), classes_to_prefetch(g, n), classes_to_prefetch(out, n)
    p = lo
    while p < hi:
        stop = block_end(y.shape[2], p, hi, size * width, before)
        tiles = (stop - p + width - 1) // width
        ahead, above_ahead = pack(y, n, p, stop, offsets, block), pack(g, n, p, stop, offsets, upstream)
        written = block_output(out, n, p, stop, base)
        for k in range(tiles):
            tile, above, q = offset(block, k * n * width), offset(upstream, k * n * width), p + k * width
            prefetch_tile(y, classes_y, ahead + k * width)
            prefetch_tile(g, classes_g, above_ahead + k * width)
            prefetch_packed_rows(base, rows_y, stop + k * width)
            prefetch_packed_rows(pointer(g, 0), rows_g, stop + k * width)
            prefetch_output(out, lines, q, classes_out, written + k * width)
            factor = demote(class_sum(above, n, sums, float64_sums) / np.float64(exp_scale(get(tile, 0))), load(tile, 0))
            for c in range(n):
                e = exp_scaled(minimum(load(tile, c * width), MAX_EXP_ARGUMENT), None)
                store(tile, c * width, load(above, c * width) - e * factor)
        unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(buffer)
