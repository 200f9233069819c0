"""Everything that costs a pass over the positions but not over the logits: the targets, and the NLL loss."""

import numpy as np
from numba import cuda, float64, int64

from nbloss.kernels.cuda import launch, memory
from nbloss.kernels.cuda.copies import from_lowest
from nbloss.kernels.cuda.places import THREADS, blocks, own, quotient, start
from nbloss.kernels.cuda.prims import (
    barrier,
    bits,
    device,
    get,
    integer,
    put,
    put_integer,
    shuffle_xor,
    swap_integer,
)
from nbloss.kernels.cuda.sums import EACH, GROUP, block_sum, groups, strided_sum

# ------------------------------ what a position counts for ------------------------------


@device
def block_count(wrong, first, counts, firsts):
    """How many over the block's threads, and the smallest of their firsts, in every thread."""
    t = cuda.threadIdx.x
    counts[t] = wrong
    firsts[t] = first
    half = THREADS // 2
    while half > 0:
        barrier()
        if t < half:
            counts[t] += counts[t + half]
            firsts[t] = min(firsts[t], firsts[t + half])
        half //= 2
    barrier()
    return counts[0], firsts[0]


@device
def conclude(total, wrong, first, target, mask, classes, report, sticky, serial):
    """Write the report; the first call that finds a bad target leaves a note that stays until the host has read it."""
    put_integer(report, 0, bits(total))
    put_integer(report, 1, wrong)
    value = np.int64(0)
    if wrong > 0:
        value = integer(target, first) & mask
        if swap_integer(sticky, 0, 0, serial) == 0:
            put_integer(sticky, 1, wrong)
            put_integer(sticky, 2, first)
            put_integer(sticky, 3, value)
            put_integer(sticky, 4, classes)
    put_integer(report, 2, first if wrong > 0 else np.int64(-1))
    put_integer(report, 3, value)


def judged(weighted, spreads, alone):
    """scale = hit * w[y] and spread = share, both 0 where ignored or bad; per block: sum of w[y], how many are bad, the first.

    ``mask`` undoes the sign that an unsigned target seems to have, ``wide`` says that a negative one is a uint64 beyond int64.
    ``alone``: there is one block, and it concludes.
    """

    def kernel(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, count, totals, bad, report, sticky, serial):
        shared = cuda.shared.array(THREADS, float64)
        counts = cuda.shared.array(THREADS, int64)
        firsts = cuda.shared.array(THREADS, int64)
        group = np.int64(cuda.blockIdx.x)
        total, wrong, first = 0.0, np.int64(0), count
        for k in range(EACH):
            p = group * GROUP + np.int64(k * THREADS) + np.int64(cuda.threadIdx.x)
            if p < count:
                y = integer(target, p) & mask
                kept = y != ignore_index or (wide != 0 and y < 0)
                inside = y >= 0 and y < classes
                w = 0.0
                if kept and inside:
                    w = np.float64(get(weight, y)) if weighted else 1.0
                put(scale, p, hit * w)
                if spreads:
                    put(spread, p, share if kept and inside else 0.0)
                total += w
                if kept and not inside:
                    wrong += 1
                    first = min(first, p)
        total = block_sum(total, shared)
        wrong, first = block_count(wrong, first, counts, firsts)
        if cuda.threadIdx.x == 0:
            if alone:
                conclude(total, wrong, first, target, mask, classes, report, sticky, serial)
            else:
                put(totals, group, total)
                put_integer(bad, 2 * group, wrong)
                put_integer(bad, 2 * group + 1, first)

    return kernel


def concluded():
    """The blocks' parts of ``judged``, put together by one block."""

    def kernel(target, mask, classes, count, totals, bad, parts, report, sticky, serial):
        shared = cuda.shared.array(THREADS, float64)
        counts = cuda.shared.array(THREADS, int64)
        firsts = cuda.shared.array(THREADS, int64)
        total = block_sum(strided_sum(totals, np.int64(0), parts), shared)
        wrong, first = np.int64(0), count
        k = np.int64(cuda.threadIdx.x)
        while k < parts:
            wrong += integer(bad, 2 * k)
            first = min(first, integer(bad, 2 * k + 1))
            k += THREADS
        wrong, first = block_count(wrong, first, counts, firsts)
        if cuda.threadIdx.x == 0:
            conclude(total, wrong, first, target, mask, classes, report, sticky, serial)

    return kernel


def row_scale(twin, target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, report, sticky, serial):
    count = target.size
    parts = groups(count)
    totals = memory.empty(parts, np.float64, twin.device, twin.stream)
    bad = memory.empty(2 * parts, np.int64, twin.device, twin.stream)
    constants = weight is not None, spread is not None, parts == 1
    given = target, int(mask), int(wide), scale if weight is None else weight, classes, ignore_index, float(hit), float(share)
    made = scale, scale if spread is None else spread, count, totals, bad, report, sticky, serial
    launch.run(twin, judged, constants, parts, THREADS, *given, *made)
    if parts > 1:
        arguments = target, int(mask), classes, count, totals, bad, parts, report, sticky, serial
        launch.run(twin, concluded, (), 1, THREADS, *arguments)


# ------------------------------ NLL, class indices ------------------------------


def picked():
    """loss = -scale * logp[y]; one thread per position. (o, c, i) lies at first + o far + c apart + i near."""

    def kernel(logp, first, far, apart, near, inner, target, mask, scale, loss, count):
        p = own()
        if p < count:
            s = get(scale, p)
            value = s  # 0
            if s != 0:
                y = integer(target, p) & mask
                o = quotient(p, inner)
                value = -(s * get(logp, first + o * far + y * apart + (p - o * inner) * near))
            put(loss, p, value)

    return kernel


def nll(twin, logp, target, mask, scale, loss):
    """``logp`` may have any strides: of each position one number is read, which is no reason to copy it."""
    count = scale.size
    if count:
        lowest, first = from_lowest(logp)
        steps = (stride // logp.itemsize for stride in logp.strides)
        arguments = lowest, first, *steps, logp.shape[2], target, int(mask), scale, loss, count
        launch.run(twin, picked, (), blocks(count), THREADS, *arguments)


def hit_alone():
    """-scale * upstream at y and 0 elsewhere, for classes that lie apart: one thread per position, neighbours beside each other."""

    def kernel(target, mask, scale, upstream, step, out, classes, inner, count):
        p = own()
        if p < count:
            s = get(scale, p)
            nothing = s - s
            y = np.int64(-1)
            value = nothing
            if s != 0:
                y = integer(target, p) & mask
                value = -(s * get(upstream, p * step))
            base = start(p, classes, inner)
            for c in range(classes):
                put(out, base + c * inner, value if c == y else nothing)

    return kernel


def hit_in_row(lanes):
    """The same for classes that lie side by side: so many lanes of a warp per row, a lane per class."""

    def kernel(target, mask, scale, upstream, step, out, classes, count):
        p = own() // lanes
        if p < count:
            s = get(scale, p)
            nothing = s - s
            y = np.int64(-1)
            value = nothing
            if s != 0:
                y = integer(target, p) & mask
                value = -(s * get(upstream, p * step))
            c = np.int64(cuda.threadIdx.x % lanes)
            while c < classes:
                put(out, p * classes + c, value if c == y else nothing)
                c += lanes

    return kernel


def _packed(twin, array):
    return array if array.contiguous else twin.packed(array)


def _lanes(classes, inner):
    """How many lanes of a warp share a row of classes that lie side by side; 0 for classes that lie apart."""
    return 1 << min(5, (classes - 1).bit_length()) if inner == 1 else 0


def _step(upstream):
    """How far apart the upstream numbers of two positions are."""
    return int(upstream.size > 1)


def nll_backward(twin, target, mask, scale, upstream, out):
    _, classes, inner = out.shape
    count = scale.size
    if count == 0:
        return
    given = target, int(mask), scale, upstream, _step(upstream), out, classes
    lanes = _lanes(classes, inner)
    if lanes:
        launch.run(twin, hit_in_row, (lanes,), blocks(lanes * count), THREADS, *given, count)
    else:
        launch.run(twin, hit_alone, (), blocks(count), THREADS, *given, inner, count)


# ------------------------------ NLL, probabilities ------------------------------


@device
def mass_sum(logp, y, w, base, first, apart, inner, classes):
    """sum of w y logp over classes first, first + apart, ..., in float64; a class without mass adds 0 even at -inf."""
    total = 0.0
    c = first
    while c < classes:
        q = get(y, base + c * inner) * get(w, c)
        if q != 0:
            total += np.float64(q) * np.float64(get(logp, base + c * inner))
        c += apart
    return total


def weighed(lanes):
    """loss = -sum of w y logp: so many lanes of a warp per row if the classes lie side by side, else (0) a thread per position."""

    def kernel(logp, y, w, loss, classes, inner, count):
        if lanes:
            p = own() // lanes
            lane = np.int64(cuda.threadIdx.x % lanes)
            total = 0.0
            if p < count:
                total = mass_sum(logp, y, w, p * classes, lane, lanes, 1, classes)
            step = lanes // 2
            while step > 0:  # with the lanes that have no row: all of a warp take part
                total += shuffle_xor(total, step)
                step //= 2
            if p < count and lane == 0:
                put(loss, p, -total)
        else:
            p = own()
            if p < count:
                put(loss, p, -mass_sum(logp, y, w, start(p, classes, inner), np.int64(0), 1, inner, classes))

    return kernel


def nll_soft(twin, logp, y, w, loss):
    _, classes, inner = logp.shape
    count = loss.size
    if count == 0:
        return
    logp, y = _packed(twin, logp), _packed(twin, y)
    lanes = _lanes(classes, inner)
    launch.run(twin, weighed, (lanes,), blocks((lanes or 1) * count), THREADS, logp, y, w, loss, classes, inner, count)


def pulled(lanes):
    """out = -w y upstream."""
    every = lanes or 1

    def kernel(y, w, upstream, step, out, classes, inner, count):
        p = own() // every
        if p < count:
            g = get(upstream, p * step)
            base = p * classes if lanes else start(p, classes, inner)
            c = np.int64(cuda.threadIdx.x % every)
            while c < classes:
                place = base + c * inner
                put(out, place, -(get(y, place) * get(w, c) * g))
                c += every

    return kernel


def nll_soft_backward(twin, y, w, upstream, out):
    _, classes, inner = out.shape
    count = out.shape[0] * inner
    if count == 0:
        return
    y = _packed(twin, y)
    lanes = _lanes(classes, inner)
    arguments = y, w, upstream, _step(upstream), out, classes, inner, count
    launch.run(twin, pulled, (lanes,), blocks((lanes or 1) * count), THREADS, *arguments)
