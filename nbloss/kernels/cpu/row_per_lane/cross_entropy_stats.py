"""Statistics of rows of few classes, one position per lane: those of ``cross_entropy_stats`` and of ``evaluation``.

As in ``log_softmax``, each step goes through all tiles of a block before the next one begins. The maximum is a result, so the sums are the
shifted ones.

m ignores nan, but the argmax is NumPy's: the first nan wins. A row with nan is found by its sum, which is nan.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import entropy_of_row, log_prob_of_target, log_sum_exp
from nbloss.kernels.cpu.row_per_lane.blocks import block_tiles, next_block, positions_to_line, prefetch_input, prefetch_plan
from nbloss.kernels.cpu.row_per_lane.pack import pack
from nbloss.kernels.cpu.row_per_lane.per_row import load_classes, load_per_row
from nbloss.kernels.cpu.row_per_lane.reduce import entropy_sums
from nbloss.kernels.cpu.row_per_lane.tile import slot_of
from nbloss.kernels.cpu.simd.integers import store_flags, store_int64
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_x4, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import offset, pointer, start_if_given
from nbloss.kernels.cpu.simd.vec import all_true, equal, less, masked_add, maximum, select
from nbloss.kernels.cpu.simd.vecmath import log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import BLOCK_MAX_TILES

# what is saved for a tile: m, s - 1, log s, mean of m - x, argmax, m - x[y], correct, rank, whether the target is the argmax
TOP, REST, LOG, MEAN, INDEX, GAP, HIT, RANK, LEAD = range(9)
STATS_SLOTS = 9


@njit(**INLINE)
def _maximum(tile, n, y):
    """``(m, argmax, x[y])`` of each lane, without the lanes of nan; x[y] is 0 where y is no class."""
    width = lanes(tile)
    m, index, own = splat(tile, -np.inf), splat(tile, 0.0), splat(tile, 0.0)
    for c in range(n):
        v = load(tile, c * width)
        index = select(less(m, v), splat(tile, c), index)
        m = maximum(v, m)
        own = select(equal(y, 0.0), v, own)
        y = y - 1.0
    return m, index, own


@njit(**INLINE)
def _first_nan(tile, n):
    """The first class of each lane that is nan; -1 where there is none."""
    width, index = lanes(tile), splat(tile, -1.0)
    for k in range(n):
        c = n - 1 - k
        v = load(tile, c * width)
        index = select(equal(v, v), index, splat(tile, c))
    return index


@njit(**INLINE)
def _count_above(tile, n, own):
    """How many numbers of each lane are larger than ``own``."""
    width, count = lanes(tile), splat(tile, 0.0)
    for c in range(n):
        count = masked_add(less(own, load(tile, c * width)), count, 1.0)
    return count


def cross_entropy_stats(x, target, mask, scale, lse, log_prob, argmax, correct, entropy, rank, confidence, is_argmax, lo, hi):
    """Fill the statistics; those that a call does not ask for are None. ``target`` and ``scale`` are None in a call without targets.

    ``rank``, ``confidence`` and ``is_argmax`` come together.
    """
    n, inner = x.shape[1], x.shape[2]
    base = pointer(x, 0)
    width, span = lanes(base), BLOCK_MAX_TILES
    size = block_tiles(n, width)
    block, numbers, saved = carve(base, (size * n * width, width, STATS_SLOTS * span * width))
    offsets = stack_alloc(np.int64, 16)
    targets, scales = start_if_given(target), start_if_given(scale)
    before, reads = positions_to_line(base, None), prefetch_plan(x, n)
    p = lo
    while p < hi:
        stop, tiles = next_block(inner, p, hi, size, width, before)
        ahead = pack(x, n, p, stop, offsets, block)
        for k in range(tiles):
            tile, at, q, y = offset(block, k * n * width), offset(saved, k * width), p + k * width, splat(base, -1.0)
            prefetch_input(x, reads, stop + k * width, ahead + k * width)
            if target is not None:
                y = load_classes(targets, target.size, mask, q, stop, numbers)
            m, index, own = _maximum(tile, n, y)
            hit = select(equal(own, m), splat(base, 1.0), 0.0)
            s, rest, gaps = entropy_sums(tile, m, n)
            if rank is not None:
                known = equal(s, s)
                store(slot_of(at, RANK, span), 0, select(known, _count_above(tile, n, own), splat(base, n)))
                store(slot_of(at, LEAD, span), 0, select(known, select(equal(index, y), splat(base, 1.0), 0.0), 0.0))
            if not all_true(equal(s, s)):
                missing = _first_nan(tile, n)
                index, hit = select(less(missing, 0.0), index, missing), select(less(missing, 0.0), hit, 0.0)
            store(slot_of(at, TOP, span), 0, m)
            store(slot_of(at, REST, span), 0, rest)
            store(slot_of(at, MEAN, span), 0, gaps / s)
            store(slot_of(at, INDEX, span), 0, index)
            store(slot_of(at, GAP, span), 0, m - own)
            store(slot_of(at, HIT, span), 0, hit)
        for k in range(0, tiles, 4):
            at = offset(saved, k * width)
            store(slot_of(at, LOG, span), 0, log1p(load_x4(slot_of(at, REST, span), 0)))
        for k in range(tiles):
            at, q = offset(saved, k * width), p + k * width
            count, log_s, index = stop - q, load(slot_of(at, LOG, span), 0), load(slot_of(at, INDEX, span), 0)
            entropy_of_rows = entropy_of_row(log_s, load(slot_of(at, MEAN, span), 0))
            if lse is not None:
                lse_of_rows = log_sum_exp(log_s, load(slot_of(at, TOP, span), 0))
            if scale is not None:
                nothing = equal(load_per_row(scales, scale.size, q, stop, numbers), 0.0)
                log_prob_of_rows = log_prob_of_target(log_s, load(slot_of(at, GAP, span), 0))
                store_n(pointer(log_prob, 0), q, count, select(nothing, 0.0, log_prob_of_rows))
                entropy_of_rows, index = select(nothing, 0.0, entropy_of_rows), select(nothing, -1.0, index)
                if correct is not None:
                    store_flags(pointer(correct, 0), q, count, select(nothing, 0.0, load(slot_of(at, HIT, span), 0)))
                if lse is not None:
                    lse_of_rows = select(nothing, 0.0, lse_of_rows)
                if rank is not None:
                    confidence_of_rows = 1.0 / (load(slot_of(at, REST, span), 0) + 1.0)
                    store_n(pointer(confidence, 0), q, count, select(nothing, 0.0, confidence_of_rows))
                    store_int64(pointer(rank, 0), q, count, select(nothing, -1.0, load(slot_of(at, RANK, span), 0)))
                    store_flags(pointer(is_argmax, 0), q, count, select(nothing, 0.0, load(slot_of(at, LEAD, span), 0)))
            store_n(pointer(entropy, 0), q, count, entropy_of_rows)
            if lse is not None:
                store_n(pointer(lse, 0), q, count, lse_of_rows)
            if argmax is not None:
                store_int64(pointer(argmax, 0), q, count, index)
        p = stop
    free(block)
