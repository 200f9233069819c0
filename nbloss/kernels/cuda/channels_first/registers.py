"""Strided classes that fit into the registers of one thread. Every kernel is compiled for one number of classes.

Threads of `log_softmax` and `cross_entropy` take ``width`` neighbouring positions (see ``positions``), one after the other. Those of the
other kernels take one. What they compute for a position is in ``row_in_registers``.

The symbols m, s, rest and ties are those of ``row_in_registers``, and so is the use of m - m.
"""

import numpy as np
from numba import cuda
from numba.cuda import types

from nbloss.kernels.cuda.channels_first.arithmetic import make_soft_target
from nbloss.kernels.cuda.channels_first.positions import Positions
from nbloss.kernels.cuda.compensated import add_compensated, add_product
from nbloss.kernels.cuda.epilogue import (
    index_loss,
    options_reader,
    smoothed_at_target,
    soft_factors,
    soft_gradient,
    soft_loss,
)
from nbloss.kernels.cuda.exp import EXP, EXP_SCALE, EXP_SHIFTED, REAL_TYPE
from nbloss.kernels.cuda.indexing import position_offset, thread_position
from nbloss.kernels.cuda.prims.api import get, integer, log1p, maximum, maximum_old, put
from nbloss.kernels.cuda.row_in_registers import LOW_BITS, make_cross_entropy, make_log_softmax
from nbloss.kernels.cuda.row_statistics import make_write_statistics
from nbloss.kernels.cuda.sums import sum_by_last_block
from nbloss.kernels.math.epilogue import CONFIDENT


def log_softmax(classes, kind, sm80, width, probabilities):
    """(x - m) - log s; with ``probabilities`` exp(x - m) / s."""
    real, position, positions = REAL_TYPE[kind], make_log_softmax(classes, kind, sm80, probabilities), Positions(kind, sm80, classes, width)
    pair, numbers, words, word_type = positions.pair, positions.numbers, positions.words, positions.word_type

    def step(n, column, first):
        position(column, column, first, pair)

    load, store, each = positions.load, positions.store, positions.each(step)

    def kernel(x, out, inner, count):
        p = thread_position() * width
        if p < count:
            base = position_offset(p, classes, inner)
            held, column = cuda.local.array(words, word_type), cuda.local.array(numbers, real)
            load(x, base, inner, held)
            each(x, held, column)
            store(out, base, inner, held)

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


def softmax_backward(classes, kind, sm80):
    """y (g - sum g y). The sum is subtracted as two numbers: where y is close to 1, g and the sum cancel."""
    real = REAL_TYPE[kind]
    zero = real(0)

    def kernel(g, y, out, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            held = cuda.local.array(classes, real)
            upstream = cuda.local.array(classes, real)
            total, low = zero, zero
            for c in range(classes):
                held[c], upstream[c] = get(y, base + c * inner), get(g, base + c * inner)
                total, low = add_product(total, low, upstream[c], held[c])
            for c in range(classes):
                put(out, base + c * inner, held[c] * ((upstream[c] - total) - low))

    return kernel


def cross_entropy(classes, kind, sm80, width, gradient, optioned, summed):
    """Losses of class numbers, and with ``gradient`` their gradient."""
    real, position, positions = REAL_TYPE[kind], make_cross_entropy(classes, kind, sm80, gradient), Positions(kind, sm80, classes, width)
    pair, numbers, words, word_type = positions.pair, positions.numbers, positions.words, positions.word_type
    read_options = options_reader(optioned)

    def step(n, column, first, targets, weights, upstreams, options, loss, p):
        position(column, first, pair, targets[n], weights[n], upstreams, n, options, loss, p + n, column)

    load, store, each = positions.load, positions.store, positions.each(step, writes=gradient)

    def kernel(
        x, target, mask, scale, option, upstream, upstream_stride, loss, out,
        report, divides, blocks, total_loss, inner, count,
    ):  # fmt: skip
        p = thread_position() * width
        if p < count:
            options = read_options(option)
            base = position_offset(p, classes, inner)
            held, column = cuda.local.array(words, word_type), cuda.local.array(numbers, real)
            targets = cuda.local.array(width, types.int32)
            weights, upstreams = cuda.local.array(width, real), cuda.local.array(width, real)
            for n in range(width):  # all before the first loss is written: the compiler moves no load to before a store
                weights[n] = get(scale, p + n)
                targets[n] = np.int32(integer(target, p + n) & mask & LOW_BITS)  # any number where the position is ignored
                if gradient:
                    upstreams[n] = get(upstream, (p + n) * upstream_stride)
            load(x, base, inner, held)
            each(x, held, column, targets, weights, upstreams, options, loss, p)
            if gradient:
                store(out, base, inner, held)
        if summed:
            sum_by_last_block(loss, count, report, divides, blocks, total_loss)

    return kernel


def soft_targets(classes, kind, sm80, gradient, soft, optioned, summed):
    """The cross entropy of probabilities (``soft``), or of class numbers with label smoothing: see ``rows.soft_targets``."""
    real, exp_shifted, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    larger, read_options = maximum if sm80 else maximum_old, options_reader(optioned)
    soft_target = make_soft_target(soft)
    zero, one, lowest, inverse, confident = real(0), real(1), real(-np.inf), real(1 / unit), real(CONFIDENT)

    def kernel(
        x, y, w, a, b, target, mask, scale, spread, option, upstream, upstream_stride, loss, out,
        report, divides, blocks, total_loss, inner, count,
    ):  # fmt: skip
        p = thread_position()
        if p < count:
            options = read_options(option)
            base = position_offset(p, classes, inner)
            hit, share, t = zero, b, np.int64(-1)
            if not soft:
                hit, share = get(scale, p), get(spread, p)
                t = integer(target, p) & mask
            held = cuda.local.array(classes, real)
            m = lowest
            for c in range(classes):
                held[c] = get(x, base + c * inner)
                m = larger(m, held[c])
            rest, ties, smooth, gaps, x_t = zero, -one, zero, zero, m
            for c in range(classes):
                v = held[c]
                e = exp_shifted(v, m)
                tie = v == m
                ties += one if tie else zero
                rest += zero if tie else e
                q = soft_target(y, base + c * inner, w, c, a, share)
                smooth += q
                gaps += zero if q == zero else q * (m - v)
                if c == t:
                    x_t = v
                held[c] = e
            rest = rest * inverse + ties + (m - m)
            s = rest + one
            log_s = log1p(rest)
            value = soft_loss(smooth, log_s, gaps, m, options)
            if not soft:
                value += zero if hit == zero else index_loss(hit, log_s, m - x_t, m, options)
                value = zero if share == zero else value
            put(loss, p, value)
            if gradient:
                g = get(upstream, p * upstream_stride)
                is_zero = g == zero or (not soft and share == zero)
                peak = unit if s < confident else -one  # no exponential is negative: -1 matches none
                total = smooth + hit
                factor, away = soft_factors(total, rest, s, log_s, m, options)
                factor *= inverse
                for c in range(classes):
                    q = soft_target(y, base + c * inner, w, c, a, share)
                    e = held[c]
                    at_target = smoothed_at_target(e, q, hit, smooth, factor, away, e == peak)
                    elsewhere = soft_gradient(e, q, total, factor, away, peak)
                    d = at_target if c == t else elsewhere
                    put(out, base + c * inner, zero if is_zero else d * g)
        if summed:
            sum_by_last_block(loss, count, report, divides, blocks, total_loss)

    return kernel


def cross_entropy_stats(classes, kind, sm80, targeted):
    """Log-sum-exp, log-probability, argmax, correct and entropy. m is nan if any logit is nan; the first nan is then the argmax."""
    real, exp_shifted, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    larger = maximum if sm80 else maximum_old
    zero, lowest, inverse, one = real(0), real(-np.inf), real(1 / unit), real(1)
    write = make_write_statistics(targeted, real)

    def kernel(x, target, mask, scale, lse, log_prob, argmax, correct, entropy, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            held = cuda.local.array(classes, real)
            m = lowest
            for c in range(classes):
                held[c] = get(x, base + c * inner)
                m = larger(m, held[c])
            even, odd, ties, gaps, first = zero, zero, -one, zero, -1
            for c in range(classes):
                v = held[c]
                e = exp_shifted(v, m)
                tie = v == m
                ties += one if tie else zero
                if c % 2:
                    odd += zero if tie else e
                else:
                    even += zero if tie else e
                gaps += e * (m - v) if e != zero else zero  # 0 inf is 0
                if first < 0 and (tie or v != v):
                    first = c
            rest = (even + odd) * inverse + ties + (m - m)
            mean_gap = gaps * inverse / (rest + one)
            write(x, base, inner, p, target, mask, scale, m, rest, mean_gap, first, lse, log_prob, argmax, correct, entropy)

    return kernel
