"""log_softmax, channels first, of more than LANES_MAX_CLASSES classes, with the bits of ``vector_per_row``.

Memory is walked as in ``gradients``, in runs of SUM_TILES vectors of each class: for the maxima, for the sums and for the output.
Positions whose sum is below CONFIDENT are copied to rows, whose ``row_rest`` is computed to full precision.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.blocked.copy import row_pitch, rows_in
from nbloss.kernels.cpu.channels_first.log_softmax import read, write
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_n, load_x4, put, splat, store
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import (
    chunk_from_lines,
    elements_to_aligned,
    min_int,
    offset,
    pointer,
    position_pointer,
    prefetch_read,
    stride,
)
from nbloss.kernels.cpu.simd.vec import any_true, demote, less, maximum, promote
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import alloc, alloc_like, carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import GRADIENT_PREFETCH, PIPELINE_TILES, SUM_BLOCK_CLASSES, SUM_TILES
from nbloss.kernels.cpu.vector_per_row.confident import row_rest
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def _store_maxima(row, class_stride, n, count, maxima):
    """Store the maximum of each of ``count`` positions."""
    width, whole = lanes(row), count // lanes(row) * lanes(row)
    for k in range(0, count, width):
        store(maxima, k, splat(row, -np.inf))
    for c in range(n):
        values = offset(row, c * class_stride)
        for k in range(0, whole, width):
            prefetch_read(values, GRADIENT_PREFETCH * class_stride + k)
            store(maxima, k, maximum(load(values, k), load(maxima, k)))
        if whole < count:
            store(maxima, whole, maximum(load_n(values, whole, count - whole, 0.0), load(maxima, whole)))


@njit(**INLINE)
def _store_totals(row, class_stride, n, count, maxima, sums, totals):
    """Store the sum of the scaled exponentials of each of ``count`` positions in ``totals``, in float64.

    ``sums`` has 2 * lanes partial sums of a block of classes and ``totals`` has lanes float64 sums of them, each of SUM_TILES vectors.
    """
    width = lanes(row)
    most, part, last, whole = SUM_TILES * width, PIPELINE_TILES * width, n // width * width, count // width * width
    like = splat(row, 0.0)
    for k in range(0, width * most, width):
        store(totals, k, promote(like))
    for start in range(0, n, SUM_BLOCK_CLASSES):
        for k in range(0, 2 * width * most, width):
            store(sums, k, like)
        for c in range(start, min_int(n, start + SUM_BLOCK_CLASSES)):
            # the last vector of a row overlaps the one before it
            slot = c & (2 * width - 1) if c < last else (last & width) + c - n + width
            values, into = offset(row, c * class_stride), offset(sums, slot * most)
            k = 0
            while k + part <= count:
                for j in range(k, k + part, width):
                    prefetch_read(values, GRADIENT_PREFETCH * class_stride + j)
                store(into, k, load_x4(into, k) + exp_scaled(load_x4(values, k) - load_x4(maxima, k), None))
                k += part
            while k < whole:
                store(into, k, load(into, k) + exp_scaled(load(values, k) - load(maxima, k), None))
                k += width
            if k < count:
                store(into, k, load(into, k) + exp_scaled(load_n(values, k, count - k, 0.0) - load(maxima, k), None))
        for slot in range(0, width * most, most):
            for k in range(slot, slot + count, width):
                store(totals, k, load_float64(totals, k, like) + promote(load(sums, k) + load(sums, k + width * most)))
    half = width // 2
    while half > 0:
        for slot in range(0, half * most, most):
            for k in range(slot, slot + count, width):
                store(totals, k, load_float64(totals, k, like) + load_float64(totals, k + half * most, like))
        half //= 2


@njit(**NO_INLINE)
def _store_exact(x, p, count, maxima, totals, rests, rows):
    """Replace the rests of the confident ones of ``count`` positions from p on, at most a vector."""
    view = rows_in(x, rows, p, p + count)
    for k in range(count):
        if get(totals, k) < CONFIDENT:
            put(rests, k, cast(rests, row_rest(position_pointer(view, p + k), x.shape[1], get(maxima, k), None)))


def log_softmax(x, out, lo, hi):
    """out = (x - m) - log s."""
    n, inner, class_stride, out_stride = x.shape[1], x.shape[2], stride(x, 1), stride(out, 1)
    base = pointer(x, 0)
    width = lanes(base)
    part, most, like = PIPELINE_TILES * width, SUM_TILES * width, splat(base, 0.0)
    maxima, rests, sums = carve(base, (most, most, 2 * width * most))
    totals, rows = alloc(stack_alloc(np.float64, 1), width * most), alloc_like(base, width * row_pitch(n))
    one, nontemporal = np.float64(exp_scale(get(maxima, 0))), channels_bypass_caches(out, base)
    before, positions = elements_to_aligned(pointer(out, 0)), x.shape[0] * inner
    p, hi = chunk_from_lines(lo, hi, before, positions)
    while p < hi:
        stop = block_end(inner, p, hi, most, before)
        count, row, result = stop - p, position_pointer(x, p), position_pointer(out, p)
        _store_maxima(row, class_stride, n, count, maxima)
        _store_totals(row, class_stride, n, count, maxima, sums, totals)
        for k in range(0, count, width):
            total = load_float64(totals, k, like) / one
            store(totals, k, total)
            store(rests, k, demote(total - 1.0, like))
            if any_true(less(total, CONFIDENT)):
                exact = min_int(width, count - k)
                _store_exact(x, p + k, exact, offset(maxima, k), offset(totals, k), offset(rests, k), rows)
        for k in range(0, count, width):
            store(rests, k, log1p(load(rests, k)))
        for c in range(n):
            line, out_line = offset(row, c * class_stride), offset(result, c * out_stride)
            for k in range(0, count, part):
                for j in range(k, k + part, width):
                    prefetch_read(line, GRADIENT_PREFETCH * class_stride + j)
                v = read(offset(line, k), count - k)
                write(offset(out_line, k), count - k, nontemporal, (v - load_x4(maxima, k)) - load_x4(rests, k))
        p = stop
    free(maxima)
    free(totals)
    free(rows)
