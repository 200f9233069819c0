"""The logit map (``math.logit_map``), compiled for vectors, and applied to runs of numbers.

The functions take ``softcap`` and ``logit_scale`` of `RowOptions`, one of which is not None: Numba removes the branches of the other case.
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, store, store_n
from nbloss.kernels.cpu.simd.power import exp
from nbloss.kernels.cpu.simd.vec import absolute, all_true, copysign, fma, less, maximum, select
from nbloss.kernels.cpu.simd.vecmath import ZERO_EXP_ARGUMENT
from nbloss.kernels.cpu.simd.workspace import alloc
from nbloss.kernels.math import logit_map


@njit(**INLINE)
def _bounded_exp(t):
    return exp(maximum(t, ZERO_EXP_ARGUMENT))  # the bound replaces nan, too


def _polynomial(z):
    """The polynomial of ``math.logit_map.NEAR``, in the type of z."""


_POLYNOMIALS = {size: logit_map.make_polynomial(njit(**INLINE), fma, coefficients) for size, coefficients in logit_map.NEAR.items()}

_polynomial32, _polynomial64 = _POLYNOMIALS[4], _POLYNOMIALS[8]


@overload(_polynomial, jit_options=INLINE)
def _typed_polynomial(z):
    if z.elem == types.float32:
        return lambda z: _polynomial32(z)
    return lambda z: _polynomial64(z)


_formulas = logit_map.make(njit(**INLINE), njit(**NO_INLINE), float, select, less, fma, absolute, copysign, _bounded_exp, _polynomial)

_near, _capped = _formulas.near, _formulas.capped


@njit(**INLINE)
def _map_vector(x, into, slopes, i, cap, scale):
    if cap is None:
        store(into, i, x * scale)
        return
    v = x * (scale / cap)
    z = v * v
    u, slope = _near(v, z, scale)
    if all_true(less(z, 1.0)):
        u = u * cap
    else:
        u, slope = _capped(x, v, z, u, slope, scale, cap)
    store(into, i, u)
    if slopes is not None:
        store(slopes, i, slope)


@njit(**NO_INLINE)
def map_run(source, into, slopes, count, cap, scale):
    """Store the mapped logits of a run in ``into``, and their slopes in ``slopes``, unless it is None or there is no cap.

    Both are of the computed type, and are written up to a whole vector. ``into`` may be the source.
    """
    width = lanes(into)
    whole = count // width * width
    for i in range(0, whole, width):
        _map_vector(load(source, i), into, slopes, i, cap, scale)
    if whole < count:
        _map_vector(load_n(source, whole, count - whole, 0.0), into, slopes, whole, cap, scale)


@njit(**INLINE)
def _multiplied(gradient, slopes, i, cap, scale):
    if cap is None:
        return gradient * scale
    return gradient * load(slopes, i)


@njit(**NO_INLINE)
def multiply_slopes(gradient, slopes, into, count, cap, scale):
    """Store the gradient of logits in ``into``, from that of mapped logits. Buffers as in `map_run`; ``into`` may be the gradient."""
    width = lanes(gradient)
    whole = count // width * width
    for i in range(0, whole, width):
        store(into, i, _multiplied(load(gradient, i), slopes, i, cap, scale))
    if whole < count:
        store_n(into, whole, count - whole, _multiplied(load(gradient, whole), slopes, whole, cap, scale))


# ------------------------------ blocks of a kernel; nothing happens without a map ------------------------------


@njit(**INLINE)
def _buffers(scale):
    if scale is None:
        return 1
    return 2


@njit(**INLINE)
def buffers_of_map(out, options):
    """How many buffers of the size of a block hold logits and slopes."""
    if options is None or out is None:
        return 1
    return _buffers(options.logit_scale)


@none_of_none
def _slopes_of_cap(cap, base, count):
    return alloc(base, count)


@none_of_none
def _slopes_of_options(options, base, count):
    return _slopes_of_cap(options.softcap, base, count)


@none_of_none
def slope_buffer(out, options, base, count):
    """A buffer for slopes where there are an ``out`` and a softcap; otherwise None."""
    return _slopes_of_options(options, base, count)


@njit(**INLINE)
def _map_block(block, slopes, count, cap, scale):
    if scale is not None:
        map_run(block, block, slopes, count, cap, scale)


@njit(**INLINE)
def map_block(block, slopes, count, options):
    """`map_run` in place."""
    if options is not None:
        _map_block(block, slopes, count, options.softcap, options.logit_scale)


@njit(**INLINE)
def _multiply_block(block, slopes, count, cap, scale):
    if scale is not None:
        multiply_slopes(block, slopes, block, count, cap, scale)


@njit(**INLINE)
def multiply_block(block, slopes, count, options):
    """`multiply_slopes` in place."""
    if options is not None:
        _multiply_block(block, slopes, count, options.softcap, options.logit_scale)
