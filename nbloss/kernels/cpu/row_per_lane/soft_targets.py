"""``lanes.py`` for any target masses: smoothed class numbers, and probabilities."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end, block_tiles, positions_to_line
from nbloss.kernels.cpu.row_per_lane.pack import pack, unpack
from nbloss.kernels.cpu.row_per_lane.reduce import partial_sums_size, soft_target, soft_target_sums, tile_max, tile_sums
from nbloss.kernels.cpu.row_per_lane.tile import load_per_row
from nbloss.kernels.cpu.simd.integers import get_integer
from nbloss.kernels.cpu.simd.load_store import gather, get, lanes, load, put, scatter, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer
from nbloss.kernels.cpu.simd.vec import equal, less, mask_or, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.vector_per_row.reduce import CONFIDENT, index_loss, soft_loss


@njit(**INLINE)
def _write_gradient(keep, w, y, a, b, n, total, s, rest, g, nothing):
    """g (total p - q) in place of the exponentials, as in ``rows.py``."""
    width = lanes(keep)
    one = exp_scale(get(keep, 0))
    top = select(less(s, CONFIDENT), s * 0.0 + one, -1.0)
    factor = total / s / one
    away = total * (rest / s)
    for c in range(n):
        e = load(keep, c * width)
        q = soft_target(w, y, a, b, c, width)
        d = select(equal(e, top), (total - q) - away, e * factor - q)
        store(keep, c * width, select(nothing, 0.0, d * g))


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    width = lanes(base)
    size = block_tiles(3 * n, width)
    each = size * n * width
    buffer = alloc(base, 3 * each + (partial_sums_size(width) + 1) * width)
    float64_sums = stack_alloc(np.float64, 256)
    block, kept, targets, sums = buffer, offset(buffer, each), offset(buffer, 2 * each), offset(buffer, 3 * each)
    numbers, losses = offset(sums, partial_sums_size(width) * width), pointer(loss, 0)
    offsets = stack_alloc(np.int64, 16)
    share, floor = splat(base, a), splat(base, b)
    before = positions_to_line(base, out)
    p = lo
    while p < hi:
        stop = block_end(x.shape[2], p, hi, size * width, before)
        tiles = (stop - p + width - 1) // width
        pack(y, n, p, stop, offsets, targets)
        pack(x, n, p, stop, offsets, block)
        for k in range(tiles):
            shift, q = k * n * width, p + k * width
            tile, keep, mass = offset(block, shift), offset(kept, shift), offset(targets, shift)
            m = tile_max(tile, n)
            s, rest = tile_sums(tile, n, m, keep, None, sums, float64_sums)
            total, gaps = soft_target_sums(tile, classes, mass, share, floor, m, n, sums, float64_sums)
            store_n(losses, q, stop - q, soft_loss(total, log1p(rest), gaps))
            if out is not None:
                g = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
                _write_gradient(keep, classes, mass, share, floor, n, total, s, rest, g, equal(g, 0.0))
        if out is not None:
            unpack(out, n, p, stop, offsets, kept, base)
        p = stop
    free(buffer)


@njit(**INLINE)
def _find_hits(targets, mask, counts, p, hi, width, hits):
    """Where each lane's target stands in a tile; class 0 for a row that does not count (its target may be any number)."""
    for lane in range(width):
        q = min_int(p + lane, hi - 1)
        put(hits, lane, (get_integer(targets, q) & mask if get(counts, q) != 0 else 0) * width + lane)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base, classes = pointer(x, 0), pointer(w, 0)
    width = lanes(base)
    one = exp_scale(loss.dtype.type(0))
    size = block_tiles(2 * n, width)
    each = size * n * width
    buffer = alloc(base, 2 * each + (partial_sums_size(width) + 1) * width)
    float64_sums = stack_alloc(np.float64, 256)
    block, kept, sums = buffer, offset(buffer, each), offset(buffer, 2 * each)
    numbers, losses = offset(sums, partial_sums_size(width) * width), pointer(loss, 0)
    offsets, hits = stack_alloc(np.int64, 16), stack_alloc(np.int64, 16)
    spreads = pointer(spread, 0)
    before = positions_to_line(base, out)
    p = lo
    while p < hi:
        stop = block_end(x.shape[2], p, hi, size * width, before)
        tiles = (stop - p + width - 1) // width
        pack(x, n, p, stop, offsets, block)
        for k in range(tiles):
            tile, keep, q = offset(block, k * n * width), offset(kept, k * n * width), p + k * width
            _find_hits(pointer(target, 0), mask, spreads, q, stop, width, hits)
            m = tile_max(tile, n)
            x_y = gather(tile, hits, 0)
            s, rest = tile_sums(tile, n, m, keep, None, sums, float64_sums)
            hit, b = load_per_row(pointer(scale, 0), scale.size, q, stop, numbers), load_per_row(spreads, spread.size, q, stop, numbers)
            nothing = equal(b, 0.0)
            mass, gaps = soft_target_sums(tile, classes, None, b, b, m, n, sums, float64_sums)
            log_s = log1p(rest)
            value = soft_loss(mass, log_s, gaps)
            value = select(equal(hit, 0.0), value, value + index_loss(hit, log_s, m - x_y))
            store_n(losses, q, stop - q, select(nothing, 0.0, value))
            if out is not None:
                g = load_per_row(pointer(upstream, 0), upstream.size, q, stop, numbers)
                nothing = mask_or(nothing, equal(g, 0.0))
                total = mass + hit
                for lane in range(width):
                    put(numbers, lane, get(classes, get(hits, lane) // width))
                own = load(numbers, 0) * b
                d = (gather(keep, hits, 0) * (total / s / one) - own) - hit
                at_top = select(less(s, CONFIDENT), (mass - own) - total * (rest / s), d)
                d = select(less(x_y, m), d, at_top)
                _write_gradient(keep, classes, None, b, b, n, total, s, rest, g, nothing)
                scatter(keep, hits, 0, select(nothing, 0.0, d * g))
        if out is not None:
            unpack(out, n, p, stop, offsets, kept, base)
        p = stop
    free(buffer)
