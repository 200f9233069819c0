"""Long columns: more classes that lie apart than a thread's registers hold. One thread per position, chunks of classes.

One pass reads the column and keeps (m, rest) as it goes: where a chunk brings a larger maximum, what is there is scaled down to it. The
second pass runs backwards, since the end of the column is what the caches still hold.
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.exp import EXP, EXP_SCALE, EXP_SHIFTED, REAL_TYPE
from nbloss.kernels.cuda.indexing import position_offset, thread_position
from nbloss.kernels.cuda.prims.api import device, fma, get, integer, log1p, maximum, maximum_old, put
from nbloss.kernels.math import rowmath

CHUNK = 16  # classes whose loads are under way together

index_loss = device(rowmath.loss)

grad_at_target = device(rowmath.pull)

soft_loss = device(rowmath.mass_loss)


@device
def add_compensated(total, low, value):
    """``(total, low)`` plus a value; low collects what rounding takes from total. An infinite total leaves nothing to collect."""
    s = total + value
    b = s - total
    rounding = (total - (s - b)) + (value - b)
    return s, low + rounding if rounding == rounding else low


@device
def probability_target(masses, place, w, c, a, b):
    """w (a y + b) of one class."""
    return fma(get(masses, place), a, b) * get(w, c)


@device
def smoothing_target(masses, place, w, c, a, b):
    return b * get(w, c)


def make_scan(kind, sm80, massed, soft):
    """A device function: one pass over a column. Returns m, rest, and, if ``massed``, sum q and sum q (m - x)."""
    real, gap, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    mass_of = probability_target if soft else smoothing_target
    larger = maximum if sm80 else maximum_old
    zero, one, least, inverse = real(0), real(1), real(-np.inf), real(1 / unit)

    @device
    def scan(x, base, classes, inner, masses, w, a, b):
        held = cuda.local.array(CHUNK, real)
        m, rest, low = least, -one, zero  # no term yet: s = 0
        ref = zero  # m, or 0 while there is nothing but -inf
        total, total_low, gaps, gaps_low = zero, zero, zero, zero
        first = np.int64(0)
        while first < classes:
            top = least
            for k in range(CHUNK):
                held[k] = least
                if first + k < classes:
                    held[k] = get(x, base + (first + k) * inner)
                top = larger(top, held[k])
            new = larger(m, top)
            before, ref = ref, (new if new > least else zero)
            part, ties = zero, zero
            for k in range(CHUNK):
                tie = held[k] == new
                part += zero if tie else gap(held[k], new)
                ties += one if tie else zero
            if top > m:
                rest = ((rest + one) + low) * (gap(m, new) * inverse)
                low = zero
                ties -= one
            rest, low = add_compensated(rest, low, part * inverse + ties)
            if massed:
                gaps, gaps_low = add_compensated(gaps, gaps_low, (total + total_low) * (ref - before))
                mass, spread = zero, zero
                for k in range(CHUNK):
                    if first + k < classes:
                        q = mass_of(masses, base + (first + k) * inner, w, first + k, a, b)
                        mass += q
                        spread += zero if q == zero else q * (ref - held[k])
                total, total_low = add_compensated(total, total_low, mass)
                gaps, gaps_low = add_compensated(gaps, gaps_low, spread)
            m = new
            first += CHUNK
        return m, (rest + low) + (m - m), total + total_low, gaps + gaps_low

    return scan


def log_softmax(kind, sm80):
    real = REAL_TYPE[kind]
    scan = make_scan(kind, sm80, False, False)
    zero = real(0)

    def kernel(x, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            m, rest, _, _ = scan(x, base, classes, inner, x, x, zero, zero)
            log_s = log1p(rest)
            for k in range(classes):
                place = base + (classes - 1 - k) * inner
                put(out, place, (get(x, place) - m) - log_s)

    return kernel


def log_softmax_backward(kind, sm80):
    real, exp = REAL_TYPE[kind], EXP[kind]
    zero, inverse = real(0), real(1 / EXP_SCALE[kind])

    def kernel(g, y, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            total, low = zero, zero
            for c in range(classes):
                total, low = add_compensated(total, low, get(g, base + c * inner))
            total += low
            for k in range(classes):
                place = base + (classes - 1 - k) * inner
                put(out, place, get(g, place) - exp(get(y, place)) * inverse * total)

    return kernel


def cross_entropy(kind, sm80, gradient):
    real, gap, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    scan = make_scan(kind, sm80, False, False)
    zero, one, inverse = real(0), real(1), real(1 / unit)

    def kernel(x, target, mask, scale, upstream, step, loss, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            each, coef = get(scale, p), zero
            if gradient:
                coef = each * get(upstream, p * step)
            if each == zero:
                put(loss, p, zero)
            else:
                y = integer(target, p) & mask
                x_y = get(x, base + y * inner)
                m, rest, _, _ = scan(x, base, classes, inner, x, x, zero, zero)
                s = rest + one
                put(loss, p, index_loss(each, log1p(rest), m - x_y))
                if gradient and coef != zero:
                    factor = coef / s * inverse
                    for k in range(classes):
                        place = base + (classes - 1 - k) * inner
                        put(out, place, gap(get(x, place), m) * factor)
                    put(out, base + y * inner, grad_at_target(coef, s - gap(x_y, m) * inverse if x_y < m else rest, s))
            if gradient and (each == zero or coef == zero):
                for c in range(classes):
                    put(out, base + c * inner, zero)

    return kernel


def soft_targets(kind, sm80, gradient, soft):
    """See ``registers.soft_targets``."""
    real, gap, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    scan = make_scan(kind, sm80, True, soft)
    mass_of = probability_target if soft else smoothing_target
    zero, one, two, inverse = real(0), real(1), real(2), real(1 / unit)

    def kernel(x, masses, w, a, b, target, mask, scale, spread, upstream, step, loss, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            hit, floor, y, g = zero, b, np.int64(-1), zero
            nothing = False
            if not soft:
                hit, floor = get(scale, p), get(spread, p)
                nothing = floor == zero
                y = np.int64(-1) if nothing else integer(target, p) & mask
            if gradient:
                g = get(upstream, p * step)
            if nothing:
                put(loss, p, zero)
            else:
                x_y = get(x, base + (np.int64(0) if soft else y) * inner)
                m, rest, total, gaps = scan(x, base, classes, inner, masses, w, a, floor)
                s = rest + one
                log_s = log1p(rest)
                value = soft_loss(total, log_s, gaps)
                if not soft:
                    value += zero if hit == zero else index_loss(hit, log_s, m - x_y)
                put(loss, p, value)
                if gradient and g != zero:
                    top = unit if s < two else -one
                    factor = (total + hit) / s * inverse
                    away = (total + hit) * (rest / s)
                    for k in range(classes):
                        c = classes - 1 - k
                        place = base + c * inner
                        q = mass_of(masses, place, w, c, a, floor)
                        e = gap(get(x, place), m)
                        here = zero if c == y else hit
                        there = hit if c == y else zero
                        d = ((total - q) + here) - away if e == top else (e * factor - q) - there
                        put(out, place, d * g)
            if gradient and (nothing or g == zero):
                for c in range(classes):
                    put(out, base + c * inner, zero)

    return kernel
