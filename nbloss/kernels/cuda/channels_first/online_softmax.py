"""Strided classes that do not fit into the registers of one thread: one thread per position, chunks of classes.

The first pass reads the classes and updates (m, rest) as it goes (online softmax): if a chunk has a larger maximum, the sums so far are
scaled down to it. The second pass runs backwards, because the caches still hold the last classes.

======  ====================================================================================================
symbol  meaning
======  ====================================================================================================
m       maximum of the logits so far
rest    sum of exp(x - m) without one of the terms of the maximum; -1 before the first class
ties    how many terms of a chunk equal that of the maximum; they are counted, the other terms are added
smooth  sum of q, and ``gaps`` the sum of q (m - x); both without ``hit`` (see ``rows.soft_targets``)
..._low rounding errors of the sum of that name
======  ====================================================================================================
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.channels_first.arithmetic import make_soft_target
from nbloss.kernels.cuda.compensated import add_compensated, add_product
from nbloss.kernels.cuda.epilogue import (
    index_at_target,
    index_factor,
    index_loss,
    options_reader,
    smoothed_at_target,
    soft_factors,
    soft_gradient,
    soft_loss,
)
from nbloss.kernels.cuda.exp import EXP, EXP_SCALE, EXP_SHIFTED, REAL_TYPE
from nbloss.kernels.cuda.indexing import position_offset, thread_position
from nbloss.kernels.cuda.prims.api import device, get, integer, log1p, maximum, maximum_old, put
from nbloss.kernels.cuda.row_statistics import make_write_statistics
from nbloss.kernels.cuda.sums import sum_by_last_block
from nbloss.kernels.cuda.tuning import CHUNK_CLASSES
from nbloss.kernels.math.epilogue import CONFIDENT


def make_scan(kind, sm80, with_targets, soft):
    """A device function for the first pass. It returns m, rest, and ``with_targets`` also smooth and gaps (otherwise 0)."""
    real, exp_shifted, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    soft_target = make_soft_target(soft)
    larger = maximum if sm80 else maximum_old
    zero, one, lowest, inverse = real(0), real(1), real(-np.inf), real(1 / unit)

    @device
    def scan(x, base, classes, inner, y, w, a, b):
        held = cuda.local.array(CHUNK_CLASSES, real)
        m, rest, low = lowest, -one, zero  # no term yet: s = 0
        reference = zero  # m, or 0 while all logits are -inf
        smooth, smooth_low, gaps, gaps_low = zero, zero, zero, zero
        first = np.int64(0)
        while first < classes:
            chunk_max = lowest
            for k in range(CHUNK_CLASSES):
                held[k] = lowest
                if first + k < classes:
                    held[k] = get(x, base + (first + k) * inner)
                chunk_max = larger(chunk_max, held[k])
            new = larger(m, chunk_max)
            before, reference = reference, (new if new > lowest else zero)
            part, ties = zero, zero
            for k in range(CHUNK_CLASSES):
                tie = held[k] == new
                part += zero if tie else exp_shifted(held[k], new)
                ties += one if tie else zero
            if chunk_max > m:
                rest = ((rest + one) + low) * (exp_shifted(m, new) * inverse)
                low = zero
                ties -= one
            rest, low = add_compensated(rest, low, part * inverse + ties)
            if with_targets:
                gaps, gaps_low = add_compensated(gaps, gaps_low, (smooth + smooth_low) * (reference - before))
                part_smooth, part_gaps = zero, zero
                for k in range(CHUNK_CLASSES):
                    if first + k < classes:
                        q = soft_target(y, base + (first + k) * inner, w, first + k, a, b)
                        part_smooth += q
                        part_gaps += zero if q == zero else q * (reference - held[k])
                smooth, smooth_low = add_compensated(smooth, smooth_low, part_smooth)
                gaps, gaps_low = add_compensated(gaps, gaps_low, part_gaps)
            m = new
            first += CHUNK_CLASSES
        return m, (rest + low) + (m - m), smooth + smooth_low, gaps + gaps_low  # m - m: nan where m is not finite

    return scan


def log_softmax(kind, sm80, probabilities):
    """(x - m) - log s; with ``probabilities`` exp(x - m) / s."""
    real, exp_shifted = REAL_TYPE[kind], EXP_SHIFTED[kind]
    scan = make_scan(kind, sm80, False, False)
    zero, one, inverse = real(0), real(1), real(1 / EXP_SCALE[kind])

    def kernel(x, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            m, rest, _, _ = scan(x, base, classes, inner, x, x, zero, zero)
            term = one / (rest + one) * inverse if probabilities else log1p(rest)
            for k in range(classes):
                offset = base + (classes - 1 - k) * inner
                v = get(x, offset)
                put(out, offset, exp_shifted(v, m) * term if probabilities else (v - m) - term)

    return kernel


def log_softmax_backward(kind, sm80):
    """g - exp(y) sum g."""
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
                offset = base + (classes - 1 - k) * inner
                put(out, offset, get(g, offset) - exp(get(y, offset)) * inverse * total)

    return kernel


def softmax_backward(kind, sm80):
    """y (g - sum g y). The sum is subtracted as two numbers: where y is close to 1, g and the sum cancel."""
    zero = REAL_TYPE[kind](0)

    def kernel(g, y, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            total, low = zero, zero
            for c in range(classes):
                total, low = add_product(total, low, get(g, base + c * inner), get(y, base + c * inner))
            for k in range(classes):
                offset = base + (classes - 1 - k) * inner
                put(out, offset, get(y, offset) * ((get(g, offset) - total) - low))

    return kernel


def cross_entropy(kind, sm80, gradient, optioned, summed):
    """Losses of class numbers, and with ``gradient`` their gradient."""
    real, exp_shifted, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    scan, read_options = make_scan(kind, sm80, False, False), options_reader(optioned)
    zero, one, inverse = real(0), real(1), real(1 / unit)

    def kernel(
        x, target, mask, scale, option, upstream, upstream_stride, loss, out,
        report, divides, blocks, total_loss, classes, inner, count,
    ):  # fmt: skip
        p = thread_position()
        if p < count:
            options = read_options(option)
            base = position_offset(p, classes, inner)
            weight, coef = get(scale, p), zero
            if gradient:
                coef = weight * get(upstream, p * upstream_stride)
            if weight == zero:
                put(loss, p, zero)
            else:
                y = integer(target, p) & mask
                x_y = get(x, base + y * inner)
                m, rest, _, _ = scan(x, base, classes, inner, x, x, zero, zero)
                s = rest + one
                log_s = log1p(rest)
                put(loss, p, index_loss(weight, log_s, m - x_y, m, options))
                if gradient and coef != zero:
                    of_p = index_factor(coef, log_s, m - x_y, m, options)
                    factor = of_p / s * inverse
                    for k in range(classes):
                        offset = base + (classes - 1 - k) * inner
                        put(out, offset, exp_shifted(get(x, offset), m) * factor)
                    own, others = one, rest
                    if x_y < m:
                        own = exp_shifted(x_y, m) * inverse
                        others = s - own
                    put(out, base + y * inner, index_at_target(coef, of_p, others, own, s, log_s, m, options))
            if gradient and (weight == zero or coef == zero):
                for c in range(classes):
                    put(out, base + c * inner, zero)
        if summed:
            sum_by_last_block(loss, count, report, divides, blocks, total_loss)

    return kernel


def soft_targets(kind, sm80, gradient, soft, optioned, summed):
    """The cross entropy of probabilities (``soft``), or of class numbers with label smoothing: see ``rows.soft_targets``."""
    real, exp_shifted, unit = REAL_TYPE[kind], EXP_SHIFTED[kind], EXP_SCALE[kind]
    scan, read_options = make_scan(kind, sm80, True, soft), options_reader(optioned)
    soft_target = make_soft_target(soft)
    zero, one, inverse, confident = real(0), real(1), real(1 / unit), real(CONFIDENT)

    def kernel(
        x, y, w, a, b, target, mask, scale, spread, option, upstream, upstream_stride, loss, out,
        report, divides, blocks, total_loss, classes, inner, count,
    ):  # fmt: skip
        p = thread_position()
        if p < count:
            options = read_options(option)
            base = position_offset(p, classes, inner)
            hit, share, t, g = zero, b, np.int64(-1), zero
            ignored = False
            if not soft:
                hit, share = get(scale, p), get(spread, p)
                ignored = share == zero
                t = np.int64(-1) if ignored else integer(target, p) & mask
            if gradient:
                g = get(upstream, p * upstream_stride)
            if ignored:
                put(loss, p, zero)
            else:
                x_t = get(x, base + (np.int64(0) if soft else t) * inner)
                m, rest, smooth, gaps = scan(x, base, classes, inner, y, w, a, share)
                s = rest + one
                log_s = log1p(rest)
                value = soft_loss(smooth, log_s, gaps, m, options)
                if not soft:
                    value += zero if hit == zero else index_loss(hit, log_s, m - x_t, m, options)
                put(loss, p, value)
                if gradient and g != zero:
                    peak = unit if s < confident else -one  # no exponential is negative: -1 matches none
                    total = smooth + hit
                    factor, away = soft_factors(total, rest, s, log_s, m, options)
                    factor *= inverse
                    for k in range(classes):
                        c = classes - 1 - k
                        offset = base + c * inner
                        q = soft_target(y, offset, w, c, a, share)
                        e = exp_shifted(get(x, offset), m)
                        d = soft_gradient(e, q, total, factor, away, peak)
                        if not soft and c == t:
                            d = smoothed_at_target(e, q, hit, smooth, factor, away, e == peak)
                        put(out, offset, d * g)
            if gradient and (ignored or g == zero):
                for c in range(classes):
                    put(out, base + c * inner, zero)
        if summed:
            sum_by_last_block(loss, count, report, divides, blocks, total_loss)

    return kernel


def cross_entropy_stats(kind, sm80, targeted):
    """As ``registers.cross_entropy_stats``. The second pass adds exp(x - m) (m - x). It runs from the last class back, so the
    maximum that it finds last is the first one."""
    real, exp_shifted = REAL_TYPE[kind], EXP_SHIFTED[kind]
    scan = make_scan(kind, sm80, False, False)
    zero, one, inverse = real(0), real(1), real(1 / EXP_SCALE[kind])
    write = make_write_statistics(targeted, real)

    def kernel(x, target, mask, scale, lse, log_prob, argmax, correct, entropy, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            m, rest, _, _ = scan(x, base, classes, inner, x, x, zero, zero)
            gaps, low, first = zero, zero, np.int64(-1)
            for k in range(classes):
                c = classes - 1 - k
                v = get(x, base + c * inner)
                e = exp_shifted(v, m)
                gaps, low = add_compensated(gaps, low, e * (m - v) if e != zero else zero)  # 0 inf is 0
                if v == m or v != v:
                    first = c
            mean_gap = (gaps + low) * inverse / (rest + one)
            write(x, base, inner, p, target, mask, scale, m, rest, mean_gap, first, lse, log_prob, argmax, correct, entropy)

    return kernel
