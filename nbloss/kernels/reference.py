"""The contract of ``nbloss.kernels`` in plain NumPy, for a debugger: what runs under ``NUMBA_DISABLE_JIT=1``.

The compiled kernels are made of vector instructions that an interpreter does not have; so that whoever steps through a program finds
readable arrays, each kernel is a few lines here. Rows are (positions, C), in the widest float there is, rounded once at the end: the
digits are those of the contract, the last bit may differ from the compiled kernels'. Nothing is fast, and memory is taken freely.
"""

import numpy as np

WIDE = np.longdouble

__all__ = [
    "cross_entropy",
    "cross_entropy_smooth",
    "cross_entropy_soft",
    "log_softmax",
    "log_softmax_backward",
    "nll",
    "nll_backward",
    "nll_soft",
    "nll_soft_backward",
    "row_scale",
    "row_sum",
    "whole",
]


def _rows(array):
    """An (outer, C, inner) view as (positions, C) numbers; a copy, in C order so that a sum does not depend on the layout."""
    if array.dtype == np.uint16:
        array = array.view(np.float16)
    elif array.dtype == np.int16:  # bfloat16: the upper half of a float32
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.moveaxis(array, 1, 2).astype(WIDE, order="C").reshape(array.shape[0] * array.shape[2], array.shape[1])


def _put(rows, out):
    """Rows into an (outer, C, inner) view, rounded to its type."""
    array = np.moveaxis(rows.reshape(out.shape[0], out.shape[2], out.shape[1]), 2, 1)
    with np.errstate(all="ignore"):
        if out.dtype == np.uint16:
            out[...] = array.astype(np.float32).astype(np.float16).view(np.uint16)
        elif out.dtype == np.int16:
            bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
            even = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
            out[...] = np.where(np.isnan(array), bits >> 16 | 0x40, even).astype(np.uint16).view(np.int16)
        else:
            out[...] = array


def _softmax(x):
    """``(m - x, p, log s, 1 - p at the maximum)`` of rows; the sum is taken without the maximum's own term, which keeps its digits."""
    m = x.max(axis=1, keepdims=True)
    gap = m - x
    e = np.exp(-gap)
    top = x.argmax(axis=1)[:, None]
    others = e.copy()
    np.put_along_axis(others, top, 0, axis=1)
    rest = np.where(m == np.inf, np.nan, others.sum(axis=1, keepdims=True))
    return gap, e / (1 + rest), np.log1p(rest)[:, 0], rest / (1 + rest)


def _classes(target, mask, counts):
    """Class numbers; class 0 where a row does not count (its target may be any number)."""
    return np.where(counts, target.astype(np.int64) & mask, 0)[:, None]


def log_softmax(x, out):
    with np.errstate(all="ignore"):
        gap, _, log_s, _ = _softmax(_rows(x))
        _put(-gap - log_s[:, None], out)


def log_softmax_backward(g, y, out):
    with np.errstate(all="ignore"):
        upstream = _rows(g)
        _put(upstream - np.exp(_rows(y)) * upstream.sum(axis=1, keepdims=True), out)


def nll(logp, target, mask, scale, loss):
    own = np.take_along_axis(_rows(logp), _classes(target, mask, scale != 0), axis=1)[:, 0]
    with np.errstate(all="ignore"):
        loss[...] = np.where(scale == 0, 0, -scale * own)


def nll_backward(target, mask, scale, upstream, out):
    scale = np.broadcast_to(scale, target.shape)
    gradient = np.zeros((scale.size, out.shape[1]), WIDE)
    with np.errstate(all="ignore"):
        np.put_along_axis(gradient, _classes(target, mask, scale != 0), -(scale * upstream)[:, None], axis=1)
    _put(np.where(scale[:, None] == 0, 0, gradient), out)


def nll_soft(logp, y, w, loss):
    q = _rows(y) * w
    with np.errstate(all="ignore"):
        loss[...] = -np.where(q == 0, 0, q * _rows(logp)).sum(axis=1)


def nll_soft_backward(y, w, upstream, out):
    with np.errstate(all="ignore"):
        _put(-(_rows(y) * w * upstream[:, None]), out)


def _loss_of_masses(x, q, counts, upstream, loss, out):
    """The loss -sum q log p of target masses, and its gradient g (p sum q - q); nothing of rows that do not count."""
    with np.errstate(all="ignore"):
        gap, p, log_s, away = _softmax(x)
        total = q.sum(axis=1)
        loss[...] = np.where(counts, total * log_s + np.where(q == 0, 0, q * gap).sum(axis=1), 0)
        if out is not None:
            total, g = total[:, None], np.broadcast_to(upstream, counts.shape)[:, None]
            gradient = np.where((gap == 0) & (away < 0.5), (total - q) - total * away, total * p - q) * g
            _put(np.where(counts[:, None] & (g != 0), gradient, 0), out)


def _masses_of_classes(classes, target, mask, scale, spread, w):
    """scale at the target, and spread w on every class."""
    hit = np.arange(classes) == _classes(target, mask, (scale != 0) | (spread != 0))
    return np.where(hit, scale[:, None].astype(WIDE), 0) + spread[:, None].astype(WIDE) * w


def cross_entropy(x, target, mask, scale, upstream, loss, out):
    scale = np.broadcast_to(scale, loss.shape)
    q = _masses_of_classes(x.shape[1], target, mask, scale, np.zeros_like(scale), 0.0)
    _loss_of_masses(_rows(x), q, scale != 0, upstream, loss, out)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out):
    q = _masses_of_classes(x.shape[1], target, mask, scale, spread, w)
    _loss_of_masses(_rows(x), q, spread != 0, upstream, loss, out)


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out):
    _loss_of_masses(_rows(x), w * (_rows(y) * a + b), np.ones(loss.size, bool), upstream, loss, out)


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread):
    y = target.astype(np.int64) & mask
    counts = (y != ignore_index) | (wide & (y < 0))
    wrong = counts & ((y < 0) | (y >= classes))
    w = np.ones(y.size) if weight is None else weight[np.where(counts & ~wrong, y, 0)].astype(float)
    w = np.where(counts, w, 0)
    scale[...] = hit * w if scale.size == w.size else hit
    if spread is not None:
        spread[...] = np.where(counts, share, 0)
    return float(w.sum()), int(wrong.sum()), int(wrong.argmax()) if wrong.any() else -1


def row_sum(values):
    with np.errstate(all="ignore"):
        return float(values.sum(dtype=np.float64))


def _fits(out, x, target, weight):
    """Whether ``out`` may be written: it is ``x`` itself, or shares no memory with anything."""
    if out is None:
        return True
    beside = out.__array_interface__["data"] == x.__array_interface__["data"] or not np.may_share_memory(out, x)
    return beside and not np.may_share_memory(out, target) and not np.may_share_memory(out, weight)


def whole(operation, x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out):
    if not _fits(out, x, target, weight):
        return False
    scale, w = np.empty(target.size, weight.dtype), weight if weight.size else None
    divisor, wrong, _ = row_scale(target, mask, wide, w, x.shape[1], ignore_index, 1.0, 0.0, scale, None)
    if wrong or (divides and not divisor > 0):
        return False
    with np.errstate(all="ignore"):
        upstream = np.array([np.float64(g) / divisor if divides else g]).astype(weight.dtype)
    losses = np.empty(target.size, weight.dtype) if sums else loss
    if operation == "cross_entropy":
        cross_entropy(x, target, mask, scale, upstream, losses, out)
    else:
        if loss is not None:
            nll(x, target, mask, scale, losses)
        if out is not None:
            nll_backward(target, mask, scale, upstream, out)
    if sums and loss is not None:
        loss[0] = row_sum(losses) / (divisor if divides else 1.0)
    return True
