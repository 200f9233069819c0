"""Everything that costs a pass over the rows but not over the logits: the targets, the NLL loss, sums over rows."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.per_target.sums import _sum_run
from nbloss.kernels.cpu.per_target.targets import _counts
from nbloss.kernels.cpu.simd.integers import all_below, widen_to_int64
from nbloss.kernels.cpu.simd.load_store import cast, get, put
from nbloss.kernels.cpu.simd.pointers import max_int, min_int, offset, pointer, prefetch_read, stride, zero_fill
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import NLL_PREFETCH_ROWS, SUM_RUN_ROWS, ZERO_FILL_ELEMENTS

_REACHED = SUM_RUN_ROWS + NLL_PREFETCH_ROWS


@njit(**INLINE)
def _next(o, i, inner):
    """The position after (o, i)."""
    if i + 1 == inner:
        return o + 1, 0
    return o, i + 1


@njit(**INLINE)
def _offset(array, o, c, i):
    """The place of class c at position (o, i), counted in numbers."""
    return o * stride(array, 0) + c * stride(array, 1) + i * stride(array, 2)


@njit(**INLINE)
def _lines(array, p, hi):
    """How positions lie from p on, of which the last is before hi: (the first one's class 0, numbers between neighbours, how many)."""
    inner, far, near = array.shape[2], stride(array, 0), stride(array, 2)
    if inner == 1:
        return pointer(array, p * far), far, hi - p
    o, i = p // inner, p % inner
    return pointer(array, o * far + i * near), near, min_int(hi - p, inner - i)


def nll(logp, target, mask, scale, loss, lo, hi):
    targets, scales, losses, widened = pointer(target, 0), pointer(scale, 0), pointer(loss, 0), stack_alloc(np.int64, SUM_RUN_ROWS)
    between, alike, all_count = stride(logp, 1), scale.size == 1, scale.size == 1 and scale[0] != 0
    p = lo
    while p < hi:
        first, near, count = _lines(logp, p, min_int(hi, p + SUM_RUN_ROWS))
        given, into = widen_to_int64(offset(targets, p), mask, count, widened), offset(losses, p)
        if all_count:  # without a branch per row: 0.6 to 0.8 of the time of (8, 21, 512, 512)
            each = get(scales, 0)
            for k in range(count):
                put(into, k, -(each * get(first, k * near + get(given, k) * between)))
        else:
            for k in range(count):
                each, value = get(scales, 0 if alike else p + k), 0.0
                if each != 0:  # the target of a row that does not count may be any number
                    value = -(each * get(first, k * near + get(given, k) * between))
                put(into, k, value)
        p += count


def nll_sums(logp, target, mask, wide, weight, ignore_index, totals, divisors, wrong, lo, hi):
    """Per RUN: the sum of the losses, sum w[y], and how many targets are no class, in one pass over the rows."""
    base, targets, weights = pointer(logp, 0), pointer(target, 0), pointer(weight, 0)
    losses, counting, widened = alloc(base, SUM_RUN_ROWS), stack_alloc(np.float64, SUM_RUN_ROWS), stack_alloc(np.int64, _REACHED)
    classes, between, alike = logp.shape[1], stride(logp, 1), weight.size == 0
    usual, one, nothing = alike and not 0 <= ignore_index < classes, cast(base, 1.0), cast(base, 0.0)
    for start in range(lo, hi, SUM_RUN_ROWS):
        p, stop = start, min_int(hi, start + SUM_RUN_ROWS)
        all_given = widen_to_int64(offset(targets, start), mask, min_int(hi - start, _REACHED), widened)
        counted, outside = 0, 0
        while p < stop:
            first, near, following = _lines(logp, p, hi)
            count, k = min_int(following, stop - p), 0
            while k < count:
                into, given, size = offset(losses, p + k - start), offset(all_given, p + k - start), min_int(64, count - k)
                if usual and size == 64 and all_below(given, 64, classes):
                    if (
                        near == 1 and k + NLL_PREFETCH_ROWS <= following
                    ):  # pixels: so many streams as classes; a wrong class's address does no harm
                        for i in range(NLL_PREFETCH_ROWS - 64, NLL_PREFETCH_ROWS):
                            prefetch_read(first, k + i + get(given, i) * between)
                    for i in range(64):
                        put(into, i, -get(first, (k + i) * near + get(given, i) * between))
                    counted += 64
                else:  # class 0 is read for what is no class, so that no branch has to be guessed
                    counters = offset(counting, p + k - start)
                    for i in range(size):
                        y = get(given, i)
                        counts, inside = _counts(y, ignore_index, wide), (y >= 0) & (y < classes)
                        c, counted_class = y if inside else 0, counts & inside
                        each = one if alike else get(weights, c)
                        each = each if counted_class else nothing
                        value = get(first, (k + i) * near + c * between)
                        put(into, i, -(each * value) if each != 0 else nothing)
                        put(counters, i, each)
                        counted += counts
                        outside += counts & (not inside)
                k += size
            p += count
        run = start // SUM_RUN_ROWS
        totals[run] = _sum_run(losses, stop - start)
        divisors[run] = np.float64(counted) if alike else _sum_run(counting, stop - start)
        wrong[run] = outside
    free(losses)


def nll_backward(target, mask, scale, upstream, out, lo, hi):
    """-scale * upstream at the targets of ``out``, which is in C order, and 0 elsewhere."""
    targets, scales, above, widened = pointer(target, 0), pointer(scale, 0), pointer(upstream, 0), stack_alloc(np.int64, SUM_RUN_ROWS)
    n, between, alike, as_one = out.shape[1], stride(out, 1), scale.size == 1, upstream.size == 1
    most = max_int(1, min_int(SUM_RUN_ROWS, ZERO_FILL_ELEMENTS // n))
    p = lo
    while p < hi:
        first, near, count = _lines(out, p, min_int(hi, p + most))
        if out.shape[2] == 1:
            zero_fill(first, count * n)
        else:
            for c in range(n):
                zero_fill(offset(first, c * between), count)
        given = widen_to_int64(offset(targets, p), mask, count, widened)
        for k in range(count):
            each = get(scales, 0 if alike else p + k)
            if each != 0:
                put(first, k * near + get(given, k) * between, -(each * get(above, 0 if as_one else p + k)))
        p += count


def nll_soft(logp, y, w, loss, lo, hi):
    inner = logp.shape[2]
    n = logp.shape[1]
    base, masses = pointer(logp, 0), pointer(y, 0)
    o, i = lo // inner, lo % inner
    for p in range(lo, hi):
        row, row_y = offset(base, _offset(logp, o, 0, i)), offset(masses, _offset(y, o, 0, i))
        total = 0.0
        for c in range(n):
            q = get(row_y, _offset(y, 0, c, 0)) * w[c]
            if q != 0:
                total -= np.float64(q) * np.float64(get(row, _offset(logp, 0, c, 0)))
        loss[p] = total
        o, i = _next(o, i, inner)


def nll_soft_backward(y, w, upstream, out, lo, hi):
    inner = y.shape[2]
    n = y.shape[1]
    base, masses = pointer(out, 0), pointer(y, 0)
    o, i = lo // inner, lo % inner
    for p in range(lo, hi):
        row, row_y = offset(base, _offset(out, o, 0, i)), offset(masses, _offset(y, o, 0, i))
        g = upstream[p * (upstream.size > 1)]
        for c in range(n):
            put(row, _offset(out, 0, c, 0), -(get(row_y, _offset(y, 0, c, 0)) * w[c] * g))
        o, i = _next(o, i, inner)
