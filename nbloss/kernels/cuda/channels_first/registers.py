"""TODO"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.channels_first.online_softmax import add_compensated, probability_target, smoothing_target
from nbloss.kernels.cuda.exp import EXP, EXP_SCALE, EXP_SHIFTED, REAL_TYPE
from nbloss.kernels.cuda.indexing import position_offset, thread_position
from nbloss.kernels.cuda.prims.api import device, get, integer, log1p, maximum, maximum_old, put
from nbloss.kernels.math import rowmath

HELD = 32  # classes

index_loss = device(rowmath.loss)

grad_at_target = device(rowmath.pull)

soft_loss = device(rowmath.mass_loss)


def log_softmax(classes, kind, sm80):
    real, gap, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    larger = maximum if sm80 else maximum_old
    zero, one, least, inverse = real(0), real(1), real(-np.inf), real(1 / unit)

    def kernel(x, out, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            held = cuda.local.array(classes, real)
            m = least
            for c in range(classes):
                held[c] = get(x, base + c * inner)
                m = larger(m, held[c])
            even, odd, ties = zero, zero, -one
            for c in range(classes):
                tie = held[c] == m
                e = zero if tie else gap(held[c], m)
                ties += one if tie else zero
                if c % 2:
                    odd += e
                else:
                    even += e
            log_s = log1p((even + odd) * inverse + ties + (m - m))  # m - m: a row of -inf, or with +inf, is nan
            for c in range(classes):
                put(out, base + c * inner, (held[c] - m) - log_s)

    return kernel


def log_softmax_backward(classes, kind, sm80):
    """g - exp(y) sum g."""
    real, exp = REAL_TYPE[kind], EXP[kind]
    zero, inverse = real(0), real(1 / EXP_SCALE[kind])

    def kernel(g, y, out, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            held = cuda.local.array(classes, real)
            total, low = zero, zero
            for c in range(classes):
                held[c] = get(g, base + c * inner)
                total, low = add_compensated(total, low, held[c])
            total += low
            for c in range(classes):
                put(out, base + c * inner, held[c] - exp(get(y, base + c * inner)) * inverse * total)

    return kernel


def cross_entropy(classes, kind, sm80, gradient):
    real, gap, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    larger = maximum if sm80 else maximum_old
    zero, one, least, inverse = real(0), real(1), real(-np.inf), real(1 / unit)

    def kernel(x, target, mask, scale, upstream, step, loss, out, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            each = get(scale, p)
            y = integer(target, p) & mask  # of a position that does not count: any number
            held = cuda.local.array(classes, real)
            m = least
            for c in range(classes):
                held[c] = get(x, base + c * inner)
                m = larger(m, held[c])
            even, odd, ties = zero, zero, -one
            x_y, e_y = m, unit
            for c in range(classes):
                v = held[c]
                e = gap(v, m)
                tie = v == m
                ties += one if tie else zero
                if c % 2:
                    odd += zero if tie else e
                else:
                    even += zero if tie else e
                if c == y:
                    x_y, e_y = v, e
                held[c] = e
            rest = (even + odd) * inverse + ties + (m - m)
            s = rest + one
            put(loss, p, zero if each == zero else index_loss(each, log1p(rest), m - x_y))
            if gradient:
                coef = each * get(upstream, p * step)
                nothing = each == zero or coef == zero
                factor = coef / s * inverse
                own_pull = grad_at_target(coef, s - e_y * inverse if x_y < m else rest, s)
                for c in range(classes):
                    d = own_pull if c == y else held[c] * factor
                    put(out, base + c * inner, zero if nothing else d)

    return kernel


def soft_targets(classes, kind, sm80, gradient, soft):
    """Cross entropy against masses q = w (a y + b) on every class (``soft``), or q = b w, b = spread, and ``hit`` more at the target."""
    real, gap, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    mass_of = probability_target if soft else smoothing_target
    larger = maximum if sm80 else maximum_old
    zero, one, two, least, inverse = real(0), real(1), real(2), real(-np.inf), real(1 / unit)

    def kernel(x, masses, w, a, b, target, mask, scale, spread, upstream, step, loss, out, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            hit, floor, y = zero, b, np.int64(-1)
            if not soft:
                hit, floor = get(scale, p), get(spread, p)
                y = integer(target, p) & mask
            held = cuda.local.array(classes, real)
            m = least
            for c in range(classes):
                held[c] = get(x, base + c * inner)
                m = larger(m, held[c])
            rest, ties, total, gaps, x_y = zero, -one, zero, zero, m
            for c in range(classes):
                v = held[c]
                e = gap(v, m)
                tie = v == m
                ties += one if tie else zero
                rest += zero if tie else e
                q = mass_of(masses, base + c * inner, w, c, a, floor)
                total += q
                gaps += zero if q == zero else q * (m - v)
                if c == y:
                    x_y = v
                held[c] = e
            rest = rest * inverse + ties + (m - m)
            s = rest + one
            log_s = log1p(rest)
            value = soft_loss(total, log_s, gaps)
            if not soft:
                value += zero if hit == zero else index_loss(hit, log_s, m - x_y)
                value = zero if floor == zero else value
            put(loss, p, value)
            if gradient:
                g = get(upstream, p * step)
                nothing = g == zero or (not soft and floor == zero)
                top = unit if s < two else -one  # a confident row's maximum is written with the other terms
                factor = (total + hit) / s * inverse
                away = (total + hit) * (rest / s)
                for c in range(classes):
                    q = mass_of(masses, base + c * inner, w, c, a, floor)
                    here = zero if c == y else hit
                    there = hit if c == y else zero
                    d = ((total - q) + here) - away if held[c] == top else (held[c] * factor - q) - there
                    put(out, base + c * inner, zero if nothing else d * g)

    return kernel
