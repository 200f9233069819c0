"""Long rows whose classes lie side by side. Vectors along the classes.

Per row: the maximum, then exp and sum, then the output. Shorter rows go through each step in groups: a step of one row is a chain of
instructions that wait for each other, and a processor can work on the chains of several rows; logarithms and divisions of a group are
one vector's. The exponentials of ``value_and_grad`` stay in a thread's own buffer ``keep``, so that the gradient is a multiplication.
While a row is worked on, the next one and the output's lines are prefetched, so that memory never rests: on a 2-core Sapphire Rapids
that took (4096, 1000) from 2.2 times the time of a copy to about that of one. Output that no cache would hold is written past them
instead.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.memory import (
    apart,
    computed,
    get,
    in_64_bits,
    lanes,
    load,
    load_doubles,
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
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.row_sums import (
    BLOCK,
    CONFIDENT,
    fill,
    group_of,
    pick_loss,
    pitch_of,
    pull,
    reach,
    row_max,
    row_rest,
    row_terms,
    row_total,
)
from nbloss.kernels.cpu.simd import doubled, equal, less, minimum, reduce_add, select, with_lane
from nbloss.kernels.cpu.streams import LONG, rows_pass
from nbloss.kernels.cpu.vecmath import STRICT, TOP, exp_scaled, log1p, unit


def _lines(row, out, q, streamed):
    """What to ask for before row q of ``out`` is written: nothing new if it goes past the caches; None without ``out``."""


@overload(_lines, jit_options=STRICT)
def _typed_lines(row, out, q, streamed):
    if isinstance(out, types.NoneType):
        return lambda row, out, q, streamed: None
    return lambda row, out, q, streamed: row if streamed else pointer(out, q * out.shape[1])


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
    size, ring = group_of(step, n), 2 * step - 1
    tops = room(base, 3 * step)
    logs = moved(tops, 2 * step)
    rest = splat(base, 0.0)
    terms = local(np.float64, 256)
    streamed = rows_pass(out, n, base)
    between = apart(x, 0)
    ahead = reach(n, between, size)
    for p in range(lo, smaller(hi, lo + size)):
        put(tops, p & ring, row_max(pointer(x, p * between), n))
    for p in range(lo, hi, size):
        count, confident = smaller(size, hi - p), 0
        for k in range(count):
            row, following = pointer(x, (p + k) * between), pointer(x, smaller(p + k + size, hi - 1) * between)
            lines = _lines(row, out, p + k, streamed)
            sums, top = row_terms(row, n, get(tops, (p + k) & ring), None, ahead, lines, following)
            store(terms, k * step, sums)
            put(tops, (p + k + size) & ring, top)
        for k in range(count):
            total = row_total(load_doubles(terms, k * step, rest), get(tops, (p + k) & ring))
            confident |= np.int64(total < CONFIDENT) << k
            rest = with_lane(rest, k, computed(base, total - 1.0))
        for k in range(count):
            if confident >> k & 1:
                rest = with_lane(rest, k, computed(base, row_rest(pointer(x, (p + k) * between), n, get(tops, (p + k) & ring), None)))
        store(logs, 0, log1p(rest))
        for k in range(count):
            _write_logs(pointer(x, (p + k) * between), pointer(out, (p + k) * n), n, get(tops, (p + k) & ring), get(logs, k), streamed)
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


@njit(**STRICT)
def _write_pulled(upstream, row, out, n, factor, streamed):
    """g - exp(y) * factor"""
    step = lanes(row)
    j = smaller(n, to_aligned(out))
    e = exp_scaled(minimum(load_first(row, 0, j, 0.0), TOP), None)
    store_first(out, 0, j, load_first(upstream, 0, j, 0.0) - e * factor)
    while j + 4 * step <= n:
        d = load_four(upstream, j) - exp_scaled(minimum(load_four(row, j), TOP), None) * factor
        if streamed:
            stream(out, j, d)
        else:
            store(out, j, d)
        j += 4 * step
    while j < n:
        e = exp_scaled(minimum(load_first(row, j, n - j, 0.0), TOP), None)
        store_first(out, j, n - j, load_first(upstream, j, n - j, 0.0) - e * factor)
        j += step


def log_softmax_backward(g, y, out, lo, hi):
    n = y.shape[1]
    streamed = rows_pass(out, n, pointer(y, 0))
    for p in range(lo, hi):
        upstream, row = pointer(g, p * apart(g, 0)), pointer(y, p * apart(y, 0))
        sums = doubled(splat(row, 0.0))
        for start in range(0, n, BLOCK):
            sums = sums + _sum_block(upstream, start, smaller(n, start + BLOCK))
        factor = computed(row, reduce_add(sums) / np.float64(unit(get(row, 0))))
        _write_pulled(upstream, row, pointer(out, p * n), n, factor, streamed)


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
            stream(out, j, e)
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
    near = group_of(step, n)
    size, pitch, streamed = step, 0, False
    if out is not None:
        size, pitch = near, pitch_of(base, n)
        streamed = rows_pass(out, n, base)
    tops, ring = room(base, 6 * step + size * pitch), 2 * step - 1
    gaps, coefs, factors = moved(tops, 2 * step), moved(tops, 3 * step), moved(tops, 4 * step)
    at_targets, kept = moved(tops, 5 * step), moved(tops, 6 * step)
    rest = splat(base, 0.0)
    s = rest
    store(gaps, 0, rest)  # subnormal numbers in the lanes of no row would take the processor's slow path
    targets, scales, losses = pointer(target, 0), pointer(scale, 0), pointer(loss, 0)
    between = apart(x, 0)
    ahead = reach(n, between, near)
    terms, widened = local(np.float64, 256), local(np.int64, 16)
    again = n * x.itemsize > LONG  # compute them twice: kept ones would push the next row out of the second cache
    for p in range(lo, hi, size):
        count, confident = smaller(size, hi - p), 0
        classes = in_64_bits(moved(targets, p), mask, count, widened)
        for first in range(0, count, near):
            last = smaller(count, first + near)
            for k in range(first, last):
                if get(scales, p + k) != 0:
                    row = pointer(x, (p + k) * between)
                    if p + k < lo + near or get(scales, p + k - near) == 0:
                        put(tops, (p + k) & ring, row_max(row, n))
                    put(gaps, k, get(tops, (p + k) & ring) - get(row, get(classes, k)))
            for k in range(first, last):
                if get(scales, p + k) != 0:
                    row, m, later = pointer(x, (p + k) * between), get(tops, (p + k) & ring), p + k + near
                    following = pointer(x, later * between) if later < hi and get(scales, later) != 0 else row
                    lines = _lines(row, out, p + k, streamed)
                    if out is None:
                        sums, top = row_terms(row, n, m, None, ahead, None, following)
                    elif again:
                        sums, top = row_terms(row, n, m, None, ahead, lines, following)
                    else:
                        sums, top = row_terms(row, n, m, moved(kept, k * pitch), ahead, lines, following)
                    store(terms, k * step, sums)
                    put(tops, later & ring, top)
        for k in range(count):
            if get(scales, p + k) == 0:
                continue
            total = row_total(load_doubles(terms, k * step, rest), get(tops, (p + k) & ring))
            confident |= np.int64(total < CONFIDENT) << k
            rest = with_lane(rest, k, computed(base, total - 1.0))
            s = with_lane(s, k, computed(base, total))
        for k in range(count):
            if confident >> k & 1:
                row = pointer(x, (p + k) * between)
                if out is None:
                    others = row_rest(row, n, get(tops, (p + k) & ring), None)
                else:
                    others = row_rest(row, n, get(tops, (p + k) & ring), moved(kept, k * pitch))
                    s = with_lane(s, k, computed(row, others + 1.0))
                rest = with_lane(rest, k, computed(row, others))
        each = load_first(scales, p, count, 0.0)
        nothing, gap = equal(each, 0.0), load(gaps, 0)
        store_first(losses, p, count, select(nothing, 0.0, pick_loss(each, log1p(rest), gap)))
        if out is not None:
            g = splat(base, upstream[0]) if upstream.size == 1 else load_first(pointer(upstream, 0), p, count, 0.0)
            coef = select(nothing, 0.0, each * g)
            store(coefs, 0, coef)
            store(factors, 0, coef / s / one)
            store(at_targets, 0, pull(coef, select(less(0.0, gap), s - exp_scaled(-gap, None) / one, rest), s))
            for k in range(count):
                result = pointer(out, (p + k) * n)
                if get(coefs, k) == 0:
                    fill(result, n, 0.0)
                else:
                    if again and not confident >> k & 1:
                        _write_again(pointer(x, (p + k) * between), result, n, get(tops, (p + k) & ring), get(factors, k), streamed)
                    else:
                        _write_kept(moved(kept, k * pitch), result, n, get(factors, k), streamed)
                    put(result, get(classes, k), get(at_targets, k))
    release(tops)
