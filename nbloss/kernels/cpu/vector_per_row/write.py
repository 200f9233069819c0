"""Writes the output of one contiguous row.

Stores are aligned, because a store that straddles two cache lines takes twice as long: each function stores the elements before the first
aligned address with a mask. ``nontemporal`` selects nontemporal stores (``simd/nontemporal``).
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, load_x4, splat, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, position_pointer
from nbloss.kernels.cpu.simd.vec import minimum
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scaled


def output_lines(row, out, q, nontemporal):
    """The pointer to prefetch for writing row q of ``out``; None without ``out``.

    With nontemporal stores, it is ``row``, which is in a cache already, so that the prefetch has no effect.
    """


@overload(output_lines, jit_options=INLINE)
def _typed_output_lines(row, out, q, nontemporal):
    if isinstance(out, types.NoneType):
        return lambda row, out, q, nontemporal: None
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


@njit(**INLINE)
def write_gradient(upstream, row, out, n, factor, nontemporal):
    """out = g - exp(y) * factor, for the upstream gradient g and log-probabilities y."""
    width = lanes(row)
    j = min_int(n, elements_to_aligned(out))
    e = exp_scaled(minimum(load_n(row, 0, j, 0.0), MAX_EXP_ARGUMENT), None)
    store_n(out, 0, j, load_n(upstream, 0, j, 0.0) - e * factor)
    while j + 4 * width <= n:
        d = load_x4(upstream, j) - exp_scaled(minimum(load_x4(row, j), MAX_EXP_ARGUMENT), None) * factor
        if nontemporal:
            store_nontemporal(out, j, d)
        else:
            store(out, j, d)
        j += 4 * width
    while j < n:
        e = exp_scaled(minimum(load_n(row, j, n - j, 0.0), MAX_EXP_ARGUMENT), None)
        store_n(out, j, n - j, load_n(upstream, j, n - j, 0.0) - e * factor)
        j += width


@njit(**INLINE)
def write_kept(keep, out, n, factor, nontemporal):
    """out = e * factor, for the exponentials e in the buffer ``keep``."""
    width = lanes(keep)
    j = min_int(n, elements_to_aligned(out))
    store_n(out, 0, j, load(keep, 0) * factor)
    while nontemporal and j + width <= n:
        store_nontemporal(out, j, load(keep, j) * factor)
        j += width
    while j + 2 * width <= n:
        store(out, j, load(keep, j) * factor)
        store(out, j + width, load(keep, j + width) * factor)
        j += 2 * width
    while j < n:
        store_n(out, j, n - j, load(keep, j) * factor)
        j += width


@njit(**INLINE)
def write_recomputed(row, out, n, m, factor, nontemporal):
    """out = e * factor, and computes the exponentials e again."""
    width = lanes(row)
    j = min_int(n, elements_to_aligned(out))
    store_n(out, 0, j, exp_scaled(load_n(row, 0, j, 0.0) - m, None) * factor)
    while j + 4 * width <= n:
        e = exp_scaled(load_x4(row, j) - m, None) * factor
        if nontemporal:
            store_nontemporal(out, j, e)
        else:
            store(out, j, e)
        j += 4 * width
    while j < n:
        store_n(out, j, n - j, exp_scaled(load_n(row, j, n - j, 0.0) - m, None) * factor)
        j += width


@njit(**INLINE)
def fill_row(out, n, value):
    """Set all elements of a row to ``value``."""
    width = lanes(out)
    v = splat(out, value)
    for j in range(0, n, width):
        store_n(out, j, n - j, v)
