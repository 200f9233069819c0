"""exp of vectors, not scaled; and 1 - exp(-l) and r^gamma, which the focal loss needs once per row.

r^gamma
    r = 2**k f with f in [sqrt(1/2), sqrt(2)), so log r = k ln 2 + log f. An error of gamma log r is a relative error of the power. So
    log r is a sum of two numbers, and so is its product with gamma, whose second part ``exp_scaled`` adds.

1 - exp(-l)
    Below ln 2 it is h (2 - h), where h = 1 - exp(-l / 2) is a Taylor polynomial; from there on the difference keeps its digits.
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.vec import equal, fma, less, select, split_exponent
from nbloss.kernels.cpu.simd.vecmath import (
    EXP_SCALE32,
    EXP_SCALE64,
    LN2,
    LN2_HIGH32,
    LN2_HIGH64,
    LN2_LOW32,
    LN2_LOW64,
    exp_scaled,
    log1p,
)

SQRT_HALF = 0.70710678118654752

SHIFT64 = 1022  # ``split_exponent`` takes no float64 below its pivot: r is multiplied by 2**SHIFT64


def exp(t):
    """exp(t) for t <= 0."""


def one_minus_exp(x):
    """1 - exp(-x) for x >= 0."""


def power(r, gamma):
    """r^gamma for r in [0, 1] and a number gamma > 0; subnormal r count as the smallest normal number."""


@overload(exp, jit_options=INLINE)
def _typed_exp(t):
    if t.elem == types.float32:
        return lambda t: exp_scaled(t, None) * (1.0 / EXP_SCALE32)
    return lambda t: exp_scaled(t, None) * (1.0 / EXP_SCALE64)


@njit(**INLINE)
def _series32(h):
    """(1 - exp(-h)) / h for h <= ln(2) / 2."""
    p = fma(h, -1.0 / 40320, 1.0 / 5040)
    p = fma(p, -h, 1.0 / 720)
    p = fma(p, -h, 1.0 / 120)
    p = fma(p, -h, 1.0 / 24)
    p = fma(p, -h, 1.0 / 6)
    p = fma(p, -h, 0.5)
    return fma(p, -h, 1.0)


@njit(**INLINE)
def _series64(h):
    """(1 - exp(-h)) / h for h <= ln(2) / 2."""
    p = fma(h, -1.0 / 87178291200, 1.0 / 6227020800)
    p = fma(p, -h, 1.0 / 479001600)
    p = fma(p, -h, 1.0 / 39916800)
    p = fma(p, -h, 1.0 / 3628800)
    p = fma(p, -h, 1.0 / 362880)
    p = fma(p, -h, 1.0 / 40320)
    p = fma(p, -h, 1.0 / 5040)
    p = fma(p, -h, 1.0 / 720)
    p = fma(p, -h, 1.0 / 120)
    p = fma(p, -h, 1.0 / 24)
    p = fma(p, -h, 1.0 / 6)
    p = fma(p, -h, 0.5)
    return fma(p, -h, 1.0)


@njit(**INLINE)
def _one_minus_exp(x, h, ratio):
    half = h * ratio
    return select(less(x, LN2), fma(-half, half, half + half), 1.0 - exp(-x))


@overload(one_minus_exp, jit_options=INLINE)
def _typed_one_minus_exp(x):
    if x.elem == types.float32:
        return lambda x: _one_minus_exp(x, x * 0.5, _series32(x * 0.5))
    return lambda x: _one_minus_exp(x, x * 0.5, _series64(x * 0.5))


@njit(**INLINE)
def _times(high, rest, gamma):
    """``(t, low)``: gamma (high + rest) as the sum of two numbers, where ``high`` is 0 or larger than ``rest``."""
    log_r = high + rest
    t = log_r * gamma
    return t, fma(log_r, gamma, -t) + (rest - (log_r - high)) * gamma


@njit(**INLINE)
def _power32(r, gamma):
    if gamma == 2.0:  # the default takes half the time
        return r * r
    k, f = split_exponent(r, SQRT_HALF)
    t, low = _times(k * LN2_HIGH32, fma(k, LN2_LOW32, log1p(f - 1.0)), gamma)
    return select(equal(r, 0.0), r, exp_scaled(t, low) * (1.0 / EXP_SCALE32) + (r - r))  # a nan of r has been lost before


@njit(**INLINE)
def _power64(r, gamma):
    if gamma == 2.0:
        return r * r
    k, f = split_exponent(r * 2.0**SHIFT64, SQRT_HALF)
    k = k - SHIFT64
    t, low = _times(k * LN2_HIGH64, fma(k, LN2_LOW64, log1p(f - 1.0)), gamma)
    return select(equal(r, 0.0), r, exp_scaled(t, low) * (1.0 / EXP_SCALE64) + (r - r))


@overload(power, jit_options=INLINE)
def _typed_power(r, gamma):
    if r.elem == types.float32:
        return lambda r, gamma: _power32(r, gamma)
    return lambda r, gamma: _power64(r, gamma)
