"""Short rows, and classes that do not lie side by side. One SIMD lane per row or pixel, a loop over the classes.

Slabs of tiles are brought into L1, worked on there, and carried out (``tiles.py``): rows may lie anywhere in memory. What is found out
about a tile's rows is laid aside, and the next step begins when all tiles of the slab are through the one before: a tile of few classes
is one long chain of dependent instructions, and a processor can only work on several chains if they are short.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
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
from nbloss.kernels.cpu.row_per_lane.reduce import partial_sums_size
from nbloss.kernels.cpu.row_per_lane.tile import (
    SAVED,
    blend,
    gradient_factors,
    load_classes,
    load_per_row,
    shifted_tile,
    store_losses,
    tile_logs,
    unshifted_tile,
)
from nbloss.kernels.cpu.simd.load_store import lanes, load, store
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer
from nbloss.kernels.cpu.simd.vec import all_true, equal, less, select
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import BLOCK_MAX_TILES, LANES_MAX_CLASSES


@njit(**INLINE)
def _write(tile, n, factor, at_y, y):
    """The gradient in place of the exponentials."""
    width = lanes(tile)
    for c in range(n):
        store(tile, c * width, select(equal(y, 0.0), at_y, load(tile, c * width) * factor))
        y = y - 1.0


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    size = block_tiles(n, width)
    buffer = alloc(base, (size * n + BLOCK_MAX_TILES * SAVED + partial_sums_size(width) + 1 + n) * width)
    float64_sums = stack_alloc(np.float64, 256)
    block, sums, numbers = buffer, offset(buffer, size * n * width), offset(buffer, (size * n + partial_sums_size(width)) * width)
    saved = offset(numbers, width)
    spare = offset(saved, SAVED * BLOCK_MAX_TILES * width)  # a tile as it was before the exponentials took its place
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
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
            tile, at, q = offset(block, k * n * width), offset(saved, k * width), p + k * width
            prefetch_tile(x, classes_in, ahead + k * width)
            prefetch_packed_rows(base, rows, stop + k * width)
            prefetch_output(out, lines, q, classes_out, written + k * width)
            y = load_classes(targets, target.size, mask, q, stop, numbers)
            uncounted = equal(load_per_row(scales, scale.size, q, stop, numbers), 0.0)
            enough = less(y, y)
            if n <= LANES_MAX_CLASSES:
                if out is None:
                    enough = unshifted_tile(at, BLOCK_MAX_TILES, tile, n, y, uncounted, None, None, 0)
                else:
                    enough = unshifted_tile(at, BLOCK_MAX_TILES, tile, n, y, uncounted, tile, None, 0)
            if not all_true(enough):
                there = tile
                if n <= LANES_MAX_CLASSES:
                    pack(x, n, q, min_int(q + width, stop), offsets, spare)
                    there = spare
                if out is None:
                    shifted_tile(at, BLOCK_MAX_TILES, there, n, y, enough, None, spare, sums, float64_sums)
                else:
                    shifted_tile(at, BLOCK_MAX_TILES, there, n, y, enough, tile, spare, sums, float64_sums)
                    if n <= LANES_MAX_CLASSES:
                        blend(tile, spare, n, enough)
        tile_logs(saved, BLOCK_MAX_TILES, tiles, out)
        for k in range(tiles):
            tile, at, q = offset(block, k * n * width), offset(saved, k * width), p + k * width
            each = load_per_row(scales, scale.size, q, stop, numbers)
            store_losses(at, BLOCK_MAX_TILES, each, losses, q, stop)
            if out is not None:
                above = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
                factor, at_y, y = gradient_factors(at, BLOCK_MAX_TILES, tile, n, each, above, n <= LANES_MAX_CLASSES)
                _write(tile, n, factor, at_y, y)
        if out is not None:
            unpack(out, n, p, stop, offsets, block, base)
        p = stop
    free(buffer)
