"""The sum of exponentials of one contiguous row to full precision, for confident rows: those whose s is below CONFIDENT.

Where one class has nearly all of the probability, s - 1 is all that the loss depends on, and the rounding errors of x - m are as large as
it. So the exponentials are corrected by those errors, and added without the maximum's own. The symbols are those of ``reduce``.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_as, put, splat, store
from nbloss.kernels.cpu.simd.pointers import min_int
from nbloss.kernels.cpu.simd.vec import any_true, equal, last_lanes, promote, reduce_add, where_nonzero
from nbloss.kernels.cpu.simd.vecmath import corrected_exp, exp_scale, exp_scaled, rounding_error
from nbloss.kernels.cpu.tuning import SUM_BLOCK_CLASSES


@njit(**INLINE)
def keep_exponentials(x, n, m, keep):
    """Store the scaled exponentials of a row in ``keep``, as ``reduce.row_soft_sums`` does."""
    width = lanes(x)
    for j in range(0, n - width, width):
        store(keep, j, exp_scaled(load(x, j) - m, None))
    store(keep, n - width, exp_scaled(load(x, n - width) - m, None))


@njit(**INLINE)
def index_of_max(keep, n):
    """The first element of ``keep`` that is the exponential of the maximum. There is one, unless an element is nan."""
    width, peak = lanes(keep), exp_scale(get(keep, 0))
    j = 0
    while j < n - width and not any_true(equal(load(keep, j), peak)):
        j = min_int(j + width, n - width)
    while j < n - 1 and get(keep, j) != peak:
        j += 1
    return j


@njit(**INLINE)
def _exact(x, j, top, kept):
    """``(x - top, its exponential to full precision)`` of a vector; from an exponential in ``kept``, unless that is None."""
    v = load(x, j)
    t = v - top
    if kept is None:
        return t, corrected_exp(exp_scaled(t, None), t, rounding_error(v, top, t))
    return t, corrected_exp(load_as(kept, j, v), t, rounding_error(v, top, t))


@njit(**INLINE)
def _stored(x, j, top, keep, kept):
    """The exponentials of a vector, 0 for those of the maximum; ``keep`` takes all of them. In ``kept``, the maximum's is 0 already."""
    t, e = _exact(x, j, top, kept)
    if keep is not None:
        store(keep, j, e)
    if kept is None:
        return where_nonzero(t, e)
    return e


@njit(**INLINE)
def _sum_of_whole_vectors(x, whole, top, keep, kept):
    """The float64 sums, lane by lane, of the elements before ``whole``."""
    width = lanes(x)
    sums = promote(splat(x, 0.0))
    for start in range(0, whole, SUM_BLOCK_CLASSES):
        even = splat(x, 0.0)
        odd, j, stop = even, start, min_int(whole, start + SUM_BLOCK_CLASSES)
        while j + 2 * width <= stop:
            even = even + _stored(x, j, top, keep, kept)
            odd = odd + _stored(x, j + width, top, keep, kept)
            j += 2 * width
        if j < stop:
            even = even + _stored(x, j, top, keep, kept)
        sums = sums + promote(even + odd)
    return sums


@njit(**INLINE)
def row_rest(x, n, m, keep):
    """``rest`` in float64, to full precision. Stores the exponentials in ``keep``, to full precision, unless it is None."""
    width, top = lanes(x), splat(x, m)
    whole = n // width * width
    sums = _sum_of_whole_vectors(x, whole, top, keep, None)
    if whole < n:
        sums = sums + promote(last_lanes(_stored(x, n - width, top, keep, None), n - whole))
    return reduce_add(sums) / np.float64(exp_scale(m))


@njit(**INLINE)
def kept_rest(x, n, m, keep, at):
    """The same, with the same bits, from exponentials that are in ``keep``, which it corrects; element ``at`` is the maximum."""
    width, top = lanes(x), splat(x, m)
    whole = n // width * width
    put(keep, at, 0.0)
    _, last = _exact(x, n - width, top, keep)  # before the elements that it overlaps are corrected
    sums = _sum_of_whole_vectors(x, whole, top, keep, keep)
    if whole < n:
        store(keep, n - width, last)
        sums = sums + promote(last_lanes(last, n - whole))
    put(keep, at, exp_scale(m))
    return reduce_add(sums) / np.float64(exp_scale(m))


@njit(**INLINE)
def _gap_terms(x, j, top, keep):
    """e (m - x) of a vector in float64; 0 where e is 0, even if x is -inf."""
    e = load(keep, j)
    return promote(e) * promote(where_nonzero(e, top - load(x, j)))


@njit(**INLINE)
def kept_gaps(x, n, m, keep):
    """The sum of e (m - x) in float64, from the exponentials e in ``keep``."""
    width, top = lanes(x), splat(x, m)
    whole = n // width * width
    sums = promote(splat(x, 0.0))
    for j in range(0, whole, width):
        sums = sums + _gap_terms(x, j, top, keep)
    if whole < n:
        sums = sums + last_lanes(_gap_terms(x, n - width, top, keep), n - whole)
    return reduce_add(sums) / np.float64(exp_scale(m))


@njit(**INLINE)
def _product_terms(v, j, ref, keep):
    """e (v - ref) of a vector in float64."""
    e = load(keep, j)
    return promote(e) * promote(load_as(v, j, e) - ref)


@njit(**INLINE)
def kept_products(v, n, ref, keep):
    """The sum of e (v - ref) in float64, from the exponentials e in ``keep``."""
    width = lanes(keep)
    whole = n // width * width
    sums = promote(splat(keep, 0.0))
    for j in range(0, whole, width):
        sums = sums + _product_terms(v, j, ref, keep)
    if whole < n:
        sums = sums + last_lanes(_product_terms(v, n - width, ref, keep), n - whole)
    return reduce_add(sums) / np.float64(exp_scale(get(keep, 0)))
