"""The maximum and the sum of exponentials of one contiguous row, with vectors along the row.

============  ========================================================================================================
m             maximum of the row
s, rest       sum of exp(x - m); s - 1, without one of the terms that equal the maximum
keep          buffer for the scaled exponentials (``exp_buffer_size``), or None
ahead         distance in elements from a row to the elements that are prefetched
following     the row whose maximum is searched while this row is summed, so that it is loaded during the arithmetic
============  ========================================================================================================

Element j goes to partial sum j mod (2 * lanes). Blocks of SUM_BLOCK_CLASSES elements are summed in the compute type and added in float64,
and ``simd/vec.reduce_add`` adds the lanes at the end. If s < CONFIDENT, ``row_rest`` computes ``rest`` again, to full precision.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import cast, lanes, load, load_n, load_n_x4, load_x4, splat, store
from nbloss.kernels.cpu.simd.pointers import max_int, min_int, pointer, prefetch_read, prefetch_write
from nbloss.kernels.cpu.simd.vec import extract_x4, first_lane, less, maximum, promote, reduce_add, reduce_max, repeat_x4, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled, log1p, rounding_error
from nbloss.kernels.cpu.simd.workspace import alloc
from nbloss.kernels.cpu.tuning import ROW_GROUP_ELEMENTS, ROW_PREFETCH_ELEMENTS, SUM_BLOCK_CLASSES
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def rows_per_group(width, n):
    """How many rows go through each step together: at most one for each lane, because one vector has the logarithms of a group."""
    return max_int(1, min_int(width, ROW_GROUP_ELEMENTS // n))


@njit(**INLINE)
def prefetch_distance(n, row_stride, near):
    """The prefetch distance in elements from a row: ahead of row ``near`` after it, in which the maximum is searched."""
    return near * row_stride + (
        ROW_PREFETCH_ELEMENTS if row_stride == n or n > ROW_PREFETCH_ELEMENTS else ROW_PREFETCH_ELEMENTS // n * row_stride
    )


@njit(**INLINE)
def row_max(x, n):
    """The maximum of a row that is at least as long as a vector. It ignores nan, which propagates through the sum."""
    return _max_from(x, n, 0, repeat_x4(splat(x, -np.inf)))


@njit(**INLINE)
def _max_from(x, n, start, peak):
    """The maximum of ``peak``, a wide vector with the maxima of the elements before ``start``, and of the remaining elements."""
    width = lanes(x)
    j = start
    while j + 4 * width <= n:
        peak = maximum(load_x4(x, j), peak)
        j += 4 * width
    a, b = maximum(extract_x4(peak, 0), extract_x4(peak, 1)), maximum(extract_x4(peak, 2), extract_x4(peak, 3))
    while j + width <= n:
        a = maximum(load(x, j), a)
        j += width
    return reduce_max(maximum(maximum(load(x, n - width), b), a))  # overlaps earlier elements, which is faster than a mask


@njit(**INLINE)
def _prefetch_lines(x, ahead, out, element):
    """Prefetch one line ``ahead`` of x for reading, and one of ``out`` for writing."""
    prefetch_read(x, ahead + element)
    if out is not None:
        prefetch_write(out, element)


@njit(**INLINE)
def _exp_few(x, j, stop, m, keep):
    """The scaled exponentials of one vector from element j on; 0 from ``stop`` on."""
    e = exp_scaled(load_n(x, j, stop - j, -np.inf) - m, None)
    if keep is not None:
        store(keep, j, e)
    return e


@njit(**INLINE)
def _exp_block(x, start, stop, m, keep, ahead, out, following, peak):
    """``(sum of the scaled exponentials of a block, peak)``.

    Stores the exponentials in ``keep``, and updates ``peak`` with the elements of ``following``.
    """
    width = lanes(x)
    a = splat(x, 0.0)
    b = a
    j = start
    while j + 4 * width <= stop:
        for k in range(4):
            _prefetch_lines(x, ahead, out, j + k * width)
        e = exp_scaled(load_x4(x, j) - m, None)
        if keep is not None:
            store(keep, j, e)
        peak = maximum(load_x4(following, j), peak)
        a = (a + extract_x4(e, 0)) + extract_x4(e, 2)
        b = (b + extract_x4(e, 1)) + extract_x4(e, 3)
        j += 4 * width
    for element in range(j, stop, width):
        _prefetch_lines(x, ahead, out, element)
    if j + 3 * width < stop:
        e = exp_scaled(load_n_x4(x, j, stop - j, -np.inf) - m, None)
        if keep is not None:
            store(keep, j, e)
        a = (a + extract_x4(e, 0)) + extract_x4(e, 2)
        b = (b + extract_x4(e, 1)) + extract_x4(e, 3)
    elif j < stop:
        a = a + _exp_few(x, j, stop, m, keep)
        b = b + _exp_few(x, j + width, stop, m, keep)
        if j + 2 * width < stop:
            a = a + _exp_few(x, j + 2 * width, stop, m, keep)
    return promote(a + b), peak


@njit(**INLINE)
def _rest_block(x, start, stop, m, keep):
    """The sum of ``_exp_block`` without the terms that equal the maximum, and with the rounding errors of x - m."""
    width = lanes(x)
    top = splat(x, m)
    a = splat(x, 0.0)
    b = a
    for j in range(start, stop, 2 * width):
        v = load_n(x, j, stop - j, -np.inf)
        w = load_n(x, j + width, stop - j - width, -np.inf)
        t = v - top
        u = w - top
        e = exp_scaled(t, rounding_error(v, top, t))
        f = exp_scaled(u, rounding_error(w, top, u))
        if keep is not None:
            store(keep, j, e)
            store(keep, j + width, f)
        a = a + select(less(t, 0.0), e, 0.0)
        b = b + select(less(u, 0.0), f, 0.0)
    return promote(a + b)


@njit(**INLINE)
def row_exp_sums(x, n, m, keep, ahead, out, following):
    """``(partial sums of the scaled exponentials, a float64 vector; maximum of row ``following``)``."""
    sums = promote(splat(x, 0.0))
    peak = repeat_x4(splat(x, -np.inf))
    for start in range(0, n, SUM_BLOCK_CLASSES):
        block_sums, peak = _exp_block(x, start, min_int(n, start + SUM_BLOCK_CLASSES), m, keep, ahead, out, following, peak)
        sums = sums + block_sums
    most = 4 * lanes(x)
    return sums, cast(x, _max_from(following, n, n // most * most, peak))


@njit(**INLINE)
def row_total(terms, m):
    """s in float64, from the partial sums of ``row_exp_sums``. The caller replaces that of a confident row by 1 + ``row_rest``."""
    return reduce_add(terms) / np.float64(exp_scale(m))


@njit(**INLINE)
def row_rest(x, n, m, keep):
    """``rest`` in float64, to full precision."""
    sums = promote(splat(x, 0.0))
    for start in range(0, n, SUM_BLOCK_CLASSES):
        sums = sums + _rest_block(x, start, min_int(n, start + SUM_BLOCK_CLASSES), m, keep)
    return reduce_add(sums) / np.float64(exp_scale(m))


@njit(**INLINE)
def row_sum(x, n, m, keep, ahead, following):
    """``(s, rest, maximum of row following)``."""
    terms, top = row_exp_sums(x, n, m, keep, ahead, None, following)
    total = row_total(terms, m)
    rest = total - 1.0
    if total < CONFIDENT:
        rest = row_rest(x, n, m, keep)
        total = rest + 1.0
    return cast(x, total), cast(x, rest), top


@njit(**INLINE)
def log1p_of(x, number):
    """log1p of one number, computed as a vector, so that it has the same bits as in ``row_per_lane``."""
    return first_lane(log1p(splat(x, number)))


@njit(**INLINE)
def exp_buffer_size(x, n):
    """The size of a buffer for the exponentials of a row: a multiple of four vectors."""
    most = 4 * lanes(x)
    return (n + most - 1) // most * most


@njit(**INLINE)
def row_workspace(x, n):
    """Allocate a buffer for the exponentials of a row."""
    base = pointer(x, 0)
    return alloc(base, exp_buffer_size(base, n))
