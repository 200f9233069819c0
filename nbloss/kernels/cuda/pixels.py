"""Classes that lie apart, as in (N, C, H, W): one thread per position, neighbours beside each other in memory.

Up to HELD classes stay in a thread's registers: one read of the logits, one write of the result. A kernel is compiled for each such number
of classes. Longer columns go by chunks (``columns``).

A row is (m, rest): its maximum, and the sum of the exponentials without one of the maximum's own, which keeps a confident row's digits.
"""

import numpy as np
from numba import cuda

from nbloss.kernels import rowmath
from nbloss.kernels.cuda import columns, launch
from nbloss.kernels.cuda.columns import added
from nbloss.kernels.cuda.maths import EXP, EXP_GAP, REAL, UNIT
from nbloss.kernels.cuda.places import THREADS, blocks, own, start
from nbloss.kernels.cuda.prims import device, get, integer, log1p, maximum, maximum_old, put

HELD = 32  # classes

row_loss = device(rowmath.loss)
pull = device(rowmath.pull)
mass_loss = device(rowmath.mass_loss)


def held_log_softmax(classes, kind, modern):
    real, gap, unit = REAL[kind], EXP_GAP[kind], UNIT[kind]
    larger = maximum if modern else maximum_old
    zero, one, least, inverse = real(0), real(1), real(-np.inf), real(1 / unit)

    def kernel(x, out, inner, count):
        p = own()
        if p < count:
            base = start(p, classes, inner)
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


def held_log_softmax_backward(classes, kind, modern):
    """g - exp(y) sum g."""
    real, exp = REAL[kind], EXP[kind]
    zero, inverse = real(0), real(1 / UNIT[kind])

    def kernel(g, y, out, inner, count):
        p = own()
        if p < count:
            base = start(p, classes, inner)
            held = cuda.local.array(classes, real)
            total, low = zero, zero
            for c in range(classes):
                held[c] = get(g, base + c * inner)
                total, low = added(total, low, held[c])
            total += low
            for c in range(classes):
                put(out, base + c * inner, held[c] - exp(get(y, base + c * inner)) * inverse * total)

    return kernel


def held_cross_entropy(classes, kind, modern, gradient):
    real, gap, unit = REAL[kind], EXP_GAP[kind], UNIT[kind]
    larger = maximum if modern else maximum_old
    zero, one, least, inverse = real(0), real(1), real(-np.inf), real(1 / unit)

    def kernel(x, target, mask, scale, upstream, step, loss, out, inner, count):
        p = own()
        if p < count:
            base = start(p, classes, inner)
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
            put(loss, p, zero if each == zero else row_loss(each, log1p(rest), m - x_y))
            if gradient:
                coef = each * get(upstream, p * step)
                nothing = each == zero or coef == zero
                factor = coef / s * inverse
                own_pull = pull(coef, s - e_y * inverse if x_y < m else rest, s)
                for c in range(classes):
                    d = own_pull if c == y else held[c] * factor
                    put(out, base + c * inner, zero if nothing else d)

    return kernel


def held_masses(classes, kind, modern, gradient, soft):
    """Cross entropy against masses q = w (a y + b) on every class (``soft``), or q = b w, b = spread, and ``hit`` more at the target."""
    real, gap, unit = REAL[kind], EXP_GAP[kind], UNIT[kind]
    mass_of = columns.soft_mass if soft else columns.even_mass
    larger = maximum if modern else maximum_old
    zero, one, two, least, inverse = real(0), real(1), real(2), real(-np.inf), real(1 / unit)

    def kernel(x, masses, w, a, b, target, mask, scale, spread, upstream, step, loss, out, inner, count):
        p = own()
        if p < count:
            base = start(p, classes, inner)
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
            value = mass_loss(total, log_s, gaps)
            if not soft:
                value += zero if hit == zero else row_loss(hit, log_s, m - x_y)
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


# ------------------------------ launches ------------------------------


def _run(twin, held, column, x, constants, arguments):
    """One thread per position of ``x``; ``arguments`` end with inner and count."""
    outer, classes, inner = x.shape
    count = outer * inner
    kind = "half" if x.itemsize == 2 else x.dtype.name
    if classes <= HELD:
        launch.run(twin, held, (classes, kind, twin.modern, *constants), blocks(count), THREADS, *arguments, inner, count)
    else:
        launch.run(twin, column, (kind, twin.modern, *constants), blocks(count), THREADS, *arguments, classes, inner, count)


def log_softmax(twin, x, out):
    _run(twin, held_log_softmax, columns.log_softmax, x, (), (x, out))


def log_softmax_backward(twin, g, y, out):
    _run(twin, held_log_softmax_backward, columns.log_softmax_backward, y, (), (g, y, out))


def _gradient(loss, upstream, out):
    """What stands for upstream and out in a launch, and how far apart upstream's numbers are."""
    return (loss, 0, loss) if out is None else (upstream, int(upstream.size > 1), out)


def cross_entropy(twin, x, target, mask, scale, upstream, loss, out):
    upstream, step, room = _gradient(loss, upstream, out)
    arguments = x, target, int(mask), scale, upstream, step, loss, room
    _run(twin, held_cross_entropy, columns.cross_entropy, x, (out is not None,), arguments)


def _masses(twin, x, masses, w, a, b, target, mask, scale, spread, upstream, loss, out, soft):
    real = float if x.dtype == np.float64 else np.float32
    upstream, step, room = _gradient(loss, upstream, out)
    arguments = x, masses, w, real(a), real(b), target, int(mask), scale, spread, upstream, step, loss, room
    _run(twin, held_masses, columns.masses, x, (out is not None, soft), arguments)


def cross_entropy_smooth(twin, x, target, mask, scale, spread, w, upstream, loss, out):
    _masses(twin, x, w, w, 0.0, 0.0, target, mask, scale, spread, upstream, loss, out, False)


def cross_entropy_soft(twin, x, y, w, a, b, upstream, loss, out):
    _masses(twin, x, y, w, a, b, loss, 0, loss, loss, upstream, loss, out, True)
