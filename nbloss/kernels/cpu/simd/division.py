"""Division of vectors by numbers that divide several others."""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.vec import approximate_reciprocal, fma


def reciprocal(b):
    """1 / b for b > 0 whose reciprocal is a normal number, without a division instruction, which takes twice as long."""


def divide(a, b, r):
    """a / b to half a unit in the last place, given r = ``reciprocal(b)``."""


@njit(**INLINE)
def refine_reciprocal(r, b):
    """Refine r, an approximation of 1 / b: the new error is the third power of the old one."""
    t = fma(-b, r, 1.0)
    return fma(r, fma(t, t, t), r)


@njit(**INLINE)
def correct_quotient(a, b, r):
    """a / b to half a unit in the last place, given r = 1 / b."""
    q = a * r
    return fma(fma(-b, q, a), r, q)


@njit(**INLINE)
def _reciprocal32(b):
    """``reciprocal`` for float32."""
    r = refine_reciprocal(approximate_reciprocal(b), b)
    return fma(r, fma(-b, r, 1.0), r)


@overload(reciprocal, jit_options=INLINE)
def _typed_reciprocal(b):
    if b.elem == types.float32:
        return lambda b: _reciprocal32(b)
    return lambda b: 1.0 / b


@overload(divide, jit_options=INLINE)
def _typed_divide(a, b, r):
    if b.elem == types.float32:
        return lambda a, b, r: correct_quotient(a, b, r)
    return lambda a, b, r: a / b
