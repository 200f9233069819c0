"""The formulas of a row's divergence (``math.divergence``), compiled for vectors."""

from numba import njit
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.vec import equal, fma, less, select
from nbloss.kernels.cpu.simd.vecmath import exp_remainder
from nbloss.kernels.math import divergence as formulas

_formulas = formulas.make(njit(**INLINE), select, less, equal, fma, exp_remainder)

terms = _formulas.terms
safe_terms = _formulas.safe_terms
large_shift = _formulas.large_shift
large_moved = _formulas.large_moved
divergence = _formulas.divergence
factor = _formulas.factor
gradient = _formulas.gradient


def z_limits(like):
    """``(low, high)`` of ``math.divergence.LIMITS`` for the type of a vector; compile-time constants."""


@overload(z_limits, jit_options=INLINE)
def _typed_z_limits(like):
    low, high = formulas.LIMITS[like.elem.bitwidth // 8]
    return lambda like: (low, high)
