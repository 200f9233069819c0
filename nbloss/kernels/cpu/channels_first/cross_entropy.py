"""TODO"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.loss_only import losses
from nbloss.kernels.cpu.channels_first.pipeline import load_class, store_class, transfer_class
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end, positions_to_line
from nbloss.kernels.cpu.row_per_lane.pack import pack, position_pointer
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
from nbloss.kernels.cpu.simd.load_store import lanes, store
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, prefetch_read, stride
from nbloss.kernels.cpu.simd.vec import all_true, equal
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, PIPELINE_TILES


@njit(**INLINE)
def _losses_and_gradients(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = min_int(x.shape[1], LANES_MAX_CLASSES)  # which says to the compiler that there are no more
    inner, class_stride = x.shape[2], stride(x, 1)
    base = pointer(x, 0)
    width = lanes(base)
    full = PIPELINE_TILES * width
    area = n * full
    buffer = alloc(base, 3 * area + (PIPELINE_TILES * (SAVED + 3) + partial_sums_size(width) + 1 + n) * width)
    float64_sums = stack_alloc(np.float64, 256)
    block, following, last = buffer, offset(buffer, area), offset(buffer, 2 * area)
    saved = offset(buffer, 3 * area)
    terms = offset(saved, PIPELINE_TILES * SAVED * width)
    sums = offset(terms, PIPELINE_TILES * 3 * width)
    numbers = offset(sums, partial_sums_size(width) * width)
    spare = offset(numbers, width)
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    offsets = stack_alloc(np.int64, 16)
    before = positions_to_line(base, out)
    out_stride, streamed = stride(out, 1), channels_bypass_caches(out, base)
    line, written, past = pointer(out, 0), 0, False
    p, stop = lo, block_end(inner, lo, hi, full, before)
    for c in range(n):
        load_class(n, c, (position_pointer(x, p), class_stride, stop - p, block))
    while p < hi:
        after = block_end(inner, stop, hi, full, before) if stop < hi else stop
        inward = position_pointer(x, stop), class_stride, after - stop, following
        transfers = n, inward, (line, out_stride, written, last, terms, past)
        run = 0
        for q in range(p, stop, width):
            k = (q - p) // width
            tile, at = offset(block, k * n * width), offset(saved, k * width)
            prefetch_read(targets, q + 2 * full)
            y = load_classes(targets, target.size, mask, q, stop, numbers)
            uncounted = equal(load_per_row(scales, scale.size, q, stop, numbers), 0.0)
            enough = unshifted_tile(at, PIPELINE_TILES, tile, n, y, uncounted, tile, transfers, run)
            if not all_true(enough):
                pack(x, n, q, min_int(q + width, stop), offsets, spare)
                shifted_tile(at, PIPELINE_TILES, spare, n, y, enough, tile, spare, sums, float64_sums)
                blend(tile, spare, n, enough)
            run += (n + 3) // 4
        for c in range(run, n):
            transfer_class(transfers, c)
        tile_logs(saved, PIPELINE_TILES, PIPELINE_TILES, out)
        for q in range(p, stop, width):
            k = (q - p) // width
            tile, at = offset(block, k * n * width), offset(saved, k * width)
            each = load_per_row(scales, scale.size, q, stop, numbers)
            store_losses(at, PIPELINE_TILES, each, losses, q, stop)
            above = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
            factor, at_y, y = gradient_factors(at, PIPELINE_TILES, tile, n, each, above, True)
            term = offset(terms, 3 * k * width)
            store(term, 0, factor)
            store(term, width, at_y)
            store(term, 2 * width, y)
        line, written = position_pointer(out, p), stop - p
        past = streamed and elements_to_aligned(line) == 0 and out_stride % width == 0
        block, following, last = following, last, block
        p, stop = stop, after
    for c in range(n):
        store_class(n, c, (line, out_stride, written, last, terms, past))
    free(buffer)


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    if out is None:
        losses(x, target, mask, scale, loss, lo, hi)
    else:
        _losses_and_gradients(x, target, mask, scale, upstream, loss, out, lo, hi)
