"""The formulas of a row's divergence (``math.divergence``), compiled for CUDA, and the steps of a row that its kernels have in common.

A thread takes the classes ``first``, ``first + step``, ... of a position, whose class c has the offset base + c stride. Its sums are in
float64; a kernel adds those of several threads. The logits are read again in each step, from a cache.
"""

import numpy as np

from nbloss.kernels.cuda.exp import EXP, EXP_SCALE, LN2, LOG2E, REAL_TYPE, ROUND_TO_INTEGER
from nbloss.kernels.cuda.operators import equal, less, select
from nbloss.kernels.cuda.prims.api import device, exp, fma, get, log1p, power2, put
from nbloss.kernels.cuda.strided_classes import make_largest
from nbloss.kernels.math import divergence as formulas

ONE = np.float32(1)

P0, P1, P2 = np.float32(0.5), np.float32(0.1666666668), np.float32(0.0416664646)

P3, P4, P5 = np.float32(0.00833331089), np.float32(0.001393368586), np.float32(0.0001989103065)


@device
def _remainder32(z):
    """exp(z) - 1 - z, as ``exp_remainder`` of the CPU."""
    whole = fma(z, LOG2E, ROUND_TO_INTEGER)
    n = whole - ROUND_TO_INTEGER
    r = fma(n, -LN2, z)
    p = fma(r, P5, P4)
    p = fma(p, r, P3)
    p = fma(p, r, P2)
    p = fma(p, r, P1)
    p = fma(p, r, P0)
    power = power2(ONE, whole, 0)
    more = power - ONE
    return fma(power, p * (r * r), fma(more, r, fma(n, -LN2, more)))


@device
def _remainder64(z):
    """exp(z) - 1 - z; near 0 the Taylor polynomial z^2/2! + ... + z^17/17!."""
    if z > 0.5 or z < -0.5:
        return exp(z) - 1.0 - z
    p = 1.0
    for k in range(17, 2, -1):
        p = 1.0 + p * z / k
    return p * z * z * 0.5


class Steps:
    """The device functions of a kernel, for logits of one kind ("float32", "float64" or "half")."""

    def __init__(self, kind, sm80):
        real, exp_of, largest = REAL_TYPE[kind], EXP[kind], make_largest(kind, sm80)
        zero, one, scale, near = real(0), real(1), EXP_SCALE[kind], real(formulas.NEAR)
        low, high = map(real, formulas.LIMITS[np.dtype(real).itemsize])
        most, log_two, infinite = real(formulas.MOST), real(formulas.LN2), real(np.inf)
        made = formulas.make(device, select, less, equal, fma, _remainder64 if kind == "float64" else _remainder32)
        terms, safe_terms, factor, gradient = made.terms, made.safe_terms, made.factor, made.gradient
        large_shift, large_moved, divergence = made.large_shift, made.large_moved, made.divergence

        @device
        def gap_sums(x, y, base, first, step, stride, classes, m, top, beta):
            """``(sum e, sum e (x - t), sum of the student's exponentials, how many classes make the loss infinite)``."""
            total, gaps, own, impossible = 0.0, 0.0, 0.0, 0.0
            c = first
            while c < classes:
                v, t = get(x, base + c * stride), get(y, base + c * stride)
                e = exp_of((t - m) * beta)
                total += np.float64(e)
                if e != zero:
                    gaps += np.float64(e) * np.float64(v - t)
                own += np.float64(exp_of((v - top) * beta))
                if v == -infinite and t > -infinite:
                    impossible += 1.0
                c += step
            return total, gaps, own, impossible

        @device
        def terms_of(v, t, m, k, beta):
            """``(e, z, e phi(z), e (exp(z) - 1))`` of a class."""
            e, z = exp_of((t - m) * beta), fma(v - t, beta, -k)
            if low < z and z < high:
                near_0, moved = terms(e, z)
                return e, z, near_0, moved
            z, near_0, moved = safe_terms(e, z, exp_of((v - m) * beta - k), low, high)
            return e, z, near_0, moved

        @device
        def term_sums(x, y, base, first, step, stride, classes, m, k, beta):
            """``(sum e phi(z), sum e z)``."""
            excess, shift = 0.0, 0.0
            c = first
            while c < classes:
                e, z, near_0, _ = terms_of(get(x, base + c * stride), get(y, base + c * stride), m, k, beta)
                excess += np.float64(near_0)
                shift += np.float64(e) * np.float64(z)
                c += step
            return excess, shift

        @device
        def is_large(m, top, k, beta, impossible):
            """Whether the divergence is taken as the difference of logarithms; so is that of a row with nan."""
            return impossible > 0.0 or not (top - m) * beta - k < most

        @device
        def loss_of(large, m, top, k, beta, s, own, impossible, excess, shift):
            """``(divergence, total)`` of a row, from its sums."""
            if large:
                log_own, log_s = log1p(real(own / scale) - one), log1p(real(s / scale) - one)
                bound = infinite if impossible > 0.0 else (top - m) * beta - k
                return divergence(zero, large_shift(bound, log_own, log_s, log_two), one, log1p(one), near), one
            total = real((excess + shift) / s)
            return divergence(real(excess / s), real(shift / s), total, log1p(total), near), total

        @device
        def write(x, y, out, base, first, step, stride, classes, large, m, top, k, beta, g, s, own, total):
            """The gradient; 0 where g is 0, whatever the logits are."""
            common, ratio = factor(g, beta, real(s), total), real((s + s) / own)
            c = first
            while c < classes:
                d = zero
                if g != zero:
                    v, t = get(x, base + c * stride), get(y, base + c * stride)
                    if large:
                        e = exp_of((t - m) * beta)
                        d = gradient(e, large_moved(e, exp_of((v - top) * beta), ratio), total, common)
                    else:
                        e, _, _, moved = terms_of(v, t, m, k, beta)
                        d = gradient(e, moved, total, common)
                put(out, base + c * stride, d)
                c += step

        self.real, self.largest, self.gap_sums, self.term_sums = real, largest, gap_sums, term_sums
        self.is_large, self.loss_of, self.write = is_large, loss_of, write
