"""Float64 sums of one number per position, in a shape that depends on nothing but their count.

A block adds up GROUP numbers: each thread every THREADS-th of them, then a tree. A second launch adds up the blocks' sums in the same way.
Up to GROUP numbers one launch does both.
"""

import numpy as np
from numba import cuda, float64

from nbloss.kernels.cuda.indexing import THREADS
from nbloss.kernels.cuda.prims.api import barrier, device, get, integer, number, put
from nbloss.kernels.cuda.runtime import launch, memory
from nbloss.kernels.math import rowmath

mean = device(rowmath.mean)

EACH = 32

GROUP = THREADS * EACH


def groups(count):
    """How many blocks add up ``count`` numbers."""
    return max(1, -(-count // GROUP))


@device
def block_sum(value, shared):
    """The sum over the block's threads, in every thread."""
    t = cuda.threadIdx.x
    shared[t] = value
    half = THREADS // 2
    while half > 0:
        barrier()
        if t < half:
            shared[t] += shared[t + half]
        half //= 2
    barrier()
    return shared[0]


@device
def strided_sum(values, start, stop):
    """This thread's part of values[start:stop], in float64."""
    total = 0.0
    p = start + np.int64(cuda.threadIdx.x)
    while p < stop:
        total += np.float64(get(values, p))
        p += THREADS
    return total


def partial_sums():
    def kernel(values, count, totals):
        shared = cuda.shared.array(THREADS, float64)
        group = np.int64(cuda.blockIdx.x)
        total = block_sum(strided_sum(values, group * GROUP, min(count, (group + 1) * GROUP)), shared)
        if cuda.threadIdx.x == 0:
            put(totals, group, total)

    return kernel


def final_sum(reported, divided):
    """out[0] = sum of values, over the report's divisor or a given one if ``divided``; nan if the report knows of a bad target."""

    def kernel(values, count, report, divisor, out):
        shared = cuda.shared.array(THREADS, float64)
        total = block_sum(strided_sum(values, np.int64(0), count), shared)
        if cuda.threadIdx.x == 0:
            if reported:
                if integer(report, 1) != 0:
                    total = np.float64(np.nan)
                if divided:
                    total = mean(total, number(integer(report, 0)))
            elif divided:
                total = mean(total, divisor)
            put(out, 0, total)

    return kernel


def reduced(kernels, losses, report, divide, divisor, out):
    """out = sum of losses; see ``final_sum``."""
    values, count = losses, losses.size
    if count > GROUP:
        values = memory.empty(groups(count), np.float64, kernels.device, kernels.stream)
        launch.run(kernels, partial_sums, (), groups(count), THREADS, losses, count, values)
        count = values.size
    reported = report is not None
    given = report if reported else memory.empty(1, np.int64, kernels.device, kernels.stream)
    launch.run(kernels, final_sum, (reported, divide), 1, THREADS, values, count, given, float(divisor), out)


def over_divisor(reported, stored):
    """upstream[0] = g, over the report's divisor if there is one. g stands in an array if ``stored``."""

    def kernel(g, given, report, upstream):
        value = given
        if stored:
            value = np.float64(get(g, 0))
        if reported:
            value = mean(value, number(integer(report, 0)))
        put(upstream, 0, value)

    return kernel


def ratio(kernels, g, report, upstream):
    """upstream = ``rowmath.mean`` of g over the divisor, computed in float64; ``g`` is a number or an Array of one."""
    stored, reported = isinstance(g, memory.DeviceArray), report is not None
    room = memory.empty(1, np.int64, kernels.device, kernels.stream)
    given = 0.0 if stored else float(g)
    arguments = g if stored else upstream, given, report if reported else room, upstream
    launch.run(kernels, over_divisor, (reported, stored), 1, 1, *arguments)
