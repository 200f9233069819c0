"""exp and log1p of vectors.

``exp_scaled(t)`` is exp(t) * 2**SCALE. The scale cancels in e / sum(e), so kernels never divide single elements by it. It keeps every
term a normal number down to exp(-104), the smallest float32: subnormal numbers are slow on many processors.

exp
    t = n ln 2 + r (Cody-Waite range reduction), 2**n from ``exp2``, and a polynomial for exp(r). float64: n is an integer and
    |r| <= ln(2) / 2. float32: n is a multiple of 1/8 and |r| <= ln(2) / 16, which takes three terms instead of six (P. T. P. Tang,
    "Table-driven implementation of the exponential function in IEEE floating-point arithmetic", ACM TOMS 15, 1989). Adding MAGIC32 or
    MAGIC64 (1.5 * 2**20 or 1.5 * 2**52, plus a constant) rounds to n and leaves n in the low bits of the sum.

log1p
    u = 1 + x = 2**k (1 + f), log(1 + f) = f - s (f - R(s^2)) with s = f / (2 + f), as in fdlibm (https://www.netlib.org/fdlibm/),
    with a correction for the rounding of 1 + x. The C library's log1p has the same error, but takes one number at a time: with it,
    float64 losses of 10 classes took 1.3 times as long.

The coefficients of the other polynomials are minimax fits made for this package.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.division import correct_quotient, refine_reciprocal
from nbloss.kernels.cpu.simd.exp2 import (
    MAGIC32,
    MAGIC64,
    ROOTS_FACTOR,
    SCALE32,
    SCALE64,
    WHOLE32,
    WHOLE64,
    exp2_float64,
    multiply_exp2,
    power_of_two,
)
from nbloss.kernels.cpu.simd.vec import approximate_reciprocal, fma, maximum, minimum, select_less, split_exponent, zero_below
from nbloss.kernels.math import logit_map


def exp_scale(x):
    """2**SCALE, which is ``exp_scaled(0)``, in the type of ``x``; a compile-time constant."""


def exp_scaled(t, low):
    """exp(t + low) * 2**SCALE for t <= 0 (and up to MAX_EXP_ARGUMENT); ``low`` is the rounding error of t, or None."""


def exp_bounded(t):
    """``exp_scaled(t, None)`` of t >= ``least_exp_argument``, without the comparison that gives 0 below."""


def corrected_exp(e, t, low):
    """exp(t + low) * 2**SCALE to full precision, given e = ``exp_scaled(t, None)``, which may be 0 and ``low`` nan for infinite t.

    To first order it is e (1 + low) for float64. For float32, ``low`` has a part more: the error of ln 2 as one number.
    """


def exp_unshifted(x, low):
    """exp(x + low) times ``unshifted_scale``, to full precision; for large x, a number that exceeds the ``unshifted_bounds``.

    ``low`` is the rounding error of x, or None. A ``low`` of 0 gives the same bits as None.
    """


def unshifted_scale(x):
    """``exp_unshifted`` of 0, in the type of ``x``; a compile-time constant of about 2**SCALE."""


def unshifted_bounds(x):
    """``(tiny, least, most)``: the range in which unshifted sums of exponentials of a row have full precision, in the type of ``x``.

    =====  =====================================================================================================
    tiny   a partial sum above this bound is not affected by the terms that underflow to 0
    least  a row's sum above this bound still represents the smallest probability that is above 0
    most   a sum below this bound has not overflowed
    =====  =====================================================================================================
    """


def unshifted_limits(x):
    """``(lowest, below, highest)``: beyond these, the unshifted sums of a row of up to 48 classes certainly leave the ``unshifted_bounds``.

    That is so where its largest logit is below ``below`` or above ``highest``, or that of the classes but the target below ``lowest``.
    """


def log1p(x, low=None):
    """log(1 + x + low) for x >= 0; ``low`` is the rounding error of x, or None."""


def exp_remainder(z):
    """exp(z) - 1 - z, to full relative precision near 0; exp(z) must be a normal number."""


@overload(exp_scale, jit_options=INLINE)
def _typed_exp_scale(x):
    if types.unliteral(x) == types.float32:
        return lambda x: np.float32(EXP_SCALE32)
    return lambda x: EXP_SCALE64


EXP_SCALE32, EXP_SCALE64 = 2.0**SCALE32, 2.0**SCALE64

UNSHIFTED_SCALE32 = float(np.float32(ROOTS_FACTOR)) * EXP_SCALE32

MAX_EXP_ARGUMENT = 60.0  # the scaled exponential of any t up to this is finite in both types
ZERO_EXP_ARGUMENT = -800.0  # the scaled exponential of any t up to this is 0 in both types

# Larger arguments of ``exp_unshifted`` are replaced by these: the results are finite, and exceed the ``unshifted_bounds``.
MAX_UNSHIFTED32, MAX_UNSHIFTED64 = 64.5, 620.0

LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453

# ln 2 as a sum of two numbers. n has 11 bits, and the high part has so few bits that n * high is exact. For float32, ``exp_scaled`` without
# ``low`` uses ln 2 as one number: the error is n * 1.9e-9, terms with a large n contribute little to a sum, and losses stay within 4 ulp.
LN2_HIGH32, LN2_LOW32 = 0.693145751953125, 1.428606765330187e-06

# n (LN2 - ln 2) for n = t / ln 2, where LN2 is rounded to float32: what ``corrected_exp`` corrects.
LN2_EXCESS32 = (float(np.float32(LN2)) - LN2) * LOG2E

LN2_HIGH64, LN2_LOW64 = 0.6931471805592082, 7.371002565167799e-13

# The smallest t whose scaled exponential is not 0. For float32 it is the smallest with n >= LEAST32.
LEAST_EXP_ARGUMENT32, LEAST_EXP_ARGUMENT64 = -109.56057739257812, -746.0


@njit(**INLINE)
def _expm1(r):
    """exp(r) - 1 for |r| <= ln(2) / 16."""
    p = fma(r, 0.16668136, 0.50006475)
    return fma(p, r, 1.0) * r


@njit(**INLINE)
def _exp32(t, low):
    """``exp_scaled`` for float32."""
    z = fma(t, LOG2E, MAGIC32)
    n = z - MAGIC32
    if low is None:
        return multiply_exp2(_expm1(fma(n, -LN2, t)), z, n, False, False)
    return multiply_exp2(_expm1(fma(n, -LN2_LOW32, fma(n, -LN2_HIGH32, t)) + low), z, n, False, False)


@njit(**INLINE)
def _exp_bounded32(t):
    """``exp_bounded`` for float32."""
    z = fma(t, LOG2E, MAGIC32)
    n = z - MAGIC32
    return multiply_exp2(_expm1(fma(n, -LN2, t)), z, n, False, True)


@njit(**INLINE)
def _exp_unshifted32(x, low):
    """``exp_unshifted`` for float32, of x <= MAX_UNSHIFTED32."""
    z = fma(x, LOG2E, MAGIC32)
    n = z - MAGIC32
    r = fma(n, -LN2_LOW32, fma(n, -LN2_HIGH32, x))
    if low is None:
        return multiply_exp2(_expm1(r), z, n, True, False)
    return multiply_exp2(_expm1(r + low), z, n, True, False)


@njit(**INLINE)
def _exp_bounded64(t, low):
    """``exp_scaled`` for float64 t >= LEAST_EXP_ARGUMENT64."""
    z = fma(t, LOG2E, MAGIC64)
    n = z - MAGIC64
    r = fma(n, -LN2_HIGH64, t)
    r = fma(n, -LN2_LOW64, r)
    if low is not None:
        r = r + low
    p = fma(r, 2.5000085664885015134e-8, 2.7630251325810876859e-7)
    p = fma(p, r, 2.7557586314275421088e-6)
    p = fma(p, r, 0.00002480149309009594184)
    p = fma(p, r, 0.00019841269506619734382)
    p = fma(p, r, 0.001388888894363922051)
    p = fma(p, r, 0.0083333333334944601161)
    p = fma(p, r, 0.041666666666530121463)
    p = fma(p, r, 0.16666666666666412482)
    p = fma(p, r, 0.50000000000000106318)
    p = fma(p, r, 1.0)
    p = fma(p, r, 1.0)
    return p * exp2_float64(z)


@njit(**INLINE)
def _exp64(t, low):
    """``exp_scaled`` for float64."""
    return zero_below(LEAST_EXP_ARGUMENT64, t, _exp_bounded64(t, low))


@overload(exp_scaled, jit_options=INLINE)
def _typed_exp_scaled(t, low):
    if t.elem == types.float32:
        return lambda t, low: _exp32(t, low)
    return lambda t, low: _exp64(t, low)


@overload(exp_bounded, jit_options=INLINE)
def _typed_exp_bounded(t):
    if t.elem == types.float32:
        return lambda t: _exp_bounded32(t)
    return lambda t: _exp_bounded64(t, None)


def least_exp_argument(t):
    """The smallest t whose scaled exponential is not 0, in the type of the vector t; a compile-time constant."""


@overload(least_exp_argument, jit_options=INLINE)
def _typed_least_exp_argument(t):
    if t.elem == types.float32:
        return lambda t: LEAST_EXP_ARGUMENT32
    return lambda t: LEAST_EXP_ARGUMENT64


@njit(**INLINE)
def _corrected(e, low):
    return fma(e, maximum(low, -1.0), e)  # the bound replaces nan; ``low`` is much larger


@overload(corrected_exp, jit_options=INLINE)
def _typed_corrected_exp(e, t, low):
    if t.elem == types.float32:
        return lambda e, t, low: _corrected(e, fma(t, LN2_EXCESS32, low))
    return lambda e, t, low: _corrected(e, low)


@overload(unshifted_bounds, jit_options=INLINE)
def _typed_unshifted_bounds(x):
    if types.unliteral(x) == types.float32:
        return lambda x: (2.0**-93, 2.0**25, 2.0**119)
    return lambda x: (2.0**-900, 2.0**56, 2.0**900)


@overload(exp_unshifted, jit_options=INLINE)
def _typed_exp_unshifted(x, low):
    if x.elem == types.float32:
        return lambda x, low: _exp_unshifted32(minimum(x, MAX_UNSHIFTED32), low)
    return lambda x, low: _exp64(minimum(x, MAX_UNSHIFTED64), low)


@overload(unshifted_scale, jit_options=INLINE)
def _typed_unshifted_scale(x):
    if types.unliteral(x) == types.float32:
        return lambda x: np.float32(UNSHIFTED_SCALE32)
    return lambda x: EXP_SCALE64


@overload(unshifted_limits, jit_options=INLINE)
def _typed_unshifted_limits(x):
    if types.unliteral(x) == types.float32:
        return lambda x: (-96.0, -10.0, 60.0)
    return lambda x: (-680.0, -10.0, 600.0)


rounding_error = njit(**INLINE)(logit_map.rounding_error)


@njit(**INLINE)
def _log1p32(x, low):
    """``log1p`` for float32."""
    u = x + 1.0
    k, g = split_exponent(u, 0.70710678118654752)
    f = select_less(k, 0.5, x, g - 1.0)  # k = 0 (u < sqrt(2)): the fraction is x, without the rounding error of u
    rest = select_less(k, 0.5, 0.0, x - (u - 1.0))
    if low is not None:
        rest = rest + low
    rest = rest * approximate_reciprocal(u)  # an approximation suffices: rest is at most half an ulp of u
    v = f + 2.0
    s = correct_quotient(f, v, refine_reciprocal(fma(v, -0.2390159992264842, 0.9850615000483449), v))
    z = s * s
    p = fma(z, 0.23583585054881745054, 0.28537237335944786366)
    p = fma(p, z, 0.40000336238085987849)
    p = fma(p, z, 0.6666666564118455458)
    half = f * f * 0.5
    tail = fma(k, 1.428606765330187e-06, rest)
    tail = fma(s, fma(p, z, half), tail)
    return fma(k, 0.693145751953125, f - (half - tail))


@njit(**INLINE)
def _log1p64(x, low):
    """``log1p`` for float64, with the polynomial of fdlibm's e_log.c."""
    u = x + 1.0
    k, g = split_exponent(u, 0.70710678118654752)
    f = select_less(k, 0.5, x, g - 1.0)  # k = 0 (u < sqrt(2)): the fraction is x, without the rounding error of u
    rest = select_less(k, 0.5, 0.0, x - (u - 1.0))
    if low is not None:
        rest = rest + low
    s = f / (f + 2.0)
    z = s * s
    p = fma(z, 1.479819860511658591e-01, 1.531383769920937332e-01)
    p = fma(p, z, 1.818357216161805012e-01)
    p = fma(p, z, 2.222219843214978396e-01)
    p = fma(p, z, 2.857142874366239149e-01)
    p = fma(p, z, 3.999999999940941908e-01)
    p = fma(p, z, 6.666666666666735130e-01)
    half = f * f * 0.5
    tail = fma(s, fma(p, z, half), fma(k, 1.90821492927058770002e-10, rest / u))
    return fma(k, 6.93147180369123816490e-01, f - (half - tail))


@njit(**INLINE)
def _exp_remainder(r, p, n, power, ln2):
    """``exp_remainder`` of z = n ln 2 + r, from p = (exp(r) - 1 - r) / r^2 and 2**n. Where n is 0, all other terms vanish."""
    more = power - 1.0
    return fma(power, p * (r * r), fma(more, r, fma(n, -ln2, more)))


@njit(**INLINE)
def _exp_remainder32(z):
    """``exp_remainder`` for float32."""
    whole = fma(z, LOG2E, WHOLE32)
    n = whole - WHOLE32
    r = fma(n, -LN2, z)
    p = fma(r, 0.0001989103065, 0.001393368586)
    p = fma(p, r, 0.00833331089)
    p = fma(p, r, 0.0416664646)
    p = fma(p, r, 0.1666666668)
    p = fma(p, r, 0.5)
    return _exp_remainder(r, p, n, power_of_two(whole), LN2)


@njit(**INLINE)
def _exp_remainder64(z):
    """``exp_remainder`` for float64."""
    whole = fma(z, LOG2E, WHOLE64)
    n = whole - WHOLE64
    r = fma(n, -LN2_LOW64, fma(n, -LN2_HIGH64, z))
    p = fma(r, 2.0914717341716376e-9, 2.51052595384484934e-8)
    p = fma(p, r, 2.75572735701021397e-7)
    p = fma(p, r, 2.75572552979696444e-6)
    p = fma(p, r, 0.0000248015873256053228)
    p = fma(p, r, 0.000198412698749012592)
    p = fma(p, r, 0.00138888888888837318)
    p = fma(p, r, 0.00833333333332611205)
    p = fma(p, r, 0.0416666666666666698)
    p = fma(p, r, 0.16666666666666671)
    p = fma(p, r, 0.5)
    return _exp_remainder(r, p, n, power_of_two(whole), LN2)


@overload(exp_remainder, jit_options=INLINE)
def _typed_exp_remainder(z):
    if z.elem == types.float32:
        return lambda z: _exp_remainder32(z)
    return lambda z: _exp_remainder64(z)


@overload(log1p, jit_options=INLINE)
def _typed_log1p(x, low=None):
    if x.elem == types.float32:
        return lambda x, low=None: _log1p32(x, low)
    return lambda x, low=None: _log1p64(x, low)
