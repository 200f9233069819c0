"""Floor 1: long rows whose classes lie side by side. One row at a time, vectors along the classes.

Per row: the maximum, then exp and sum, then the output. The exponentials of ``value_and_grad`` stay in a thread's own buffer ``keep``,
so that the gradient is a multiplication. While a row is worked on, the next one and the output's lines are prefetched, a quarter of
them during the first pass, so that memory never rests: on a 2-core Sapphire Rapids that took (4096, 1000) from 2.2 times the time of a
copy to about that of one. Output that no cache would hold is written past them instead.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import (
    apart,
    computed,
    get,
    lanes,
    load,
    load_first,
    pointer,
    put,
    smaller,
    splat,
    store,
    store_first,
    stream,
    to_aligned,
)
from nbloss.kernels.cpu.rooms import release
from nbloss.kernels.cpu.row_sums import BLOCK, fill, log1p_of, pick_loss, pull, row_max, row_room, row_sum
from nbloss.kernels.cpu.simd import doubled, minimum, reduce_add
from nbloss.kernels.cpu.streams import past_caches
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, unit

STREAMED = 2048  # numbers: a shorter row is not worth the alignment


# ------------------------------ log_softmax ------------------------------


def log_softmax(x, out, lo, hi):
    n = x.shape[1]
    step = lanes(pointer(x, 0))
    for p in range(lo, hi):
        row = pointer(x, p * apart(x, 0))
        result = pointer(out, p * n)
        streamed = n >= STREAMED and past_caches(out, row, result)
        ahead, lines = apart(x, 0), row if streamed else result
        m = row_max(row, n, ahead, lines)
        _, rest = row_sum(row, n, m, None, ahead, lines)
        log_s = log1p_of(row, rest)
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


def cross_entropy(x, target, mask, scale, upstream, loss, out, lo, hi):
    n = x.shape[1]
    buffer = row_room(x, n if out is not None else 0)
    for p in range(lo, hi):
        if scale[p] == 0:
            loss[p] = 0
            if out is not None:
                fill(pointer(out, p * n), n, 0.0)
            continue
        row = pointer(x, p * apart(x, 0))
        y = np.int64(target[p]) & mask
        x_y = get(row, y)
        ahead = apart(x, 0)
        if out is None:
            m = row_max(row, n, ahead, None)
            _, rest = row_sum(row, n, m, None, ahead, None)
            loss[p] = pick_loss(scale[p], log1p_of(row, rest), m - x_y)
        else:
            result, keep = pointer(out, p * n), buffer
            streamed = n >= STREAMED and past_caches(out, row, result)
            lines = row if streamed else result
            m = row_max(row, n, ahead, lines)
            s, rest = row_sum(row, n, m, keep, ahead, lines)
            loss[p] = pick_loss(scale[p], log1p_of(row, rest), m - x_y)
            coef = scale[p] * upstream[p * (upstream.size > 1)]
            if coef == 0:
                fill(result, n, 0.0)
                continue
            others = s - get(keep, y) / unit(m) if x_y < m else rest
            _write_kept(keep, result, n, coef / s / unit(m), streamed)
            put(result, y, pull(coef, others, s))
    release(buffer)
