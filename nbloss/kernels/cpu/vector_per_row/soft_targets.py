"""``rows.py`` for any target masses: smoothed class numbers, and probabilities."""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.integers import get_integer
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_n, put, splat, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, pointer, stride
from nbloss.kernels.cpu.simd.vec import equal, fma, promote, reduce_add, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale
from nbloss.kernels.cpu.simd.workspace import free
from nbloss.kernels.cpu.tuning import SUM_BLOCK_CLASSES
from nbloss.kernels.cpu.vector_per_row.reduce import (
    CONFIDENT,
    index_loss,
    log1p_of,
    prefetch_distance,
    row_max,
    row_sum,
    row_workspace,
    soft_loss,
)
from nbloss.kernels.cpu.vector_per_row.write import fill_row


@njit(**INLINE)
def _soft_target(w, y, a, b, j, n):
    """q = w (a y + b) for one vector of classes; without y, w b."""
    q = load_n(w, j, n - j, 0.0)
    if y is None:
        return q * b
    return q * fma(load_n(y, j, n - j, 0.0), a, b)


@njit(**INLINE)
def _sum_block(x, w, y, a, b, m, start, stop):
    """``(sum q, sum q (m - x))`` of a block; a class without mass adds 0 even at -inf."""
    width = lanes(x)
    top = splat(x, m)
    mass = splat(x, 0.0)
    total_b, gaps, gaps_b = mass, mass, mass
    for j in range(start, stop, 2 * width):
        q = _soft_target(w, y, a, b, j, stop)
        mass = mass + q
        gaps = gaps + select(equal(q, 0.0), 0.0, q * (top - load_n(x, j, stop - j, 0.0)))
        j += width
        q = _soft_target(w, y, a, b, j, stop)
        total_b = total_b + q
        gaps_b = gaps_b + select(equal(q, 0.0), 0.0, q * (top - load_n(x, j, stop - j, 0.0)))
    return promote(mass + total_b), promote(gaps + gaps_b)


@njit(**INLINE)
def _row_sums(x, w, y, a, b, m, n):
    mass = promote(splat(x, 0.0))
    gaps = mass
    for start in range(0, n, SUM_BLOCK_CLASSES):
        q, d = _sum_block(x, w, y, a, b, m, start, min_int(n, start + SUM_BLOCK_CLASSES))
        mass = mass + q
        gaps = gaps + d
    return cast(x, reduce_add(mass)), cast(x, reduce_add(gaps))


@njit(**INLINE)
def _write_gradient(keep, w, y, a, b, out, n, total, s, rest, g):
    """g (total p - q); at the maximum of a confident row (total - q) - total (1 - p), which keeps its digits."""
    width = lanes(keep)
    top = exp_scale(s) if s < CONFIDENT else -exp_scale(s)  # what the maximum's exponential is; no exponential is negative
    factor = total / s / exp_scale(s)
    away = total * (rest / s)
    for j in range(0, n, width):
        e = load(keep, j)
        q = _soft_target(w, y, a, b, j, n)
        d = select(equal(e, top), (total - q) - away, e * factor - q)
        store_n(out, j, n - j, d * g)


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = row_workspace(x, n)
    keep = buffer
    classes = pointer(w, 0)
    row_stride = stride(x, 0)
    ahead = prefetch_distance(n, row_stride, 1)
    top = get(buffer, 0)
    for p in range(lo, hi):
        row, following = pointer(x, p * row_stride), pointer(x, min_int(p + 1, hi - 1) * row_stride)
        masses = pointer(y, p * stride(y, 0))
        m = top if p > lo else row_max(row, n)
        s, rest, top = row_sum(row, n, m, keep, ahead, following)
        total, gaps = _row_sums(row, classes, masses, a, b, m, n)
        loss[p] = soft_loss(total, log1p_of(row, rest), gaps)
        if out is not None:
            g = upstream[p * (upstream.size > 1)]
            if g == 0:
                fill_row(pointer(out, p * n), n, 0.0)
            else:
                _write_gradient(keep, classes, masses, a, b, pointer(out, p * n), n, total, s, rest, g)
    free(buffer)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = row_workspace(x, n)
    keep = buffer
    classes, targets = pointer(w, 0), pointer(target, 0)
    row_stride = stride(x, 0)
    ahead = prefetch_distance(n, row_stride, 1)
    top, known = get(buffer, 0), -1
    for p in range(lo, hi):
        b = spread[p]
        if b == 0:
            loss[p] = 0
            if out is not None:
                fill_row(pointer(out, p * n), n, 0.0)
            continue
        row = pointer(x, p * row_stride)
        y = get_integer(targets, p) & mask
        m = top if known == p else row_max(row, n)
        x_y = get(row, y)
        known = p + 1
        following = pointer(x, known * row_stride) if known < hi and spread[known] != 0 else row
        s, rest, top = row_sum(row, n, m, keep, ahead, following)
        mass, gaps = _row_sums(row, classes, None, b, b, m, n)
        log_s = log1p_of(row, rest)
        hit = scale[p]
        value = soft_loss(mass, log_s, gaps)
        if hit != 0:
            value += index_loss(hit, log_s, m - x_y)
        loss[p] = value
        if out is not None:
            result = pointer(out, p * n)
            g = upstream[p * (upstream.size > 1)]
            if g == 0:
                fill_row(result, n, 0.0)
                continue
            total = mass + hit
            q = get(classes, y) * b
            d = (mass - q) - total * (rest / s)
            if x_y < m or s >= CONFIDENT:
                d = (get(keep, y) * (total / s / exp_scale(m)) - q) - hit
            _write_gradient(keep, classes, None, b, b, result, n, total, s, rest, g)
            put(result, y, d * g)
    free(buffer)
