"""Floor 1: long rows whose classes lie side by side. Vectors along the classes.

Per row: the maximum, then exp and sum, then the output. Shorter rows go through each step in groups, whose logarithms and divisions are
one vector's. The exponentials of ``value_and_grad`` stay in a thread's own buffer ``keep``, so that the gradient is a multiplication.
While a row is worked on, the next one and the output's lines are prefetched, a quarter of them during the first pass, so that memory
never rests: on a 2-core Sapphire Rapids that took (4096, 1000) from 2.2 times the time of a copy to about that of one. Output that no
cache would hold is written past them instead.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import (
    apart,
    computed,
    get,
    lanes,
    larger,
    load,
    load_first,
    load_four,
    moved,
    pointer,
    put,
    smaller,
    splat,
    store,
    store_first,
    stream,
    to_aligned,
)
from nbloss.kernels.cpu.rooms import release, room
from nbloss.kernels.cpu.row_sums import BLOCK, CONFIDENT, fill, pick_loss, pitch_of, pull, row_max, row_rest, row_total
from nbloss.kernels.cpu.simd import doubled, equal, first_lane, less, minimum, quarter, reduce_add, select, with_lane
from nbloss.kernels.cpu.streams import past_caches
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit

AGAIN = 400_000  # bytes: of a longer row the exponentials are computed twice; kept ones would push the next row out of the second cache
STREAMED = 2048  # numbers: a shorter row is not worth the alignment
KEPT = 1024  # numbers of a group: in longer ones reading and writing take longer turns, which was slower


@njit(**STRICT)
def group_of(step, n):
    """How many rows go through each step together: one to a lane when their logarithms and losses are found."""
    return larger(1, smaller(step, KEPT // n))


# ------------------------------ log_softmax ------------------------------


@njit(**STRICT)
def _write_logs(row, result, n, m, log_s, streamed):
    step = lanes(row)
    j = smaller(n, to_aligned(result))
    store_first(result, 0, j, (load_first(row, 0, j, 0.0) - m) - log_s)
    while streamed and j + step <= n:
        stream(result, j, (load(row, j) - m) - log_s)
        j += step
    while j + 2 * step <= n:
        store(result, j, (load(row, j) - m) - log_s)
        store(result, j + step, (load(row, j + step) - m) - log_s)
        j += 2 * step
    while j < n:
        store_first(result, j, n - j, (load_first(row, j, n - j, 0.0) - m) - log_s)
        j += step


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    size = group_of(step, n)
    tops = room(base, 2 * step)
    logs = moved(tops, step)
    rest = splat(base, 0.0)
    streamed = n >= STREAMED and past_caches(out, base, pointer(out, 0))
    between = apart(x, 0)
    ahead = between * size
    for p in range(lo, hi, size):
        count, confident = smaller(size, hi - p), 0
        for k in range(count):
            row = pointer(x, (p + k) * between)
            lines = row if streamed else pointer(out, (p + k) * n)
            m = row_max(row, n, ahead, lines)
            total = row_total(row, n, m, None, ahead, lines)
            confident |= np.int64(total < CONFIDENT) << k
            put(tops, k, m)
            rest = with_lane(rest, k, computed(row, total - 1.0))
        for k in range(count):
            if confident >> k & 1:
                rest = with_lane(rest, k, computed(base, row_rest(pointer(x, (p + k) * between), n, get(tops, k), None)))
        store(logs, 0, log1p(rest))
        for k in range(count):
            _write_logs(pointer(x, (p + k) * between), pointer(out, (p + k) * n), n, get(tops, k), get(logs, k), streamed)
    release(tops)


@njit(**STRICT)
def _sum_block(x, start, stop):
    step = lanes(x)
    a = splat(x, 0.0)
    b = a
    for j in range(start, stop, 2 * step):
        a = a + load_first(x, j, stop - j, 0.0)
        b = b + load_first(x, j + step, stop - j - step, 0.0)
    return doubled(a + b)


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    step = lanes(pointer(y, 0))
    for p in range(lo, hi):
        upstream = pointer(g, p * apart(g, 0))
        row = pointer(y, p * apart(y, 0))
        result = pointer(out, p * n)
        sums = doubled(splat(row, 0.0))
        for start in range(0, n, BLOCK):
            sums = sums + _sum_block(upstream, start, smaller(n, start + BLOCK))
        factor = computed(row, reduce_add(sums) / np.float64(unit(get(row, 0))))
        for j in range(0, n, step):
            e = exp_scaled(minimum(load_first(row, j, n - j, 0.0), TOP), None)
            store_first(result, j, n - j, load_first(upstream, j, n - j, 0.0) - e * factor)


# ------------------------------ cross entropy, class indices ------------------------------


@njit(**STRICT)
def _write_kept(keep, out, n, factor, streamed):
    step = lanes(keep)
    j = smaller(n, to_aligned(out))  # stores that straddle lines cost double
    store_first(out, 0, j, load(keep, 0) * factor)
    while streamed and j + step <= n:
        stream(out, j, load(keep, j) * factor)
        j += step
    while j + 2 * step <= n:
        store(out, j, load(keep, j) * factor)
        store(out, j + step, load(keep, j + step) * factor)
        j += 2 * step
    while j < n:
        store_first(out, j, n - j, load(keep, j) * factor)
        j += step


@njit(**STRICT)
def _write_again(row, out, n, m, factor, streamed):
    """``_write_kept`` where nothing was kept."""
    step = lanes(row)
    j = smaller(n, to_aligned(out))
    store_first(out, 0, j, exp_scaled(load_first(row, 0, j, 0.0) - m, None) * factor)
    while j + 4 * step <= n:
        e = exp_scaled(load_four(row, j) - m, None) * factor
        if streamed:
            stream(out, j, quarter(e, 0))
            stream(out, j + step, quarter(e, 1))
            stream(out, j + 2 * step, quarter(e, 2))
            stream(out, j + 3 * step, quarter(e, 3))
        else:
            store(out, j, e)
        j += 4 * step
    while j < n:
        store_first(out, j, n - j, exp_scaled(load_first(row, j, n - j, 0.0) - m, None) * factor)
        j += step


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    base = pointer(x, 0)
    step = lanes(base)
    one = unit(loss.dtype.type(0))
    size, pitch, streamed = step, 0, False
    if out is not None:
        size, pitch = group_of(step, n), pitch_of(base, n)
        streamed = n >= STREAMED and past_caches(out, base, pointer(out, 0))
    tops = room(base, 4 * step + size * pitch)
    coefs, factors, at_targets, kept = moved(tops, step), moved(tops, 2 * step), moved(tops, 3 * step), moved(tops, 4 * step)
    gap = splat(base, 0.0)
    rest, s, e_y = gap, gap, gap
    scales, losses = pointer(scale, 0), pointer(loss, 0)
    between = apart(x, 0)
    ahead = between * size
    if out is None:  # the pass for the maximum is over before what was asked for last has come
        ahead = between + (KEPT if between == n else 0)
    again = n * x.itemsize > AGAIN
    for p in range(lo, hi, size):
        count, confident = smaller(size, hi - p), 0
        for k in range(count):
            if scale[p + k] == 0:
                continue
            row, y = pointer(x, (p + k) * between), np.int64(target[p + k]) & mask
            x_y = get(row, y)
            if out is None:
                m = row_max(row, n, ahead, None)
                total = row_total(row, n, m, None, ahead, None)
            else:
                keep = moved(kept, k * pitch)
                lines = row if streamed else pointer(out, (p + k) * n)
                m = row_max(row, n, ahead, lines)
                if again:
                    total, own = row_total(row, n, m, None, ahead, lines), first_lane(exp_scaled(splat(row, x_y - m), None))
                else:
                    total = row_total(row, n, m, keep, ahead, lines)
                    own = get(keep, y)
                s, e_y = with_lane(s, k, computed(row, total)), with_lane(e_y, k, own)
            confident |= np.int64(total < CONFIDENT) << k
            put(tops, k, m)
            gap, rest = with_lane(gap, k, m - x_y), with_lane(rest, k, computed(row, total - 1.0))
        for k in range(count):
            if confident >> k & 1:
                row = pointer(x, (p + k) * between)
                if out is None:
                    others = row_rest(row, n, get(tops, k), None)
                else:
                    keep = moved(kept, k * pitch)
                    others = row_rest(row, n, get(tops, k), keep)
                    s, e_y = with_lane(s, k, computed(row, others + 1.0)), with_lane(e_y, k, get(keep, np.int64(target[p + k]) & mask))
                rest = with_lane(rest, k, computed(row, others))
        each = load_first(scales, p, count, 0.0)
        nothing = equal(each, 0.0)
        store_first(losses, p, count, select(nothing, 0.0, pick_loss(each, log1p(rest), gap)))
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_first(pointer(upstream, 0), p, count, 0.0)
            coef = select(nothing, 0.0, each * g)
            store(coefs, 0, coef)
            store(factors, 0, coef / s / one)
            store(at_targets, 0, pull(coef, select(less(0.0, gap), s - e_y / one, rest), s))
            for k in range(count):
                result = pointer(out, (p + k) * n)
                if get(coefs, k) == 0:
                    fill(result, n, 0.0)
                else:
                    if again and not confident >> k & 1:
                        _write_again(pointer(x, (p + k) * between), result, n, get(tops, k), get(factors, k), streamed)
                    else:
                        _write_kept(moved(kept, k * pitch), result, n, get(factors, k), streamed)
                    put(result, np.int64(target[p + k]) & mask, get(at_targets, k))
    release(tops)
