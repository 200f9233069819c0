"""Cross entropy of class numbers, smoothed or not, channels first: few classes, contiguous positions.

With its gradient; ``loss_only`` has the loss alone. The arithmetic is that of ``row_per_lane``, to the last bit. Memory is accessed as
``pipeline`` says: while one block's exponentials are computed, the next block is loaded and the gradient of the last one is stored.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.loss_only import losses_only
from nbloss.kernels.cpu.channels_first.pipeline import TERMS, load_class, store_class, transfer_class
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end, positions_to_line
from nbloss.kernels.cpu.row_per_lane.per_row import class_weight_sum, load_classes, load_per_row, load_share
from nbloss.kernels.cpu.row_per_lane.tile import SAVED, gradient_factors, store_losses, sums_of_tile, tile_logs
from nbloss.kernels.cpu.simd.load_store import lanes, store
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import (
    elements_to_aligned,
    min_int,
    offset,
    pointer,
    position_pointer,
    prefetch_read,
    start_if_given,
    stride,
)
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, PIPELINE_TILES


@njit(**INLINE)
def _losses_and_gradients(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = min_int(x.shape[1], LANES_MAX_CLASSES)  # tells the compiler an upper bound
    inner, class_stride = x.shape[2], stride(x, 1)
    base = pointer(x, 0)
    width = lanes(base)
    full = PIPELINE_TILES * width
    area = n * full
    buffer, following, last, saved, terms, numbers = carve(base, (area, area, area, SAVED * full, TERMS * full, width))
    block, offsets = buffer, stack_alloc(np.int64, 16)
    weights, total_w, likely = start_if_given(w), class_weight_sum(start_if_given(w), n), False
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    before = positions_to_line(base, out)
    out_stride, large_output = stride(out, 1), channels_bypass_caches(out, base)
    line, written, nontemporal = pointer(out, 0), 0, False
    p, stop = lo, block_end(inner, lo, hi, full, before)
    for c in range(n):
        load_class(n, c, (position_pointer(x, p), class_stride, stop - p, block))
    while p < hi:
        after = block_end(inner, stop, hi, full, before) if stop < hi else stop
        source = position_pointer(x, stop), class_stride, after - stop, following
        transfers = n, source, (line, out_stride, written, last, terms, nontemporal, spread, weights)
        run = 0
        for q in range(p, stop, width):
            k = (q - p) // width
            tile, at = offset(block, k * n * width), offset(saved, k * width)
            prefetch_read(targets, q + 2 * full)
            y = load_classes(targets, target.size, mask, q, stop, numbers)
            each, share = load_per_row(scales, scale.size, q, stop, numbers), load_share(spread, q, stop, numbers)
            if likely:  # the transfers that `sums_of_tile` then leaves out
                for c in range(run, min_int(n, run + (n + 3) // 4)):
                    transfer_class(transfers, c)
            likely = sums_of_tile(
                at, PIPELINE_TILES, x, n, q, stop, tile, y, each, share, weights, total_w, tile, transfers, run, offsets, likely
            )
            run += (n + 3) // 4
        for c in range(run, n):
            transfer_class(transfers, c)
        tile_logs(saved, PIPELINE_TILES, PIPELINE_TILES, out)
        for q in range(p, stop, width):
            k = (q - p) // width
            tile, at = offset(block, k * n * width), offset(saved, k * width)
            each, share = load_per_row(scales, scale.size, q, stop, numbers), load_share(spread, q, stop, numbers)
            store_losses(at, PIPELINE_TILES, each, share, total_w, None, losses, q, stop)
            above = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
            factor, at_target, y, floor = gradient_factors(at, PIPELINE_TILES, tile, n, each, share, weights, total_w, above, None)
            term = offset(terms, TERMS * k * width)
            store(term, 0, factor)
            store(term, width, at_target)
            store(term, 2 * width, y)
            if spread is not None:
                store(term, 3 * width, floor)
        line, written = position_pointer(out, p), stop - p
        nontemporal = large_output and elements_to_aligned(line) == 0 and out_stride % width == 0
        block, following, last = following, last, block
        p, stop = stop, after
    for c in range(n):
        store_class(n, c, (line, out_stride, written, last, terms, nontemporal, spread, weights))
    free(buffer)


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    """``options`` are None: ``choose`` sends calls with row options to ``row_per_lane``."""
    if out is None:
        losses_only(x, target, mask, scale, spread, w, loss, lo, hi)
    else:
        _losses_and_gradients(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi)
