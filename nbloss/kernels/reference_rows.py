"""Rows of numbers, for ``nbloss.kernels.reference``: what its kernels read and write, the softmax, mapped logits and divergences."""

import math

import numpy as np

from nbloss.kernels.math import divergence, logit_map

WIDE = np.longdouble


def rows_of(array):
    """An (outer, C, inner) view as (positions, C) numbers. It is a copy in C order, so that a sum does not depend on the layout."""
    if array.dtype == np.uint16:
        array = array.view(np.float16)
    elif array.dtype == np.int16:  # bfloat16: the upper half of a float32
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.moveaxis(array, 1, 2).astype(WIDE, order="C").reshape(array.shape[0] * array.shape[2], array.shape[1])


def weighted(y, w):
    """Rows of w y; y without class weights."""
    return rows_of(y) if w is None else rows_of(y) * w


def write(rows, out):
    """Write rows into an (outer, C, inner) view, rounded to its type."""
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


def softmax_of(x):
    """``(m, m - x, exp(x - m), s, s - 1, log s)`` of rows; numbers per row have shape (rows, 1).

    s - 1 is summed without the maximum's own term, so that it keeps its digits where s rounds to 1. An infinite maximum makes it nan.
    """
    m = x.max(axis=1, keepdims=True)
    gap = m - x
    e = np.exp(-gap)
    others = e.copy()
    np.put_along_axis(others, x.argmax(axis=1)[:, None], 0, axis=1)
    rest = np.where(m == np.inf, np.nan, others.sum(axis=1, keepdims=True))
    return m, gap, e, 1 + rest, rest, np.log1p(rest)


def class_column(target, mask, counts):
    """Class numbers as a column; class 0 for a row that does not count, whose target may be any number."""
    return np.where(counts, target.astype(np.int64) & mask, 0)[:, None]


def finish(counts, losses, gradient, upstream, loss, out):
    """Write losses and gradient. Both are 0 in rows that do not count, and the gradient also where the upstream gradient is 0."""
    loss[...] = np.where(counts, losses[:, 0], 0)
    if out is not None:
        write(np.where(counts[:, None] & (upstream != 0), gradient, 0), out)


def upstream_column(upstream, out, count):
    """The upstream gradient of each row, shape (rows, 1); None where no gradient is asked for."""
    return None if out is None else np.broadcast_to(upstream, (count,))[:, None].astype(WIDE)


# ------------------------------ mapped logits ------------------------------


def _series_of_tanh(z):
    """(tanh(v) / v - 1) / z for z = v^2."""
    v = np.sqrt(np.where(z > 0, z, 1))
    return np.where(z > 0, (np.tanh(v) / v - 1) / np.where(z > 0, z, 1), -1 / WIDE(3))


map_formulas = logit_map.make(
    lambda function: function, lambda function: function, WIDE, np.where, np.less, lambda a, b, c: a * b + c, np.abs, np.copysign,
    lambda t: np.exp(np.where(np.isnan(t), -np.inf, t)), _series_of_tanh,
)  # fmt: skip


def mapped_rows(x, options):
    """The rows of mapped logits, and their slopes; 1 without a map."""
    if options is None or not options.maps:
        return x, 1
    cap, scale = options.softcap, WIDE(options.logit_scale)
    if cap is None:
        return x * scale, scale
    v = x * (scale / WIDE(cap))
    return map_formulas.capped(x, v, v * v, *map_formulas.near(v, v * v, scale), scale, WIDE(cap))


# ------------------------------ divergences ------------------------------


def _exp_remainder(z):
    """exp(z) - 1 - z; near 0 from its series."""
    near = np.where(np.abs(z) < 0.5, z, 0)
    series = np.zeros_like(near)
    for k in range(20, 1, -1):
        series = (series * near + 1) / k
    return np.where(np.abs(z) < 0.5, series * near * near, np.expm1(z) - z)


divergence_formulas = divergence.make(lambda function: function, np.where, np.less, np.equal, lambda a, b, c: a * b + c, _exp_remainder)


def may_be_written(out, x, *others):
    """Whether ``out`` is ``x`` itself, or shares no memory with any argument."""
    if out is None:
        return True
    same = out.__array_interface__["data"] == x.__array_interface__["data"] and out.strides == x.strides
    arrays = [a for a in others if isinstance(a, np.ndarray)]
    return (same or not np.may_share_memory(out, x)) and not any(np.may_share_memory(out, a) for a in arrays)


def tallied(log_prob, entropy, rank, confidence, is_argmax, top_k, bins):
    """What ``tally`` returns: counts, and two numbers for each sum."""
    kept = rank >= 0
    in_bin = kept & (confidence == confidence)
    index = np.where(in_bin, np.clip(np.ceil(confidence.astype(np.float64) * bins) - 1, 0, bins - 1), -1)
    binned = [index == b for b in range(bins)]
    counts = [kept.sum(), *((kept & (rank < k)).sum() for k in top_k), *(b.sum() for b in binned), *((b & is_argmax).sum() for b in binned)]
    pairs = [exact_sum(numbers.astype(np.float64)) for numbers in (-log_prob[kept], entropy[kept], *(confidence[b] for b in binned))]
    return np.array(counts, np.int64), np.array(pairs).T


def exact_sum(numbers):
    """A sum, rounded to float64, and the rest of it."""
    if not np.isfinite(numbers).all():
        return numbers.sum(), 0.0
    high = math.fsum(numbers)
    return high, math.fsum([*numbers, -high])


def fill_ranks(x, target, mask, counts, argmax, rank, confidence, is_argmax):
    """Fill what ``evaluation`` has besides the statistics."""
    rows = rows_of(x)
    with np.errstate(all="ignore"):
        s = softmax_of(rows)[3][:, 0]
        hit = class_column(target, mask, counts)
        above = (rows > np.take_along_axis(rows, hit, axis=1)).sum(axis=1)
        confidence[...] = np.where(counts, 1 / s, 0)
    rank[...] = np.where(counts, np.where(np.isnan(s), rows.shape[1], above), -1)
    is_argmax[...] = counts & ~np.isnan(s) & (argmax == hit[:, 0])


def three_axes(*arrays):
    return [array[:, :, None] if isinstance(array, np.ndarray) and array.ndim == 2 else array for array in arrays]


def divided(g, divisor, dtype):
    if isinstance(g, np.ndarray):
        return g
    with np.errstate(all="ignore"):
        return np.array([np.float64(g) / divisor]).astype(dtype)
