"""Exponentials of a row, for each kind of logits: "float32", "float64" or "half".

float32: exp(t) = 2**n 2**f, where z = t log2 e, n = round(z) and f = z - n, all from fused multiply-adds. Adding 1.5 * 2**23 to z rounds
it: n is then in the low bits of the sum. 2**f is a polynomial: 1 + f times a minimax fit of our own, relative error below 2**-28. It
consists of IEEE operations only, so the simulator gives the same bits as the hardware. exp(x - m) also adds back the rounding error of
x - m (Knuth's TwoSum); without that it would be wrong by 8 ulp at a difference of 20. float32 exponentials are multiplied by 2**32
(``EXP_SCALE``, the value of exp(0)). Terms down to exp(-108) then stay normal numbers, which are exact and fast. The factor cancels in
exp / sum.

Rows of contiguous classes take float32 exponentials with half as many instructions. Not exp(x - m) but exp(x) is split, so that nothing
is rounded in x - m: n = round(x log2 e) and r = x log2 e - n. One instruction gives 2**r, and an integer addition multiplies it by 2**n.
m comes in once per row: the integer part of m log2 e is subtracted from n, and 2**-(its fraction) is a factor of the row. From |m| = 2**20
on, where r would lose digits, x - m is exact and takes the place of x. If the instruction for 2**r is wrong by up to 2**-22.5, which we
assume, exp(x - m) is wrong by up to 2.9 units of 2**-23; with exact powers by up to 1.5.

Half types: one instruction gives e = 2**z, where z is t log2 e, rounded. It lacks the factor exp(t - z ln 2), which is 1 + (t - z ln 2) to
the last bit. Without the factor the error would grow with t: 4 ulp at t = -10, 7 ulp at -16. A scale (2**(z + 32)) would round z to
2**-20, which is 6 ulp for every t, so there is none, and terms below 2**-126 count as 0. x - m is exact for most half numbers.
"""

import numpy as np

from nbloss.kernels.cuda.prims.api import add_exponent, device, exp, exp2, fma, fma_limited, power2
from nbloss.kernels.math import logit_map

EXP_SCALE = {"float32": np.float32(2.0**32), "half": np.float32(1), "float64": np.float64(1)}

REAL_TYPE = {"float32": np.float32, "half": np.float32, "float64": np.float64}

LOG2E = np.float32(1.4426950408889634)

LN2 = np.float32(0.6931471805599453)

LOG2E_LOW = np.float32(1.4426950408889634 - float(LOG2E))

ROUND_TO_INTEGER = np.float32(1.5 * 2.0**23)

SHIFT = 32  # log2 of EXP_SCALE

LOWEST = np.float32(-108)  # exp(LOWEST) * 2**32 is close to the smallest normal number

EXP_SCALE32 = EXP_SCALE["float32"]

SCALE_INVERSE = np.float32(2.0**-SHIFT)

HIGHEST = np.float32(60)  # the largest exponent of EXP for which the scaled result is finite

LARGE = np.float32(2.0**20)  # from here on x - m is exact for every x >= m + LOWEST

LOWEST64 = np.float64(-800)  # float64 exp is 0 from here down

ZERO, ONE = np.float32(0), np.float32(1)

C1, C2, C3 = np.float32(0.6931472), np.float32(0.24022648), np.float32(0.0555036)

C4, C5, C6 = np.float32(0.009618506), np.float32(0.0013390806), np.float32(0.00015326473)


_rounding_error = device(logit_map.rounding_error)


@device
def _power_of_fraction(f):
    """2**f for |f| <= 1/2."""
    p = fma(f, C6, C5)
    p = fma(p, f, C4)
    p = fma(p, f, C3)
    p = fma(p, f, C2)
    p = fma(p, f, C1)
    return fma(p, f, ONE)


@device
def _scaled32(t, low):
    """exp(t + low) * 2**32."""
    z = fma(t, LOG2E, ROUND_TO_INTEGER)
    n = z - ROUND_TO_INTEGER
    f = fma(t, LOG2E, -n)
    f = fma(t, LOG2E_LOW, f)
    f = fma(low, LOG2E, f)
    return power2(_power_of_fraction(f), z, SHIFT)


@device
def _exp_shifted32(x, m):
    t = x - m
    return _scaled32(t, _rounding_error(x, m, t)) if t > LOWEST else ZERO


@device
def _exp32(t):
    return ZERO if t <= LOWEST else _scaled32(HIGHEST if t > HIGHEST else t, ZERO)


@device
def _exp_shifted_half(x, m):
    t = x - m
    z = t * LOG2E
    e = exp2(z)
    return fma_limited(e, fma(z, -LN2, t), e)  # where t is -inf the second factor is nan, and the result 0


@device
def _exp_half(t):
    t = HIGHEST if t > HIGHEST else t
    z = t * LOG2E
    e = exp2(z)
    return fma(e, fma(z, -LN2, t), e) if t > LOWEST else e


@device
def _exp_shifted64(x, m):
    t = x - m
    e = exp(t)
    return fma(e, _rounding_error(x, m, t), e) if t > LOWEST64 else np.float64(0)


@device
def _exp64(t):
    return exp(np.float64(HIGHEST) if t > np.float64(HIGHEST) else t)


# exp(x - m) * EXP_SCALE for x <= m. The result is 0 below LOWEST (half: below 2**-126), for -inf and for nan. A row with nan, with +inf or
# with -inf only becomes nan through its maximum instead (``s + (m - m)``), so that the sums need no test.
EXP_SHIFTED = {"float32": _exp_shifted32, "half": _exp_shifted_half, "float64": _exp_shifted64}

# exp(min(t, HIGHEST)) * EXP_SCALE; nan stays nan.
EXP = {"float32": _exp32, "half": _exp_half, "float64": _exp64}


# ------------------------------ rows ------------------------------


@device
def _reference32(m):
    """``(m, origin, rounder, lowest)`` of a row whose maximum is m; see ``_exp_of_row32``."""
    origin = m if m > LARGE or m < -LARGE else ZERO
    n = fma(m - origin, LOG2E, ROUND_TO_INTEGER) - ROUND_TO_INTEGER
    return m, origin, (ROUND_TO_INTEGER + np.float32(SHIFT)) - n, (m - origin) + LOWEST


@device
def _exp_of_row32(x, row):
    """2**(n + r) = exp(x) 2**k, where k is an integer of the row: ``rounder`` is 1.5 * 2**23 + k."""
    _, origin, rounder, lowest = row
    x = x - origin
    z = fma(x, LOG2E, rounder)
    n = z - rounder
    r = fma(x, LOG2E_LOW, fma(x, LOG2E, -n))
    e = add_exponent(exp2(r), z)  # computed for every x: a branch would put each element behind the one before
    return e if x > lowest else ZERO


@device
def _unit32(row):
    return _exp_of_row32(row[0], row)


@device
def _inverse32(row):
    """Computed where it is used, not kept in a register during the sum."""
    m, origin, rounder, _ = row
    n = (ROUND_TO_INTEGER + np.float32(SHIFT)) - rounder
    f = fma(m - origin, LOG2E_LOW, fma(m - origin, LOG2E, -n))
    return _power_of_fraction(-f) * SCALE_INVERSE


@device
def _maximum_itself(m):
    return m


@device
def _scale32(m):
    return EXP_SCALE32


@device
def _scale_inverse32(m):
    return SCALE_INVERSE


@device
def _one32(row):
    return np.float32(1)


@device
def _one64(row):
    return np.float64(1)


# Exponentials of one row: row = reference(m), exp_of_row(x, row), unit(row) = exp_of_row(m, row), and inverse(row) = 1 / unit(row), but
# more exact. The results for -inf, for nan and far below m are those of EXP_SHIFTED.
EXP_OF_ROW = {
    "float32": (_reference32, _exp_of_row32, _unit32, _inverse32),
    "half": (_maximum_itself, _exp_shifted_half, _one32, _one32),
    "float64": (_maximum_itself, _exp_shifted64, _one64, _one64),
}

# The same interface to EXP_SHIFTED: there float32 exponentials of strided classes keep the polynomial.
EXP_OF_POSITION = {**EXP_OF_ROW, "float32": (_maximum_itself, _exp_shifted32, _scale32, _scale_inverse32)}
