"""Floor 1: everything that costs a pass over the rows but not over the logits: the targets, the NLL loss, sums over rows."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.memory import apart, get, moved, pointer, put
from nbloss.kernels.cpu.vecmath import STRICT

GROUP = 8192  # rows per partial sum: a constant, so the sums have the same bits for any number of threads


@njit(**STRICT)
def _next(o, i, inner):
    """The position after (o, i)."""
    if i + 1 == inner:
        return o + 1, 0
    return o, i + 1


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, totals, bad, lo, hi):
    """scale = hit * w[y] and spread = share, both 0 in ignored rows; per GROUP sum w[y], how many targets are no class, and the first.

    ``mask`` undoes the sign that an unsigned target seems to have, ``wide`` says that a negative one is a uint64 beyond int64.
    """
    for start in range(lo, hi, GROUP):
        stop = min(hi, start + GROUP)
        given, scales = target[start:stop], scale[start:stop]
        total, wrong = 0.0, 0
        for k in range(stop - start):  # no branches, so that it vectorises
            y = np.int64(given[k]) & mask
            counts = (y != ignore_index) | (wide & (y < 0))
            inside = (y >= 0) & (y < classes)
            if weight is None:
                w = 1.0 if counts else 0.0
            else:
                w = np.float64(weight[y if inside else 0]) if counts else 0.0
            scales[k] = hit * w
            total += w
            wrong += counts & (not inside)
        if spread is not None:
            for p in range(start, stop):
                y = np.int64(target[p]) & mask
                spread[p] = share if y != ignore_index or (wide and y < 0) else 0.0
        first = -1
        if wrong:
            for p in range(start, stop):
                y = np.int64(target[p]) & mask
                if (y != ignore_index or (wide and y < 0)) and not 0 <= y < classes:
                    first = p
                    break
        totals[start // GROUP] = total
        bad[start // GROUP, 0] = wrong
        bad[start // GROUP, 1] = first


def row_sum(values, totals, lo, hi):
    """Sum per GROUP, in float64, in eight interleaved parts."""
    for start in range(lo, hi, GROUP):
        stop = min(hi, start + GROUP)
        a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        p = start
        while p + 8 <= stop:
            a += np.float64(values[p])
            b += np.float64(values[p + 1])
            c += np.float64(values[p + 2])
            d += np.float64(values[p + 3])
            e += np.float64(values[p + 4])
            f += np.float64(values[p + 5])
            g += np.float64(values[p + 6])
            h += np.float64(values[p + 7])
            p += 8
        while p < stop:
            a += np.float64(values[p])
            p += 1
        totals[start // GROUP] = ((a + b) + (c + d)) + ((e + f) + (g + h))


@njit(**STRICT)
def _offset(array, o, c, i):
    """The place of class c at position (o, i), counted in numbers."""
    return o * apart(array, 0) + c * apart(array, 1) + i * apart(array, 2)


def nll(logp, target, mask, scale, loss, lo, hi):
    inner = logp.shape[2]
    base = pointer(logp, 0)
    o, i = lo // inner, lo % inner
    for p in range(lo, hi):
        if scale[p] == 0:
            loss[p] = 0
        else:
            y = np.int64(target[p]) & mask
            loss[p] = -(scale[p] * get(base, _offset(logp, o, y, i)))
        o, i = _next(o, i, inner)


def nll_backward(target, mask, scale, upstream, out, lo, hi):
    """-scale * upstream at the targets of ``out``, which holds zeros."""
    inner = out.shape[2]
    base = pointer(out, 0)
    o, i = lo // inner, lo % inner
    for p in range(lo, hi):
        if scale[p] != 0:
            y = np.int64(target[p]) & mask
            put(base, _offset(out, o, y, i), -(scale[p] * upstream[p * (upstream.size > 1)]))
        o, i = _next(o, i, inner)


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
