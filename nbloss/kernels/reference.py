"""The contract of ``nbloss.kernels.contract`` in plain NumPy. With ``NUMBA_DISABLE_JIT=1`` it replaces the compiled kernels.

The compiled kernels use vector instructions that Python's interpreter cannot run. Here each kernel is a few lines of NumPy, so that a
debugger shows readable arrays. Rows are (positions, C) in long double, and results are rounded once, at the end. The accuracy is that of
the contract; the last bit may differ from the compiled kernels. The code is neither fast nor sparing with memory.
"""

import numpy as np

from nbloss.kernels.contract import DONE, EMPTY, NOT_DONE, POSITIVE
from nbloss.kernels.math import divergence, epilogue
from nbloss.kernels.math.rowmath import positive_logp
from nbloss.kernels.reference_rows import (
    WIDE,
    class_column,
    divergence_formulas,
    divided,
    fill_ranks,
    finish,
    map_formulas,
    mapped_rows,
    may_be_written,
    rows_of,
    softmax_of,
    tallied,
    three_axes,
    upstream_column,
    weighted,
    write,
)

_formulas = epilogue.make(
    lambda function: function,
    lambda function: function,
    np.where,
    np.equal,
    np.exp,
    lambda x: -np.expm1(-x),
    lambda r, gamma: r ** WIDE(gamma),
)


# ------------------------------ softmax, log-softmax and negative log-likelihood ------------------------------


def log_softmax(x, out):
    with np.errstate(all="ignore"):
        _, gap, _, _, _, log_s = softmax_of(rows_of(x))
        write(-gap - log_s, out)


def log_softmax_backward(g, y, out):
    with np.errstate(all="ignore"):
        upstream = rows_of(g)
        write(upstream - np.exp(rows_of(y)) * upstream.sum(axis=1, keepdims=True), out)


def softmax(x, out):
    with np.errstate(all="ignore"):
        _, _, e, s, _, _ = softmax_of(rows_of(x))
        write(e / s, out)


def softmax_backward(g, y, out):
    with np.errstate(all="ignore"):
        upstream, p = rows_of(g), rows_of(y)
        write(p * (upstream - (p * upstream).sum(axis=1, keepdims=True)), out)


def rows(operation, *arrays):
    globals()[operation](*(array[:, :, None] for array in arrays))


def nll(logp, target, mask, scale, loss):
    own = np.take_along_axis(rows_of(logp), class_column(target, mask, scale != 0), axis=1)[:, 0]
    with np.errstate(all="ignore"):
        loss[...] = np.where(scale == 0, 0, -scale * own)


def nll_backward(target, mask, scale, upstream, out):
    scale = np.broadcast_to(scale, target.shape)
    gradient = np.zeros((scale.size, out.shape[1]), WIDE)
    with np.errstate(all="ignore"):
        np.put_along_axis(gradient, class_column(target, mask, scale != 0), -(scale * upstream)[:, None], axis=1)
    write(np.where(scale[:, None] == 0, 0, gradient), out)


def nll_soft(logp, y, w, loss):
    q = weighted(y, w)
    with np.errstate(all="ignore"):
        loss[...] = -np.where(q == 0, 0, q * rows_of(logp)).sum(axis=1)


def nll_soft_backward(y, w, upstream, out):
    with np.errstate(all="ignore"):
        g = upstream[:, None]
        write(np.where(g == 0, 0, -(weighted(y, w) * g)), out)


# ------------------------------ cross entropy ------------------------------


def cross_entropy(x, target, mask, scale, options, upstream, loss, out):
    scale = np.broadcast_to(scale, loss.shape)
    counts = scale != 0
    hit, weight = class_column(target, mask, counts), scale[:, None].astype(WIDE)
    g, gradient = upstream_column(upstream, out, loss.size), None
    with np.errstate(all="ignore"):
        u, slopes = mapped_rows(rows_of(x), options)
        m, gap, e, s, _, log_s = softmax_of(u)
        own_gap = np.take_along_axis(gap, hit, axis=1)
        losses = _formulas.index_loss(weight, log_s, own_gap, m, options)
        if out is not None:
            coef, own, others = weight * g, np.take_along_axis(e, hit, axis=1), e.copy()
            np.put_along_axis(others, hit, 0, axis=1)
            factor = _formulas.index_factor(coef, log_s, own_gap, m, options)
            gradient = factor * (e / s)
            at_target = _formulas.index_at_target(coef, factor, others.sum(axis=1, keepdims=True), own, s, log_s, m, options)
            np.put_along_axis(gradient, hit, at_target, axis=1)
            gradient *= slopes
        finish(counts, losses, gradient, g, loss, out)


def cross_entropy_soft(x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out):
    w = 1 if w is None else w
    if y is None:
        counts = spread != 0
        hit = np.arange(x.shape[1]) == class_column(target, mask, counts)
        q = np.where(hit, scale[:, None].astype(WIDE), 0) + spread[:, None].astype(WIDE) * w
    else:
        counts, q = np.ones(loss.size, bool), w * (rows_of(y) * a + b)
    total, g, gradient = q.sum(axis=1, keepdims=True), upstream_column(upstream, out, loss.size), None
    with np.errstate(all="ignore"):
        u, slopes = mapped_rows(rows_of(x), options)
        m, gap, e, s, rest, log_s = softmax_of(u)
        gaps = np.where(q == 0, 0, q * gap).sum(axis=1, keepdims=True)
        losses = _formulas.soft_loss(total, log_s, gaps, m, options)
        if out is not None:
            factor, away = _formulas.soft_factors(total, rest, s, log_s, m, options)
            peak = np.where(s < epilogue.CONFIDENT, 1, -1)  # no exponential is negative
            gradient = _formulas.soft_gradient(e, q, total, factor, away, peak) * g * slopes
        finish(counts, losses, gradient, g, loss, out)


def _second_order(x, v, coef, options, out):
    rows, g = rows_of(x), upstream_column(coef, out, x.shape[0] * x.shape[2])
    with np.errstate(all="ignore"):
        m, _, e, s, rest, log_s = softmax_of(rows)
        p, a = e / s, _formulas.curvature(g, log_s, m, options)
        at_peak = (rows == m) & (s < epilogue.CONFIDENT)
        if v is None:
            result = _formulas.hessian_diagonal(p, np.where(at_peak, rest / s, 1 - p), a, _formulas.lift(g, 1, options), options)
        else:
            values = rows_of(v)
            ref = np.where(at_peak, values, 0).sum(axis=1, keepdims=True)
            mean = (p * (values - ref)).sum(axis=1, keepdims=True)
            more = _formulas.lift(g, ref + mean, options) / s
            result = _formulas.hessian_product(e, (values - ref) - mean, a / s, more, options)
        write(np.where(g == 0, 0, result), out)


def cross_entropy_hvp(x, v, coef, options, out):
    _second_order(x, v, coef, options, out)


def cross_entropy_hessian_diag(x, coef, options, out):
    _second_order(x, None, coef, options, out)


def mapped_hessian(x, v, options, hessian, gradient, out):
    u, slope = mapped_rows(x.astype(WIDE), options)
    values, product, of_logits, logits = np.ones_like(x) if v is None else v, np.empty_like(x), np.empty_like(x), u.astype(x.dtype)
    with np.errstate(all="ignore"):
        hessian(logits, None if v is None else (values * slope).astype(x.dtype), product, None)
        gradient(logits, of_logits, None)
        bend = 0
        if options.softcap is not None:
            bend = map_formulas.bend(u, slope, WIDE(options.logit_scale) / WIDE(options.softcap), 1 / WIDE(options.softcap))
        out[...] = map_formulas.second(product * (slope if v is None else 1), slope, of_logits.astype(WIDE), bend, values)


def row_mass(y, w, a, b, classes, scale, spread, mass):
    total = WIDE(classes) if w is None else w.astype(WIDE).sum()
    with np.errstate(all="ignore"):
        mass[...] = scale + spread * total if y is None else weighted(y, w).sum(axis=1) * a + b * total


def cross_entropy_stats(x, target, mask, scale, lse, log_prob, argmax, correct, entropy):
    rows = rows_of(x)
    counts = np.ones(lse.size, bool) if scale is None else np.broadcast_to(scale, lse.shape) != 0
    with np.errstate(all="ignore"):
        m, gap, e, s, _, log_s = softmax_of(rows)
        gaps = np.where(e == 0, 0, e * gap).sum(axis=1, keepdims=True)
        lse[...] = np.where(counts, _formulas.log_sum_exp(log_s, m)[:, 0], 0)
        entropy[...] = np.where(counts, _formulas.entropy_of_row(log_s, gaps / s)[:, 0], 0)
        argmax[...] = np.where(counts, rows.argmax(axis=1), -1)
        if target is not None:
            hit = class_column(target, mask, counts)
            own = np.take_along_axis(gap, hit, axis=1)
            log_prob[...] = np.where(counts, _formulas.log_prob_of_target(log_s, own)[:, 0], 0)
            correct[...] = counts & (np.take_along_axis(rows, hit, axis=1) == m)[:, 0]


def evaluation(x, target, mask, scale, log_prob, entropy, rank, confidence, is_argmax):
    count = log_prob.size
    lse, argmax, correct = np.empty(count), np.empty(count, np.int64), np.empty(count, bool)
    cross_entropy_stats(x, target, mask, scale, lse, log_prob, argmax, correct, entropy)
    fill_ranks(x, target, mask, np.broadcast_to(scale, log_prob.shape) != 0, argmax, rank, confidence, is_argmax)


def distillation(x, y, beta, upstream, loss, out):
    x, t, g = rows_of(x), rows_of(y), upstream_column(upstream, out, loss.size)
    low, high = divergence.LIMITS[8]
    with np.errstate(all="ignore"):
        m, top = t.max(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
        e, other = np.exp((t - m) * beta), np.exp((x - top) * beta)
        s, own = e.sum(axis=1, keepdims=True), other.sum(axis=1, keepdims=True)
        k = np.where(e == 0, 0, e * (x - t)).sum(axis=1, keepdims=True) / s * beta
        most = (top - m) * beta - k
        impossible = np.any((x == -np.inf) & (t > -np.inf), axis=1, keepdims=True)
        large = impossible | ~(most < divergence.MOST)
        z, near, moved = divergence_formulas.safe_terms(e, (x - t) * beta - k, np.exp((x - m) * beta - k), WIDE(low), WIDE(high))
        excess = np.where(large, 0, near.sum(axis=1, keepdims=True) / s)
        of_large = divergence_formulas.large_shift(np.where(impossible, np.inf, most), np.log(own), np.log(s), np.log(WIDE(2)))
        shift = np.where(large, of_large, (e * z).sum(axis=1, keepdims=True) / s)
        total = np.where(large, 1, excess + shift)
        moved = np.where(large, divergence_formulas.large_moved(e, other, 2 * s / own), moved)
        losses = divergence_formulas.divergence(excess, shift, total, np.log1p(total), WIDE(divergence.NEAR)) / WIDE(beta) ** 2
        gradient = None
        if out is not None:
            gradient = divergence_formulas.gradient(e, moved, total, divergence_formulas.factor(g, WIDE(beta), s, total))
        finish(np.ones(loss.size, bool), losses, gradient, g, loss, out)


# ------------------------------ targets, sums, and a whole loss ------------------------------


def row_scale(target, mask, wide, weight, sample_weight, classes, ignore_index, hit, share, scale, spread):
    y = target.astype(np.int64) & mask
    counts = (y != ignore_index) | (wide & (y < 0))
    wrong = counts & ((y < 0) | (y >= classes))
    w = np.ones(y.size) if weight is None else weight[np.where(counts & ~wrong, y, 0)].astype(float)
    own = np.where(counts, 1.0 if sample_weight is None else sample_weight.astype(float), 0)
    with np.errstate(all="ignore"):
        w = np.where(own == 0, 0, w * own)
        scale[...] = hit * w if scale.size == w.size else hit
        if spread is not None:
            spread[...] = share * own
    return float(w.sum()), int(wrong.sum()), int(wrong.argmax()) if wrong.any() else -1


def weigh(values, sample_weight, out):
    with np.errstate(all="ignore"):
        out[...] = np.where(sample_weight == 0, 0, values * sample_weight)


def scatter_rows(x, rows, factors, after, out, out_rows):
    with np.errstate(all="ignore"):
        np.add.at(out, out_rows, factors[:, None] * x[rows] * out.dtype.type(after))


def tally(log_prob, entropy, rank, confidence, is_argmax, top_k, bins):
    return tallied(log_prob, entropy, rank, confidence, is_argmax, top_k, bins)


def row_sum(values):
    with np.errstate(all="ignore"):
        return float(values.sum(dtype=np.float64))


def fused_loss(operation, x, target, mask, wide, weight, sample_weight, ignore_index, smoothing, options, sums, over, g, loss, out):
    x, out = three_axes(x, out)
    if not may_be_written(out, x, target, weight, g):
        return NOT_DONE, None, None
    count, classes = target.size, x.shape[1]
    scale, spread = np.empty(count, weight.dtype), np.empty(count, weight.dtype) if smoothing else None
    w, own = (a if a.size else None for a in (weight, sample_weight))
    unweighted, constants = w is None and own is None, (classes, ignore_index, 1.0 - smoothing, smoothing / classes)
    divisor, wrong, _ = row_scale(target, mask, wide, w, own, *constants, scale, spread)
    if wrong or (over == 0 and not divisor > 0 and not unweighted):
        return NOT_DONE, None, None
    empty = loss is not None and over == 0 and divisor == 0
    divisor = over or divisor
    upstream = divided(g, divisor, weight.dtype)
    losses = np.empty(count, weight.dtype) if sums or loss is None else loss
    result = DONE
    if operation == "nll":
        nll(x, target, mask, scale, losses)
        if loss is not None and unweighted and np.fmax.reduce(-losses) > positive_logp(x.itemsize):
            result = POSITIVE
        if out is not None:
            nll_backward(target, mask, scale, upstream, out)
    elif smoothing:
        w = np.ones(classes, weight.dtype) if w is None else w
        cross_entropy_soft(x, None, w, 0.0, 0.0, target, mask, scale, spread, options, upstream, losses, out)
    else:
        cross_entropy(x, target, mask, scale, options, upstream, losses, out)
    _sum_into(loss, losses, sums, divisor)
    return EMPTY if empty else result, None, None


def fused_soft_loss(x, y, w, a, b, sample_weight, options, sums, over, g, loss, out):
    x, y, out = three_axes(x, y, out)
    if not may_be_written(out, x, y, *([] if w is None else [w]), g):
        return NOT_DONE
    count = x.shape[0] * x.shape[2]
    divisor = over or (row_sum(sample_weight) if sample_weight.size else count)
    if not divisor > 0:
        return NOT_DONE
    losses = np.empty(count, loss.dtype) if sums else loss
    upstream = divided(g, divisor, loss.dtype)
    if sample_weight.size:
        given, upstream = upstream, np.empty_like(sample_weight)
        weigh(given, sample_weight, upstream)
    cross_entropy_soft(x, y, 1.0 if w is None else w, a, b, None, 0, None, None, options, upstream, losses, out)
    if sample_weight.size:
        weigh(losses, sample_weight, losses)
    _sum_into(loss, losses, sums, divisor)
    return DONE


def _sum_into(loss, losses, sums, divisor):
    """The sum of losses over ``divisor`` in place of the first loss."""
    if sums and loss is not None:
        with np.errstate(all="ignore"):
            loss[0] = np.float64(row_sum(losses)) / divisor
