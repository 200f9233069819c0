"""Exponentials of a row, per kind of logits ("float32", "float64", "half").

float32: exp(t) = 2**n 2**f with z = t log2 e, n = round(z), f = z - n from fused multiply-adds (n by adding 1.5 * 2**23, after which it
stands in the sum's low bits), 2**f a polynomial: 1 + f times a minimax fit of our own, relative error below 2**-28. IEEE operations
alone, so the simulator gives the hardware's bits. exp(x - m) also takes back what rounding took from x - m (Knuth's TwoSum): without it
exp is off by 8 ulp at a margin of 20. Half types have no digits to take back, and one instruction for 2**f.

float32 exponentials come times 2**32 (``UNIT``, what exp(0) is): no term of a row is lost or slow down to exp(-108). The scale cancels in
exp / sum.
"""

import numpy as np

from nbloss.kernels.cuda.prims.api import device, exp, exp2, fma, power2

EXP_SCALE = {"float32": np.float32(2.0**32), "half": np.float32(2.0**32), "float64": np.float64(1)}

REAL_TYPE = {"float32": np.float32, "half": np.float32, "float64": np.float64}

LOG2E = np.float32(1.4426950408889634)

LOG2E_LOW = np.float32(1.4426950408889634 - float(LOG2E))

MAGIC = np.float32(1.5 * 2.0**23)

SHIFT = 32

CUT = np.float32(-108)  # exp(CUT) * 2**32 is nearly the smallest normal number

TOP = np.float32(60)  # the largest exponent of EXP: its scaled result is finite

ZERO, ONE = np.float32(0), np.float32(1)

C1, C2, C3 = np.float32(0.6931472), np.float32(0.24022648), np.float32(0.0555036)

C4, C5, C6 = np.float32(0.009618506), np.float32(0.0013390806), np.float32(0.00015326473)


@device
def _rounding(x, m, t):
    """What rounding took from t = x - m, exactly."""
    b = t - x
    return (x - (t - b)) - (m + b)


@device
def _scaled32(t, low):
    """exp(t + low) * 2**32."""
    z = fma(t, LOG2E, MAGIC)
    n = z - MAGIC
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
def _gap32(x, m):
    t = x - m
    return _scaled32(t, _rounding(x, m, t)) if t > CUT else ZERO


@device
def _exp32(t):
    return ZERO if t <= CUT else _scaled32(TOP if t > TOP else t, ZERO)


@device
def _scaled_half(t):
    z = fma(t, LOG2E, MAGIC)
    n = z - MAGIC
    f = fma(t, LOG2E, -n)
    return power2(exp2(fma(t, LOG2E_LOW, f)), z, SHIFT)


@device
def _gap_half(x, m):
    t = x - m
    return _scaled_half(t) if t > CUT else ZERO


@device
def _exp_half(t):
    return ZERO if t <= CUT else _scaled_half(TOP if t > TOP else t)


@device
def _gap64(x, m):
    t = x - m
    e = exp(t)
    return fma(e, _rounding(x, m, t), e) if t > np.float64(-800) else np.float64(0)


@device
def _exp64(t):
    return exp(np.float64(TOP) if t > np.float64(TOP) else t)


# exp(x - m) * UNIT for x <= m. 0 for what is too small, for -inf and for nan: a row with nan, +inf or -inf alone is made nan by its
# maximum (``s + (m - m)``), so that no sum has to look.
EXP_SHIFTED = {"float32": _gap32, "half": _gap_half, "float64": _gap64}

# exp(min(t, TOP)) * UNIT; nan stays
EXP = {"float32": _exp32, "half": _exp_half, "float64": _exp64}
