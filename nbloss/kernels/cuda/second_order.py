"""The second derivatives of a row (``math.epilogue``) on CUDA: the steps that the kernels of rows and of positions have in common.

A thread takes some of the classes of a position (``strided_classes``). Its sums are in float64; a kernel adds those of several threads. The
logits are read again in each step, from a cache. The sums leave out the terms of the maximum, so that those of a confident row keep their
digits: mean = sum p (v - ref) is (sum e v - ref sum e) / s over the other classes, where ``ref`` is v at the maximum.
"""

import numpy as np

from nbloss.kernels.cuda.epilogue import curvature, hessian_diagonal, hessian_product, lift, options_reader
from nbloss.kernels.cuda.exp import EXP_SCALE, EXP_SHIFTED, REAL_TYPE
from nbloss.kernels.cuda.prims.api import device, get, log1p, put
from nbloss.kernels.cuda.strided_classes import make_largest
from nbloss.kernels.math.epilogue import CONFIDENT


class Steps:
    """The device functions of a kernel, for logits of one kind ("float32", "float64" or "half"); without ``product``, for the diagonal."""

    def __init__(self, kind, sm80, product, optioned):
        real, exp_shifted = REAL_TYPE[kind], EXP_SHIFTED[kind]
        zero, one, scale, confident = real(0), real(1), real(EXP_SCALE[kind]), real(CONFIDENT)
        read_options, inverse_scale = options_reader(optioned), 1.0 / float(EXP_SCALE[kind])

        @device
        def sums(x, v, base, first, step, stride, classes, m):
            """``(sum e, sum e v, how many classes have the maximum, sum of v at these)``, the first two without the maximum's terms."""
            others, products, ties, at_top = 0.0, 0.0, 0.0, 0.0
            c = first
            while c < classes:
                logit = get(x, base + c * stride)
                value = 0.0
                if product:
                    value = np.float64(get(v, base + c * stride))
                if logit == m:
                    ties += 1.0
                    at_top += value
                else:
                    e = np.float64(exp_shifted(logit, m)) * inverse_scale
                    others += e
                    products += e * value
                c += step
            return others, products, ties, at_top

        @device
        def finished(others, products, ties, at_top, m):
            """``(rest, s, ref, mean)``, the symbols of ``math.epilogue``; nan where m is not finite."""
            rest = others + (ties - 1.0)
            s = rest + 1.0
            ref, mean = 0.0, (products + at_top) / s
            if s < CONFIDENT:
                ref, mean = at_top, (products - at_top * others) / s
            return real(rest) + (m - m), real(s) + (m - m), real(ref), real(mean)

        @device
        def write(x, v, out, base, first, step, stride, classes, m, rest, s, ref, mean, g, option):
            """The result; 0 where g is 0, whatever the logits are."""
            options = read_options(option)
            log_s = zero
            if optioned is not None:
                log_s = log1p(rest)
            a, inverse = curvature(g, log_s, m, options), one / s / scale
            if product:
                factor, more = a / s / scale, lift(g, ref + mean, options) / s / scale
            else:
                b = lift(g, one, options)
            c = first
            while c < classes:
                d = zero
                if g != zero:
                    logit = get(x, base + c * stride)
                    e = exp_shifted(logit, m)
                    if product:
                        d = hessian_product(e, (get(v, base + c * stride) - ref) - mean, factor, more, options)
                    else:
                        p = e * inverse
                        away = rest / s if logit == m and s < confident else one - p
                        d = hessian_diagonal(p, away, a, b, options)
                put(out, base + c * stride, d)
                c += step

        self.real, self.largest, self.sums, self.finished, self.write = real, make_largest(kind, sm80), sums, finished, write


@device
def mass_sum(y, w, a, b, base, first, step, stride, classes):
    """The sum of w (a y + b) over this thread's classes, in float64."""
    total = 0.0
    c = first
    while c < classes:
        total += np.float64(get(w, c)) * (np.float64(a) * np.float64(get(y, base + c * stride)) + np.float64(b))
        c += step
    return total
