"""Checks of the targets, and the weight of each position: ``row_scale`` of the contract.

A bad target is neither a class nor ignore_index. ``report`` holds six int64: the bits of the divisor of a mean, the number of bad targets,
the position of the first one or -1, its value, a 0 for the kernel of the rows to count its blocks, and the bits of what a mean over a
divisor of 0 is (``empty``). ``sticky`` holds six: the number of the first call that found bad targets, how many it found, position and
value of the first one, the number of classes, and 1 when all of them are written. It stays until the host has read it.

The divisor is the sum of w[target] times the sample weights (``sampled``), unless the call gives another (``over``, not 0).
"""

import numpy as np
from numba import cuda, float64, int64

from nbloss.kernels.cuda.indexing import blocks, thread_position
from nbloss.kernels.cuda.prims.api import barrier, bits, device, get, host_fence, integer, put, put_integer, swap_integer
from nbloss.kernels.cuda.runtime import launch
from nbloss.kernels.cuda.runtime.arguments import upstream_stride
from nbloss.kernels.cuda.sums import (
    BLOCK_NUMBERS,
    BLOCKS_DONE,
    EMPTY,
    block_sum,
    divisor,
    partial_sums,
    reported_mean,
    strided_sum,
    sum_blocks,
)
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, SUM_NUMBERS_PER_THREAD


@device
def block_count(wrong, first, counts, firsts):
    """The sum of ``wrong`` and the minimum of ``first`` over the threads of the block, in every thread."""
    t = cuda.threadIdx.x
    counts[t] = wrong
    firsts[t] = first
    half = BLOCK_THREADS // 2
    while half > 0:
        barrier()
        if t < half:
            counts[t] += counts[t + half]
            firsts[t] = min(firsts[t], firsts[t + half])
        half //= 2
    barrier()
    return counts[0], firsts[0]


@device
def write_divisor(weights, over, sampled, empty, report):
    """Write what a mean needs, and that no target is bad."""
    put_integer(report, 0, bits(divisor(weights, over, sampled)))
    put_integer(report, 1, np.int64(0))
    put_integer(report, BLOCKS_DONE, np.int64(0))
    put_integer(report, EMPTY, bits(empty))


def make_write_report(sampled, scaled):
    """``scaled``: also write the upstream gradient, g or, with ``divides``, g over the divisor."""

    @device
    def write_report(total, wrong, first, target, mask, classes, over, empty, report, sticky, serial, g, divides, upstream):
        write_divisor(total, over, sampled, empty, report)
        write_bad_targets(wrong, first, target, mask, classes, report, sticky, serial)
        if scaled:
            put(upstream, 0, reported_mean(g, report) if divides != 0 else g)

    return write_report


@device
def write_bad_targets(wrong, first, target, mask, classes, report, sticky, serial):
    """Write how many targets are bad and the first of them, also to ``sticky`` if this is the first call that found any."""
    put_integer(report, 1, wrong)
    value = np.int64(0)
    if wrong > 0:
        value = integer(target, first) & mask
        if swap_integer(sticky, 0, 0, serial) == 0:
            put_integer(sticky, 1, wrong)
            put_integer(sticky, 2, first)
            put_integer(sticky, 3, value)
            put_integer(sticky, 4, classes)
            host_fence()  # the host may read the record at any time
            put_integer(sticky, 5, np.int64(1))
    put_integer(report, 2, first if wrong > 0 else np.int64(-1))
    put_integer(report, 3, value)


def check_targets(weighted, sampled, spreads, alone, scaled):
    """scale = hit * w[y] * (sample weight) and spread = share * (sample weight), both 0 where the target is ignored or bad.

    Each block finds its sum of w[y] * (sample weight), its number of bad targets and the first of them. A single block (``alone``) writes
    the report. ``mask`` undoes the sign of unsigned targets. ``wide``: a negative target is a uint64 of 2**63 or more.
    """

    write_report = make_write_report(sampled, scaled)

    def kernel(
        target, mask, wide, weight, sample_weight, classes, ignore_index, hit, share, scale, spread, count, totals, bad,
        over, empty, report, g, divides, upstream, sticky, serial,
    ):  # fmt: skip
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        counts = cuda.shared.array(BLOCK_THREADS, int64)
        firsts = cuda.shared.array(BLOCK_THREADS, int64)
        block = np.int64(cuda.blockIdx.x)
        total, wrong, first = 0.0, np.int64(0), count
        for k in range(SUM_NUMBERS_PER_THREAD):
            p = block * BLOCK_NUMBERS + np.int64(k * BLOCK_THREADS) + np.int64(cuda.threadIdx.x)
            if p < count:
                y = integer(target, p) & mask
                kept = y != ignore_index or (wide != 0 and y < 0)
                inside = y >= 0 and y < classes
                w, own = 0.0, 0.0
                if kept and inside:
                    own = np.float64(get(sample_weight, p)) if sampled else 1.0
                    if own != 0.0:
                        w = np.float64(get(weight, y)) * own if weighted else own
                put(scale, p, hit * w)
                if spreads:
                    put(spread, p, share * own)
                total += w
                if kept and not inside:
                    wrong += 1
                    first = min(first, p)
        total = block_sum(total, shared)
        wrong, first = block_count(wrong, first, counts, firsts)
        if cuda.threadIdx.x == 0:
            if alone:
                write_report(total, wrong, first, target, mask, classes, over, empty, report, sticky, serial, g, divides, upstream)
            else:
                put(totals, block, total)
                put_integer(bad, 2 * block, wrong)
                put_integer(bad, 2 * block + 1, first)

    return kernel


def finish_check(sampled, scaled):
    """One block adds what the blocks of ``check_targets`` found, and writes the report."""
    write_report = make_write_report(sampled, scaled)

    def kernel(target, mask, classes, count, totals, bad, parts, over, empty, report, g, divides, upstream, sticky, serial):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        counts = cuda.shared.array(BLOCK_THREADS, int64)
        firsts = cuda.shared.array(BLOCK_THREADS, int64)
        total = block_sum(strided_sum(totals, np.int64(0), parts), shared)
        wrong, first = np.int64(0), count
        k = np.int64(cuda.threadIdx.x)
        while k < parts:
            wrong += integer(bad, 2 * k)
            first = min(first, integer(bad, 2 * k + 1))
            k += BLOCK_THREADS
        wrong, first = block_count(wrong, first, counts, firsts)
        if cuda.threadIdx.x == 0:
            write_report(total, wrong, first, target, mask, classes, over, empty, report, sticky, serial, g, divides, upstream)

    return kernel


def row_scale(
    kernels, target, mask, wide, weight, sample_weight, classes, ignore_index, hit, share, scale, spread, over, empty, report,
    sticky, serial, g=0.0, divides=False, upstream=None,
):  # fmt: skip
    """Also writes ``upstream``, unless it is None: the number g, or with ``divides`` g over the divisor of the mean."""
    count = target.size
    parts = sum_blocks(count)
    totals, bad = kernels.scratch(parts, np.float64), kernels.scratch(2 * parts, np.int64)
    sampled, scaled = sample_weight is not None, upstream is not None
    constants = weight is not None, sampled, spread is not None, parts == 1, scaled
    weights = scale if weight is None else weight, sample_weight if sampled else scale
    inputs = target, int(mask), int(wide), *weights, classes, ignore_index, float(hit), float(share)
    ends = over, empty, report, float(g), int(divides), upstream if scaled else scale, sticky, serial
    outputs = scale, scale if spread is None else spread, count, totals, bad
    launch.run(kernels, check_targets, constants, parts, BLOCK_THREADS, *inputs, *outputs, *ends)
    if parts > 1:
        arguments = target, int(mask), classes, count, totals, bad, parts, *ends
        launch.run(kernels, finish_check, (sampled, scaled), 1, BLOCK_THREADS, *arguments)


# ------------------------------ sample weights of soft targets ------------------------------


def sum_weights():
    """The report of sample weights: their sum is the divisor, and there are no class numbers."""

    def kernel(weights, count, empty, report):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        total = block_sum(strided_sum(weights, np.int64(0), count), shared)
        if cuda.threadIdx.x == 0:
            write_divisor(total, 0.0, True, empty, report)

    return kernel


def weight_sum(kernels, sample_weight, empty, report):
    values, count = sample_weight, sample_weight.size
    if count > BLOCK_NUMBERS:
        values = kernels.scratch(sum_blocks(count), np.float64)
        launch.run(kernels, partial_sums, (), sum_blocks(count), BLOCK_THREADS, sample_weight, count, values)
        count = values.size
    launch.run(kernels, sum_weights, (), 1, BLOCK_THREADS, values, count, empty, report)


def weigh_positions():
    """out = weights * values, 0 where the weight is 0; ``stride``: 0 for one value."""

    def kernel(values, stride, weights, out, count):
        p = thread_position()
        if p < count:
            own = get(weights, p)
            put(out, p, own * get(values, p * stride) if own != 0 else own - own)

    return kernel


def weigh(kernels, values, sample_weight, out):
    count = sample_weight.size
    if count:
        arguments = values, upstream_stride(values), sample_weight, out, count
        launch.run(kernels, weigh_positions, (), blocks(count), BLOCK_THREADS, *arguments)


# ------------------------------ the target distribution of label smoothing ------------------------------


def add_smoothing():
    """mass = scale + spread * (the sum of the class weights). Every block takes that sum, in the same order."""

    def kernel(w, classes, scale, spread, mass, count):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        total = block_sum(strided_sum(w, np.int64(0), classes), shared)
        p = thread_position()
        if p < count:
            put(mass, p, np.float64(get(scale, p)) + np.float64(get(spread, p)) * total)

    return kernel


def smoothed_mass(kernels, w, classes, scale, spread, mass):
    count = mass.size
    if count:
        launch.run(kernels, add_smoothing, (), blocks(count), BLOCK_THREADS, w, classes, scale, spread, mass, count)
