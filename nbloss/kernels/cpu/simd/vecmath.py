"""Exp and log1p of a vector.

``exp_scaled(t)`` is exp(t) * 2**SCALE. The kernels never undo the scale element by element: it cancels in e / sum(e). It keeps every
term normal down to exp(-104), the smallest float32, so no processor falls into its slow path for subnormal numbers.

exp: t = n ln 2 + r (Cody and Waite's reduction), 2**n (``powers.py``) and a polynomial for exp(r). float64: n integer, |r| <= ln(2) / 2.
float32: n in eighths, |r| <= ln(2) / 16, which takes three terms instead of six (P. T. P. Tang, "Table-driven implementation of the
exponential function in IEEE floating-point arithmetic", ACM TOMS 15, 1989). n is rounded by adding 1.5 * 2**52, or 2**20, after which
it stands in the low bits of the sum.
log1p: u = 1 + x = 2**k (1 + f), log(1 + f) = f - s (f - R(s^2)) with s = f / (2 + f), as in fdlibm (https://www.netlib.org/fdlibm/),
with a correction for the rounding of 1 + x. The polynomials are minimax fits of our own.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.exp2 import MAGIC32, MAGIC64, SCALE32, SCALE64, exp2_float64, multiply_exp2
from nbloss.kernels.cpu.simd.vec import approximate_reciprocal, call_llvm, fma, minimum, select_less, split_exponent, zero_below


def exp_scale(x):
    """What exp_scaled gives for 0, in the type of ``x``; a constant to the compiler."""


def exp_scaled(t, low):
    """exp(t + low) * 2**SCALE for t up to 0; ``low`` (None for 0) is what rounding took from t."""


def exp_unshifted(x):
    """exp(x) times a number that is the same for all x, about 2**SCALE, with every digit; for large x a number beyond any ``bounds``."""


def unshifted_bounds(x):
    """What says that bare exponentials of a row have every digit, in the type of ``x``: (what the sum of some has to exceed so that those
    that are 0 do not count in it; the least sum of all that still has the smallest probability above 0; what is no overflow)."""


def log1p(x, low=None):
    """log(1 + x + low) for x >= 0; ``low`` is what rounding took from a float32 x."""


def reciprocal(b):
    """1 / b for b > 0, where it is a normal number: a processor's division takes twice as long."""


def divide(a, b, r):
    """a / b, to half a unit in the last place, from r = 1 / b."""


@overload(exp_scale, jit_options=INLINE)
def _unit(x):
    if types.unliteral(x) == types.float32:
        return lambda x: np.float32(UNIT32)
    return lambda x: UNIT64


UNIT32, UNIT64 = 2.0**SCALE32, 2.0**SCALE64

MAX_EXP_ARGUMENT = 60.0  # the largest t whose scaled exponential is finite in both types

OVER32, OVER64 = 64.5, 620.0  # larger logits count as this: their exponentials are finite, and beyond any ``bounds``

LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453

# n has 11 bits: the high part of ln 2 has few enough that n * high is exact. A loss is within 4 ulp without the low part of ln 2, where
# not every digit is asked for: its share is n * 1.9e-9, and the terms that count are near the maximum.
HIGH32, LOW32 = 0.693145751953125, 1.428606765330187e-06

HIGH64, LOW64, CUT64 = 0.6931471805592082, 7.371002565167799e-13, -746.0


@njit(**INLINE)
def _below(r):
    """exp(r) - 1"""
    p = fma(r, 0.16668136, 0.50006475)
    return fma(p, r, 1.0) * r


@njit(**INLINE)
def _exp32(t, low):
    z = fma(t, LOG2E, MAGIC32)
    n = z - MAGIC32
    if low is None:
        return multiply_exp2(_below(fma(n, -LN2, t)), z, n, False)
    return multiply_exp2(_below(fma(n, -LOW32, fma(n, -HIGH32, t)) + low), z, n, False)


@njit(**INLINE)
def _exp_unshifted32(x):
    z = fma(x, LOG2E, MAGIC32)
    n = z - MAGIC32
    return multiply_exp2(_below(fma(n, -LOW32, fma(n, -HIGH32, x))), z, n, True)


@njit(**INLINE)
def _exp64(t, low):
    z = fma(t, LOG2E, MAGIC64)
    n = z - MAGIC64
    r = fma(n, -HIGH64, t)
    r = fma(n, -LOW64, r)
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
    return zero_below(CUT64, t, p * exp2_float64(z))


@overload(exp_scaled, jit_options=INLINE)
def _exp_scaled(t, low):
    if t.elem == types.float32:
        return lambda t, low: _exp32(t, low)
    return lambda t, low: _exp64(t, low)


@overload(unshifted_bounds, jit_options=INLINE)
def _bounds(x):
    if types.unliteral(x) == types.float32:
        return lambda x: (2.0**-93, 2.0**25, 2.0**119)
    return lambda x: (2.0**-900, 2.0**56, 2.0**900)


@overload(exp_unshifted, jit_options=INLINE)
def _exp_unshifted(x):
    if x.elem == types.float32:
        return lambda x: _exp_unshifted32(minimum(x, OVER32))
    return lambda x: _exp64(minimum(x, OVER64), None)


@njit(**INLINE)
def rounding_error(x, m, t):
    """What rounding took from t = x - m, exactly (Knuth's TwoSum)."""
    b = t - x
    return (x - (t - b)) - (m + b)


@njit(**INLINE)
def _refined(r, b):
    """1 / b to the third power of the error of ``r``."""
    t = fma(-b, r, 1.0)
    return fma(r, fma(t, t, t), r)


@njit(**INLINE)
def _corrected(a, b, r):
    """a / b from 1 / b, to half a unit in the last place."""
    q = a * r
    return fma(fma(-b, q, a), r, q)


@njit(**INLINE)
def _inverse32(b):
    r = _refined(approximate_reciprocal(b), b)
    return fma(r, fma(-b, r, 1.0), r)


@overload(reciprocal, jit_options=INLINE)
def _inverse(b):
    if b.elem == types.float32:
        return lambda b: _inverse32(b)
    return lambda b: 1.0 / b


@overload(divide, jit_options=INLINE)
def _over(a, b, r):
    if b.elem == types.float32:
        return lambda a, b, r: _corrected(a, b, r)
    return lambda a, b, r: a / b


@njit(**INLINE)
def _log1p32(x, low):
    u = x + 1.0
    k, g = split_exponent(u, 0.70710678118654752)
    f = select_less(k, 0.5, x, g - 1.0)  # u < sqrt(2): x itself is the fraction, and has every digit
    rest = select_less(k, 0.5, 0.0, x - (u - 1.0))
    if low is not None:
        rest = rest + low
    rest = rest * approximate_reciprocal(u)  # half an ulp of u, of which a twentieth does not matter
    v = f + 2.0
    s = _corrected(f, v, _refined(fma(v, -0.2390159992264842, 0.9850615000483449), v))
    z = s * s
    p = fma(z, 0.23583585054881745054, 0.28537237335944786366)
    p = fma(p, z, 0.40000336238085987849)
    p = fma(p, z, 0.6666666564118455458)
    half = f * f * 0.5
    tail = fma(k, 1.428606765330187e-06, rest)
    tail = fma(s, fma(p, z, half), tail)
    return fma(k, 0.693145751953125, f - (half - tail))


@intrinsic
def _log1p64(typingctx, x):
    """The C library's, lane by lane: once per row, and correct to an ulp."""

    def codegen(context, builder, sig, args):
        result = ir.Constant(args[0].type, ir.Undefined)
        for lane in range(x.lanes):
            place = ir.IntType(32)(lane)
            value = call_llvm(builder, "log1p", ir.DoubleType(), [builder.extract_element(args[0], place)])
            result = builder.insert_element(result, value, place)
        return result

    return x(x), codegen


@overload(log1p, jit_options=INLINE)
def _log1p(x, low=None):
    if x.elem == types.float32:
        return lambda x, low=None: _log1p32(x, low)
    return lambda x, low=None: _log1p64(x)
