"""TODO"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, load_x4, splat, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, pointer
from nbloss.kernels.cpu.simd.vec import minimum
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scaled


def output_lines(row, out, q, streamed):
    """What to ask for before row q of ``out`` is written: nothing new if it goes past the caches; None without ``out``."""


@overload(output_lines, jit_options=INLINE)
def _output_lines(row, out, q, streamed):
    if isinstance(out, types.NoneType):
        return lambda row, out, q, streamed: None
    return lambda row, out, q, streamed: row if streamed else pointer(out, q * out.shape[1])


@njit(**INLINE)
def write_logs(row, result, n, m, log_s, streamed):
    width = lanes(row)
    j = min_int(n, elements_to_aligned(result))
    store_n(result, 0, j, (load_n(row, 0, j, 0.0) - m) - log_s)
    while streamed and j + width <= n:
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
def write_gradient(upstream, row, out, n, factor, streamed):
    """g - exp(y) * factor"""
    width = lanes(row)
    j = min_int(n, elements_to_aligned(out))
    e = exp_scaled(minimum(load_n(row, 0, j, 0.0), MAX_EXP_ARGUMENT), None)
    store_n(out, 0, j, load_n(upstream, 0, j, 0.0) - e * factor)
    while j + 4 * width <= n:
        d = load_x4(upstream, j) - exp_scaled(minimum(load_x4(row, j), MAX_EXP_ARGUMENT), None) * factor
        if streamed:
            store_nontemporal(out, j, d)
        else:
            store(out, j, d)
        j += 4 * width
    while j < n:
        e = exp_scaled(minimum(load_n(row, j, n - j, 0.0), MAX_EXP_ARGUMENT), None)
        store_n(out, j, n - j, load_n(upstream, j, n - j, 0.0) - e * factor)
        j += width


@njit(**INLINE)
def write_kept(keep, out, n, factor, streamed):
    width = lanes(keep)
    j = min_int(n, elements_to_aligned(out))  # stores that straddle lines cost double
    store_n(out, 0, j, load(keep, 0) * factor)
    while streamed and j + width <= n:
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
def write_recomputed(row, out, n, m, factor, streamed):
    """``write_kept`` where nothing was kept."""
    width = lanes(row)
    j = min_int(n, elements_to_aligned(out))
    store_n(out, 0, j, exp_scaled(load_n(row, 0, j, 0.0) - m, None) * factor)
    while j + 4 * width <= n:
        e = exp_scaled(load_x4(row, j) - m, None) * factor
        if streamed:
            store_nontemporal(out, j, e)
        else:
            store(out, j, e)
        j += 4 * width
    while j < n:
        store_n(out, j, n - j, exp_scaled(load_n(row, j, n - j, 0.0) - m, None) * factor)
        j += width


@njit(**INLINE)
def fill_row(out, n, value):
    width = lanes(out)
    v = splat(out, value)
    for j in range(0, n, width):
        store_n(out, j, n - j, v)
