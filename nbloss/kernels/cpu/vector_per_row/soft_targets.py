"""Cross entropy of contiguous rows against a distribution over all classes: probabilities, or smoothed class numbers.

One kernel for both. For probabilities there is no ``target``, ``scale`` and ``spread``; for class numbers there is no ``y``. Numba prunes
what is None.
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.epilogue import index_loss, smoothed_at_target, soft_factors, soft_gradient, soft_loss
from nbloss.kernels.cpu.simd.integers import get_integer
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_n, put, splat, store_n
from nbloss.kernels.cpu.simd.pointers import min_int, pointer, position_pointer, row_step
from nbloss.kernels.cpu.simd.vec import equal, fma, promote, reduce_add, select
from nbloss.kernels.cpu.simd.vecmath import exp_scale
from nbloss.kernels.cpu.simd.workspace import free
from nbloss.kernels.cpu.tuning import SUM_BLOCK_CLASSES
from nbloss.kernels.cpu.vector_per_row.reduce import log1p_of, prefetch_distance, row_max, row_sum, row_workspace
from nbloss.kernels.cpu.vector_per_row.write import fill_row
from nbloss.kernels.math.epilogue import CONFIDENT


@njit(**INLINE)
def _target_vector(w, y, a, b, j, n):
    """q = w (a y + b) for one vector of classes; without y, w b."""
    q = load_n(w, j, n - j, 0.0)
    if y is None:
        return q * b
    return q * fma(load_n(y, j, n - j, 0.0), a, b)


@njit(**INLINE)
def _sum_block(x, w, y, a, b, m, start, stop):
    """``(sum q, sum q (m - x))`` of a block of classes; a class with q = 0 adds 0 even where x is -inf."""
    width = lanes(x)
    top, zero = splat(x, m), splat(x, 0.0)
    total, total_2, gaps, gaps_2 = zero, zero, zero, zero
    for j in range(start, stop, 2 * width):
        q = _target_vector(w, y, a, b, j, stop)
        total = total + q
        gaps = gaps + select(equal(q, 0.0), 0.0, q * (top - load_n(x, j, stop - j, 0.0)))
        j += width
        q = _target_vector(w, y, a, b, j, stop)
        total_2 = total_2 + q
        gaps_2 = gaps_2 + select(equal(q, 0.0), 0.0, q * (top - load_n(x, j, stop - j, 0.0)))
    return promote(total + total_2), promote(gaps + gaps_2)


@njit(**INLINE)
def _target_sums(x, w, y, a, b, m, n):
    """``(sum q, sum q (m - x))`` of a row."""
    total = promote(splat(x, 0.0))
    gaps = total
    for start in range(0, n, SUM_BLOCK_CLASSES):
        q, d = _sum_block(x, w, y, a, b, m, start, min_int(n, start + SUM_BLOCK_CLASSES))
        total = total + q
        gaps = gaps + d
    return cast(x, reduce_add(total)), cast(x, reduce_add(gaps))


@njit(**INLINE)
def _write_gradient(keep, w, y, a, b, out, n, total, factor, away, peak, g):
    width = lanes(keep)
    for j in range(0, n, width):
        d = soft_gradient(load(keep, j), _target_vector(w, y, a, b, j, n), total, factor, away, peak)
        store_n(out, j, n - j, d * g)


@njit(**INLINE)
def _counts(spread, p):
    """Whether a row counts: an ignored row's spread is 0; rows of probabilities all count."""
    if spread is None:
        return True
    return spread[p] != 0


@njit(**INLINE)
def _constant_of(spread, p, b):
    """What every class gets, before class weights."""
    if spread is None:
        return b
    return spread[p]


def _probabilities(y, p):
    """The row of probabilities at position p, or None."""


@overload(_probabilities, jit_options=INLINE)
def _typed_probabilities(y, p):
    if isinstance(y, types.NoneType):
        return lambda y, p: None
    return lambda y, p: position_pointer(y, p)


def cross_entropy_soft(x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out, lo, hi):
    n = x.shape[1]
    keep = row_workspace(x, n)
    weights = pointer(w, 0)
    ahead = prefetch_distance(n, row_step(x), 1)
    top, known = get(keep, 0), -1  # the maximum of row ``known``
    for p in range(lo, hi):
        if not _counts(spread, p):
            loss[p] = 0
            if out is not None:
                fill_row(position_pointer(out, p), n, 0.0)
            continue
        row, probabilities = position_pointer(x, p), _probabilities(y, p)
        constant = cast(row, _constant_of(spread, p, b))
        m = top if known == p else row_max(row, n)
        known = p + 1
        following = position_pointer(x, known) if known < hi and _counts(spread, known) else row
        if target is not None:
            c = get_integer(pointer(target, 0), p) & mask
            x_target = get(row, c)
            hit = scale[p]
        s, rest, top = row_sum(row, n, m, keep, ahead, following)
        spread_total, gaps = _target_sums(row, weights, probabilities, a, constant, m, n)
        log_s = log1p_of(row, rest)
        value = soft_loss(spread_total, log_s, gaps, m, options)
        total = spread_total
        if target is not None:
            total = spread_total + hit
            if hit != 0:
                value += index_loss(hit, log_s, m - x_target, m, options)
        loss[p] = value
        if out is not None:
            result, g = position_pointer(out, p), upstream[p * (upstream.size > 1)]
            if g == 0:
                fill_row(result, n, 0.0)
                continue
            factor, away = soft_factors(total, rest, s, log_s, m, options)
            factor = factor / exp_scale(m)
            peak = exp_scale(m) if s < CONFIDENT else -exp_scale(m)  # no exponential is negative
            _write_gradient(keep, weights, probabilities, a, constant, result, n, total, factor, away, peak, g)
            if target is not None:
                at_peak = x_target == m and s < CONFIDENT
                d = smoothed_at_target(get(keep, c), get(weights, c) * constant, hit, spread_total, factor, away, at_peak)
                put(result, c, d * g)
    free(keep)
