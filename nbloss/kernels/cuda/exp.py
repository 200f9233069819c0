"""Exponentials of a row, for each kind of logits: "float32", "float64" or "half".

float32: exp(t) = 2**n 2**f, where z = t log2 e, n = round(z) and f = z - n, all from fused multiply-adds. Adding 1.5 * 2**23 to z rounds
it: n is then in the low bits of the sum. 2**f is a polynomial: 1 + f times a minimax fit of our own, relative error below 2**-28. It
consists of IEEE operations only, so the simulator gives the same bits as the hardware. exp(x - m) also adds back the rounding error of
x - m (Knuth's TwoSum); without that it would be wrong by 8 ulp at a difference of 20. float32 exponentials are multiplied by 2**32
(``EXP_SCALE``, the value of exp(0)). Terms down to exp(-108) then stay normal numbers, which are exact and fast. The factor cancels in
exp / sum.

Half types: one instruction gives e = 2**z, where z is t log2 e, rounded. It lacks the factor exp(t - z ln 2), which is 1 + (t - z ln 2) to
the last bit. Without the factor the error would grow with t: 4 ulp at t = -10, 7 ulp at -16. A scale (2**(z + 32)) would round z to
2**-20, which is 6 ulp for every t, so there is none, and terms below 2**-126 count as 0. x - m is exact for most half numbers.
"""

import numpy as np

from nbloss.kernels.cuda.prims.api import device, exp, exp2, fma, fma_limited, power2
from nbloss.kernels.math import logit_map

EXP_SCALE = {"float32": np.float32(2.0**32), "half": np.float32(1), "float64": np.float64(1)}

REAL_TYPE = {"float32": np.float32, "half": np.float32, "float64": np.float64}

LOG2E = np.float32(1.4426950408889634)

LN2 = np.float32(0.6931471805599453)

LOG2E_LOW = np.float32(1.4426950408889634 - float(LOG2E))

ROUND_TO_INTEGER = np.float32(1.5 * 2.0**23)

SHIFT = 32  # log2 of EXP_SCALE

LOWEST = np.float32(-108)  # exp(LOWEST) * 2**32 is close to the smallest normal number

HIGHEST = np.float32(60)  # the largest exponent of EXP for which the scaled result is finite

LOWEST64 = np.float64(-800)  # float64 exp is 0 from here down

ZERO, ONE = np.float32(0), np.float32(1)

C1, C2, C3 = np.float32(0.6931472), np.float32(0.24022648), np.float32(0.0555036)

C4, C5, C6 = np.float32(0.009618506), np.float32(0.0013390806), np.float32(0.00015326473)


_rounding_error = device(logit_map.rounding_error)


@device
def _scaled32(t, low):
    """exp(t + low) * 2**32."""
    z = fma(t, LOG2E, ROUND_TO_INTEGER)
    n = z - ROUND_TO_INTEGER
    f = fma(t, LOG2E, -n)
    f = fma(t, LOG2E_LOW, f)
    f = fma(low, LOG2E, f)
    p = fma(f, C6, C5)
    p = fma(p, f, C4)
    p = fma(p, f, C3)
    p = fma(p, f, C2)
    p = fma(p, f, C1)
    return power2(fma(p, f, ONE), z, SHIFT)


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
