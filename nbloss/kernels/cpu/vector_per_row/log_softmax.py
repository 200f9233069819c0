"""log_softmax and its gradient for contiguous rows, vectors along each row.

As in ``cross_entropy``, short rows go through each step in groups, and the maximum of the row one group later is searched while a row is
summed.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_float64, load_x4, put, splat, store, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import (
    elements_to_aligned,
    min_int,
    pointer,
    position_pointer,
    prefetch_read,
    prefetch_write,
    row_step,
)
from nbloss.kernels.cpu.simd.vec import fma, insert_lane, last_lanes, minimum, promote, reduce_add
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.vector_per_row.confident import row_rest
from nbloss.kernels.cpu.vector_per_row.reduce import prefetch_distance, row_exp_sums, row_max, row_total, rows_per_group
from nbloss.kernels.cpu.vector_per_row.write import output_lines, write_logs
from nbloss.kernels.math.epilogue import CONFIDENT


def log_softmax(x, out, lo, hi):
    """out = (x - m) - log s."""
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    size, ring = rows_per_group(width, n), 2 * width - 1
    maxima, logs = carve(base, (2 * width, width))
    rest = splat(base, 0.0)
    terms = stack_alloc(np.float64, 256)
    nontemporal = rows_bypass_caches(out, n, base)
    ahead = prefetch_distance(n, row_step(x), size)
    for p in range(lo, min_int(hi, lo + size)):
        put(maxima, p & ring, row_max(position_pointer(x, p), n))
    for p in range(lo, hi, size):
        count, confident = min_int(size, hi - p), 0
        for k in range(count):
            row, following = position_pointer(x, p + k), position_pointer(x, min_int(p + k + size, hi - 1))
            lines = output_lines(row, out, p + k, nontemporal)
            sums, following_max = row_exp_sums(row, n, get(maxima, (p + k) & ring), None, ahead, lines, following)
            store(terms, k * width, sums)
            put(maxima, (p + k + size) & ring, following_max)
        for k in range(count):
            total = row_total(load_float64(terms, k * width, rest), get(maxima, (p + k) & ring))
            confident |= np.int64(total < CONFIDENT) << k
            rest = insert_lane(rest, k, cast(base, total - 1.0))
        for k in range(count):
            if confident >> k & 1:
                rest = insert_lane(rest, k, cast(base, row_rest(position_pointer(x, p + k), n, get(maxima, (p + k) & ring), None)))
        store(logs, 0, log1p(rest))
        for k in range(count):
            write_logs(position_pointer(x, p + k), position_pointer(out, p + k), n, get(maxima, (p + k) & ring), get(logs, k), nontemporal)
    free(maxima)


# ------------------------------ gradients ------------------------------


@njit(**INLINE)
def _added(total, upstream, row, j, probabilities):
    """``total`` and the elements of g from j on, in float64; with ``probabilities`` (True or None), those of g y."""
    if probabilities is None:
        return total + promote(load(upstream, j))
    return fma(promote(load(upstream, j)), promote(load(row, j)), total)


@njit(**INLINE)
def _row_sum(upstream, row, n, start, even, odd, probabilities):
    """The float64 sum of g, or of g y, from the partial sums ``even`` and ``odd`` of the elements before ``start`` on.

    Element j goes to partial sum j mod (2 * lanes). The last vector of a row overlaps the one before it. Its lanes that are new go to
    partial sums of ``odd``.
    """
    width, j = lanes(row), start
    while j + 2 * width <= n:
        even = _added(even, upstream, row, j, probabilities)
        odd = _added(odd, upstream, row, j + width, probabilities)
        j += 2 * width
    if j + width <= n:
        even = _added(even, upstream, row, j, probabilities)
        j += width
    if j < n:
        u = promote(last_lanes(load(upstream, n - width), n - j))
        if probabilities is None:
            odd = odd + u
        else:
            odd = fma(u, promote(last_lanes(load(row, n - width), n - j)), odd)
    return reduce_add(even + odd)


@njit(**INLINE)
def _gradient(u, v, factor, low):
    """g - exp(y) * factor of vectors of g and y; with ``low`` (not None), y ((g - factor) - low)."""
    if low is None:
        return u - exp_scaled(minimum(v, MAX_EXP_ARGUMENT), None) * factor
    return v * ((u - factor) - low)


@njit(**INLINE)
def _prefetch(upstream, row, out, aheads, j):
    """Prefetch four vectors of g, of y and of the output, each of them its distance ahead of element j."""
    width = lanes(row)
    for k in range(j, j + 4 * width, width):
        prefetch_read(upstream, aheads[0] + k)
        prefetch_read(row, aheads[1] + k)
        prefetch_write(out, aheads[2] + k)


@njit(**INLINE)
def _write_and_sum(upstream, row, out, n, factor, low, nontemporal, next_upstream, next_row, aheads):
    """Write the ``_gradient`` of a row, and return the sum of the next row.

    With ``low``, the next row is summed at the same time, so that it is loaded while this one is written. The exponentials need the
    registers of these sums: without ``low``, the next row is prefetched and then summed. ``out`` may be g or y, so the vectors that overlap
    others are computed first.
    """
    width = lanes(row)
    first = _gradient(load(upstream, 0), load(row, 0), factor, low)
    last = _gradient(load(upstream, n - width), load(row, n - width), factor, low)
    even = promote(splat(row, 0.0))
    odd, i, j = even, 0, elements_to_aligned(out)
    while j + 4 * width <= n:
        if low is None:
            _prefetch(upstream, row, row if nontemporal else out, aheads, j)
        d = _gradient(load_x4(upstream, j), load_x4(row, j), factor, low)
        if nontemporal:
            store_nontemporal(out, j, d)
        else:
            store(out, j, d)
        if low is not None:
            for k in range(i, i + 4 * width, 2 * width):
                even = _added(even, next_upstream, next_row, k, True)
                odd = _added(odd, next_upstream, next_row, k + width, True)
            i += 4 * width
        j += 4 * width
    if low is None and j < n:
        _prefetch(upstream, row, row if nontemporal else out, aheads, j)
    while j + width <= n:
        store(out, j, _gradient(load(upstream, j), load(row, j), factor, low))
        j += width
    store(out, 0, first)
    store(out, n - width, last)
    return _row_sum(next_upstream, next_row, n, i, even, odd, low)


@njit(**INLINE)
def gradients(g, y, out, probabilities, lo, hi):
    """The gradient of log_softmax; with ``probabilities`` (True or None), that of softmax."""
    n = y.shape[1]
    base = pointer(y, 0)
    nontemporal = rows_bypass_caches(out, n, base)
    aheads = prefetch_distance(n, row_step(g), 0), prefetch_distance(n, row_step(y), 0), prefetch_distance(n, row_step(out), 0)
    zero = promote(splat(base, 0.0))
    total = _row_sum(position_pointer(g, lo), position_pointer(y, lo), n, 0, zero, zero, probabilities)
    for p in range(lo, hi):
        upstream, row, result, later = position_pointer(g, p), position_pointer(y, p), position_pointer(out, p), min_int(p + 1, hi - 1)
        next_upstream, next_row = position_pointer(g, later), position_pointer(y, later)
        if probabilities is None:
            factor = cast(base, total / np.float64(exp_scale(get(base, 0))))
            total = _write_and_sum(upstream, row, result, n, factor, None, nontemporal, next_upstream, next_row, aheads)
        else:
            high = cast(base, total)
            low = cast(base, total - np.float64(high))
            if low - low != 0.0:  # an infinite sum has no rounding error
                low = cast(base, 0.0)
            total = _write_and_sum(upstream, row, result, n, high, low, nontemporal, next_upstream, next_row, aheads)


def log_softmax_backward(g, y, out, lo, hi):
    """out = g - exp(y) * sum of g."""
    gradients(g, y, out, None, lo, hi)
