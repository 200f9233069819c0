"""Writes the output of one contiguous row.

Stores are aligned, because a store that straddles two cache lines takes twice as long. The elements before the first aligned address, and
those after the last whole vector, are stored with a mask, or by a vector that overlaps others. ``nontemporal`` selects nontemporal stores
(``simd/nontemporal``).
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import soft_elsewhere, soft_gradient
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_as, load_n, load_x4, put, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, position_pointer
from nbloss.kernels.cpu.simd.vecmath import exp_scale, exp_scaled
from nbloss.kernels.cpu.vector_per_row.reduce import target_vector


def output_lines(row, out, q, nontemporal):
    """The pointer to prefetch for writing row q of ``out``; None without ``out``.

    With nontemporal stores, it is ``row``, which is in a cache already, so that the prefetch has no effect. Mapped logits may be of another
    type than the output: then it is always the output.
    """


@overload(output_lines, jit_options=INLINE)
def _typed_output_lines(row, out, q, nontemporal):
    if isinstance(out, types.NoneType):
        return lambda row, out, q, nontemporal: None
    if row.dtype != out.dtype:
        return lambda row, out, q, nontemporal: position_pointer(out, q)
    return lambda row, out, q, nontemporal: row if nontemporal else position_pointer(out, q)


@njit(**INLINE)
def write_logs(row, result, n, m, log_s, nontemporal):
    """result = (x - m) - log s."""
    width = lanes(row)
    j = min_int(n, elements_to_aligned(result))
    store_n(result, 0, j, (load_n(row, 0, j, 0.0) - m) - log_s)
    while nontemporal and j + width <= n:
        store_nontemporal(result, j, (load(row, j) - m) - log_s)
        j += width
    while j + 2 * width <= n:
        store(result, j, (load(row, j) - m) - log_s)
        store(result, j + width, (load(row, j + width) - m) - log_s)
        j += 2 * width
    while j < n:
        store_n(result, j, n - j, (load_n(row, j, n - j, 0.0) - m) - log_s)
        j += width


@none_of_none
def slopes_of_row(slopes, p):
    """The pointer to the slopes of row p; None for None."""
    return position_pointer(slopes, p)


@njit(**INLINE)
def _times_slopes(gradient, slopes, j):
    if slopes is None:
        return gradient
    return gradient * load_as(slopes, j, gradient)


@njit(**INLINE)
def _gradient(e, j, factor, soft, w, y, a, b, slopes):
    """e * factor, minus the target distribution of the classes from j on (``target_vector``), which is 0 without ``soft`` (None).

    ``slopes`` multiply it (``math.logit_map``), unless they are None.
    """
    if soft is None:
        return _times_slopes(e * factor, slopes, j)
    return _times_slopes(soft_elsewhere(e, target_vector(j, e, w, y, a, b), factor), slopes, j)


@njit(**INLINE)
def write_soft_kept(keep, out, n, factor, nontemporal, soft, w, y, a, b, slopes):
    """The ``_gradient`` of the exponentials in the buffer ``keep``. The first and the last vector overlap others."""
    width = lanes(keep)
    store(out, 0, _gradient(load(keep, 0), 0, factor, soft, w, y, a, b, slopes))
    j = elements_to_aligned(out)
    while nontemporal and j + width <= n:
        store_nontemporal(out, j, _gradient(load(keep, j), j, factor, soft, w, y, a, b, slopes))
        j += width
    while j + 2 * width <= n:
        store(out, j, _gradient(load(keep, j), j, factor, soft, w, y, a, b, slopes))
        store(out, j + width, _gradient(load(keep, j + width), j + width, factor, soft, w, y, a, b, slopes))
        j += 2 * width
    if j + width <= n:
        store(out, j, _gradient(load(keep, j), j, factor, soft, w, y, a, b, slopes))
        j += width
    if j < n:
        store(out, n - width, _gradient(load(keep, n - width), n - width, factor, soft, w, y, a, b, slopes))


@njit(**INLINE)
def write_kept(keep, out, n, factor, nontemporal):
    """out = e * factor."""
    write_soft_kept(keep, out, n, factor, nontemporal, None, None, None, 0.0, 0.0, None)


@njit(**INLINE)
def write_soft_recomputed(row, out, n, m, factor, nontemporal, soft, w, y, a, b, slopes):
    """The same, and computes the exponentials again. ``out`` may be the row itself, so vectors that overlap others are computed first."""
    width = lanes(row)
    first = _gradient(exp_scaled(load(row, 0) - m, None), 0, factor, soft, w, y, a, b, slopes)
    last = _gradient(exp_scaled(load(row, n - width) - m, None), n - width, factor, soft, w, y, a, b, slopes)
    j = elements_to_aligned(out)
    while j + 4 * width <= n:
        d = _gradient(exp_scaled(load_x4(row, j) - m, None), j, factor, soft, w, y, a, b, slopes)
        if nontemporal:
            store_nontemporal(out, j, d)
        else:
            store(out, j, d)
        j += 4 * width
    while j + width <= n:
        store(out, j, _gradient(exp_scaled(load(row, j) - m, None), j, factor, soft, w, y, a, b, slopes))
        j += width
    store(out, 0, first)
    store(out, n - width, last)


@njit(**INLINE)
def write_recomputed(row, out, n, m, factor, nontemporal):
    """out = e * factor, and computes the exponentials e again."""
    write_soft_recomputed(row, out, n, m, factor, nontemporal, None, None, None, 0.0, 0.0, None)


@njit(**INLINE)
def write_peak(keep, out, n, at, total, factor, away, w, y, a, b, slopes):
    """Write the vector with the maximum of a confident row, element ``at``, again: ``soft_gradient`` keeps the digits there."""
    j = min_int(at, n - lanes(keep))
    e = load(keep, j)
    gradient = soft_gradient(e, target_vector(j, e, w, y, a, b), total, factor, away, exp_scale(total))
    store(out, j, _times_slopes(gradient, slopes, j))


@njit(**INLINE)
def write_one(out, j, gradient, slopes):
    """Write the gradient of one class."""
    if slopes is None:
        put(out, j, gradient)
    else:
        put(out, j, gradient * get(slopes, j))
