"""TODO"""

import numpy as np
from numba import cuda, float64, int64

from nbloss.kernels.cuda.indexing import THREADS
from nbloss.kernels.cuda.per_target.sums import EACH, GROUP, block_sum, groups, strided_sum
from nbloss.kernels.cuda.prims.api import barrier, bits, device, get, integer, put, put_integer, swap_integer
from nbloss.kernels.cuda.runtime import launch, memory


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


def check_targets(weighted, spreads, alone):
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


def finish_check():
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


def row_scale(kernels, target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, report, sticky, serial):
    count = target.size
    parts = groups(count)
    totals = memory.empty(parts, np.float64, kernels.device, kernels.stream)
    bad = memory.empty(2 * parts, np.int64, kernels.device, kernels.stream)
    constants = weight is not None, spread is not None, parts == 1
    given = target, int(mask), int(wide), scale if weight is None else weight, classes, ignore_index, float(hit), float(share)
    made = scale, scale if spread is None else spread, count, totals, bad, report, sticky, serial
    launch.run(kernels, check_targets, constants, parts, THREADS, *given, *made)
    if parts > 1:
        arguments = target, int(mask), classes, count, totals, bad, parts, report, sticky, serial
        launch.run(kernels, finish_check, (), 1, THREADS, *arguments)
