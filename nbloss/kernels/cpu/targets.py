"""Everything that costs a pass over the rows but not over the logits: the targets, the NLL loss, sums over rows."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import (
    all_below,
    apart,
    clear,
    computed,
    get,
    in_64_bits,
    lanes,
    larger,
    load,
    load_first,
    moved,
    pointer,
    prefetch_read,
    put,
    smaller,
    splat,
    store,
)
from nbloss.kernels.cpu.rooms import local, release, room
from nbloss.kernels.cpu.simd import doubled, reduce_add
from nbloss.kernels.cpu.tuning import RUN
from nbloss.kernels.cpu.vecmath import STRICT

FAR = 192  # rows after which those that are asked for ahead end
REACHED = RUN + FAR
CLEARED = 32768  # numbers that are set to 0 before some are written, while they are in a cache


@njit(**STRICT)
def _next(o, i, inner):
    """The position after (o, i)."""
    if i + 1 == inner:
        return o + 1, 0
    return o, i + 1


@njit(**STRICT)
def _sum_run(base, count):
    """In float64, in interleaved parts: as many as four vectors have lanes."""
    step = lanes(base)
    a = doubled(splat(base, 0.0))
    b = c = d = a
    k = 0
    while k + 4 * step <= count:
        a = a + doubled(load(base, k))
        b = b + doubled(load(base, k + step))
        c = c + doubled(load(base, k + 2 * step))
        d = d + doubled(load(base, k + 3 * step))
        k += 4 * step
    while k < count:
        a = a + doubled(load_first(base, k, count - k, 0.0))
        k += step
    return reduce_add((a + b) + (c + d))


@njit(**STRICT)
def _counts(y, ignore_index, wide):
    """Whether a row of this target is not ignored."""
    return (y != ignore_index) | (wide & (y < 0))


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, totals, wrong, group, lo, hi):
    """scale = hit * w[y] and spread = share, both 0 in ignored rows; per ``group`` of rows sum w[y], and how many targets are no class.

    No weights are an empty array: None would be one more kernel to compile. ``mask`` undoes the sign that an unsigned target seems to
    have, ``wide`` says that a negative one is a uint64 beyond int64. Of a scale of one number the caller takes care.
    """
    written = scale.size == target.size
    usual, widened = not 0 <= ignore_index < classes, local(np.int64, RUN)
    for start in range(lo, hi, group):
        stop, total, counted, outside = smaller(hi, start + group), 0.0, 0, 0
        for first in range(start, stop, RUN):
            count = smaller(stop, first + RUN) - first
            given, scales = in_64_bits(pointer(target, first), mask, count, widened), pointer(scale, first if written else 0)
            if weight.size == 0:
                k = 0
                while k < count:
                    alike = 0
                    if usual and k + 64 <= count and all_below(moved(given, k), 64, classes):
                        alike = 64
                    elif usual and k + 16 <= count and all_below(moved(given, k), 16, classes):
                        alike = 16
                    if alike:
                        if written:
                            for part in range(0, alike, lanes(scales)):
                                store(scales, k + part, splat(scales, hit))
                        counted += alike
                        k += alike
                        continue
                    for _ in range(smaller(16, count - k)):
                        y = get(given, k)
                        counts = _counts(y, ignore_index, wide)
                        if written:
                            put(scales, k, hit if counts else 0.0)
                        counted += counts
                        outside += counts & ((y < 0) | (y >= classes))
                        k += 1
            else:
                weights, run = pointer(weight, 0), local(np.float64, RUN)
                for k in range(count):
                    y = get(given, k)
                    counts = _counts(y, ignore_index, wide)
                    inside = (y >= 0) & (y < classes)
                    w = np.float64(get(weights, y if inside else 0)) if counts else 0.0
                    put(scales, k, hit * w)
                    put(run, k, w)
                    outside += counts & (not inside)
                total += _sum_run(run, count)
            if spread is not None:
                spreads = pointer(spread, first)
                for k in range(count):
                    put(spreads, k, share if _counts(get(given, k), ignore_index, wide) else 0.0)
        totals[start // group] = total if weight.size > 0 else np.float64(counted)
        wrong[start // group] = outside


def row_sum(values, totals, group, lo, hi):
    """Sum per ``group`` of rows, in float64."""
    for start in range(lo, hi, group):
        stop, total = smaller(hi, start + group), 0.0
        for first in range(start, stop, RUN):
            total += _sum_run(pointer(values, first), smaller(RUN, stop - first))
        totals[start // group] = total


@njit(**STRICT)
def _offset(array, o, c, i):
    """The place of class c at position (o, i), counted in numbers."""
    return o * apart(array, 0) + c * apart(array, 1) + i * apart(array, 2)


@njit(**STRICT)
def _lines(array, p, hi):
    """How positions lie from p on, of which the last is before hi: (the first one's class 0, numbers between neighbours, how many)."""
    inner, far, near = array.shape[2], apart(array, 0), apart(array, 2)
    if inner == 1:
        return pointer(array, p * far), far, hi - p
    o, i = p // inner, p % inner
    return pointer(array, o * far + i * near), near, smaller(hi - p, inner - i)


def nll(logp, target, mask, scale, loss, lo, hi):
    targets, scales, losses, widened = pointer(target, 0), pointer(scale, 0), pointer(loss, 0), local(np.int64, RUN)
    between, alike, all_count = apart(logp, 1), scale.size == 1, scale.size == 1 and scale[0] != 0
    p = lo
    while p < hi:
        first, near, count = _lines(logp, p, smaller(hi, p + RUN))
        given, into = in_64_bits(moved(targets, p), mask, count, widened), moved(losses, p)
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
    losses, counting, widened = room(base, RUN), local(np.float64, RUN), local(np.int64, REACHED)
    classes, between, alike = logp.shape[1], apart(logp, 1), weight.size == 0
    usual, one, nothing = alike and not 0 <= ignore_index < classes, computed(base, 1.0), computed(base, 0.0)
    for start in range(lo, hi, RUN):
        p, stop = start, smaller(hi, start + RUN)
        all_given = in_64_bits(moved(targets, start), mask, smaller(hi - start, REACHED), widened)
        counted, outside = 0, 0
        while p < stop:
            first, near, following = _lines(logp, p, hi)
            count, k = smaller(following, stop - p), 0
            while k < count:
                into, given, size = moved(losses, p + k - start), moved(all_given, p + k - start), smaller(64, count - k)
                if usual and size == 64 and all_below(given, 64, classes):
                    if near == 1 and k + FAR <= following:  # pixels: so many streams as classes; a wrong class's address does no harm
                        for i in range(FAR - 64, FAR):
                            prefetch_read(first, k + i + get(given, i) * between)
                    for i in range(64):
                        put(into, i, -get(first, (k + i) * near + get(given, i) * between))
                    counted += 64
                else:  # class 0 is read for what is no class, so that no branch has to be guessed
                    counters = moved(counting, p + k - start)
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
        run = start // RUN
        totals[run] = _sum_run(losses, stop - start)
        divisors[run] = np.float64(counted) if alike else _sum_run(counting, stop - start)
        wrong[run] = outside
    release(losses)


def nll_backward(target, mask, scale, upstream, out, lo, hi):
    """-scale * upstream at the targets of ``out``, which is in C order, and 0 elsewhere."""
    targets, scales, above, widened = pointer(target, 0), pointer(scale, 0), pointer(upstream, 0), local(np.int64, RUN)
    n, between, alike, as_one = out.shape[1], apart(out, 1), scale.size == 1, upstream.size == 1
    most = larger(1, smaller(RUN, CLEARED // n))
    p = lo
    while p < hi:
        first, near, count = _lines(out, p, smaller(hi, p + most))
        if out.shape[2] == 1:
            clear(first, count * n)
        else:
            for c in range(n):
                clear(moved(first, c * between), count)
        given = in_64_bits(moved(targets, p), mask, count, widened)
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
        row, row_y = moved(base, _offset(logp, o, 0, i)), moved(masses, _offset(y, o, 0, i))
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
        row, row_y = moved(base, _offset(out, o, 0, i)), moved(masses, _offset(y, o, 0, i))
        g = upstream[p * (upstream.size > 1)]
        for c in range(n):
            put(row, _offset(out, 0, c, 0), -(get(row_y, _offset(y, 0, c, 0)) * w[c] * g))
        o, i = _next(o, i, inner)
