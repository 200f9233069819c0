"""Float64 sums of one number per position. The order of the additions depends only on the count, so the bits do not vary.

A block adds BLOCK_NUMBERS numbers: each thread adds every BLOCK_THREADS-th of them, then a tree adds the threads. A second launch adds the
sums of the blocks in the same way. Up to BLOCK_NUMBERS numbers need only the second launch. If they are losses, the kernel that computes
them can do without it: its last block adds them, in the same order.
"""

import numpy as np
from numba import cuda, float64

from nbloss.kernels.cuda.prims.api import add_integer, barrier, device, fence, get, get_shared, integer, number, put
from nbloss.kernels.cuda.runtime import launch, memory
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, SUM_BY_LAST_BLOCK_MAX_BYTES, SUM_NUMBERS_PER_THREAD
from nbloss.kernels.math import rowmath

divisor, mean = device(rowmath.divisor), device(rowmath.mean)

BLOCK_NUMBERS = BLOCK_THREADS * SUM_NUMBERS_PER_THREAD

SUM_CELLS = BLOCK_THREADS + 1  # one per thread, and whether the block is the last one

# Words of a report (``targets``): one counts blocks, one holds the bits of what a mean over a divisor of 0 is.
BLOCKS_DONE, EMPTY = 4, 5


def sum_blocks(count):
    """How many blocks it takes to add ``count`` numbers."""
    return max(1, -(-count // BLOCK_NUMBERS))


@device
def block_sum(value, shared):
    """The sum over the first BLOCK_THREADS threads of the block, in every thread."""
    t = cuda.threadIdx.x
    if t < BLOCK_THREADS:
        shared[t] = value
    half = BLOCK_THREADS // 2
    while half > 0:
        barrier()
        if t < half:
            shared[t] += shared[t + half]
        half //= 2
    barrier()
    return shared[0]


@device
def strided_sum(values, start, stop):
    """The sum of this thread's share of values[start:stop], in float64."""
    total = 0.0
    p = start + np.int64(cuda.threadIdx.x)
    while p < stop:
        total += np.float64(get(values, p))
        p += BLOCK_THREADS
    return total


@device
def reported_mean(total, report):
    """``total`` over the divisor of a report."""
    return mean(total, number(integer(report, 0)), number(integer(report, EMPTY)))


def partial_sums():
    """totals[b] = sum of the numbers of block b."""

    def kernel(values, count, totals):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        block = np.int64(cuda.blockIdx.x)
        start, stop = block * BLOCK_NUMBERS, min(count, (block + 1) * BLOCK_NUMBERS)
        total = block_sum(strided_sum(values, start, stop), shared)
        if cuda.threadIdx.x == 0:
            put(totals, block, total)

    return kernel


def final_sum(reported, divided):
    """out[0] = sum of values. ``divided``: over the divisor of the report (``reported``), or over ``divisor``; ``empty`` if that is 0.

    The result is nan if the report counts bad targets.
    """

    def kernel(values, count, report, divisor, empty, out):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        total = block_sum(strided_sum(values, np.int64(0), count), shared)
        if cuda.threadIdx.x == 0:
            if reported:
                if integer(report, 1) != 0:
                    total = np.float64(np.nan)
                if divided:
                    total = reported_mean(total, report)
            elif divided:
                total = mean(total, divisor, empty)
            put(out, 0, total)

    return kernel


@device
def sum_by_last_block(values, count, report, divides, blocks, out):
    """What `final_sum` computes, by the last of ``blocks`` blocks that calls this. All threads of a block call it, after writing values.

    ``report`` counts the blocks. ``divides`` is 0 for the sum, and 1 for the mean.
    """
    shared = cuda.shared.array(SUM_CELLS, float64)
    t = cuda.threadIdx.x
    fence()
    barrier()
    if t == 0:
        shared[BLOCK_THREADS] = 1.0 if add_integer(report, BLOCKS_DONE, np.int64(1)) == blocks - 1 else 0.0
    barrier()
    if shared[BLOCK_THREADS] != 0.0:
        fence()
        total = 0.0
        if t < BLOCK_THREADS:
            p = np.int64(t)
            while p < count:
                total += np.float64(get_shared(values, p))
                p += BLOCK_THREADS
        total = block_sum(total, shared)
        if t == 0:
            if integer(report, 1) != 0:
                total = np.float64(np.nan)
            put(out, 0, reported_mean(total, report) if divides != 0 else total)


def sum_arguments(kernels, logits, losses, blocks):
    """``(whether the kernel of the losses adds them, the arguments of `sum_by_last_block` that it then needs)``."""
    summed = kernels.sum_into is not None and losses.size <= BLOCK_NUMBERS and logits.nbytes <= SUM_BY_LAST_BLOCK_MAX_BYTES
    if not summed:
        return False, (losses, 0, 0, losses)
    report, divides, out = kernels.sum_into
    kernels.sum_into, kernels.summed = None, True
    return True, (report, int(divides), blocks, out)


def reduced(kernels, losses, report, divide, divisor, empty, out):
    """out = sum of losses; see ``final_sum``."""
    values, count = losses, losses.size
    if count > BLOCK_NUMBERS:
        values = kernels.scratch(sum_blocks(count), np.float64)
        launch.run(kernels, partial_sums, (), sum_blocks(count), BLOCK_THREADS, losses, count, values)
        count = values.size
    reported = report is not None
    arguments = values, count, report if reported else values, divisor, empty, out
    launch.run(kernels, final_sum, (reported, divide), 1, BLOCK_THREADS, *arguments)


def over_divisor(reported, stored):
    """upstream[0] = g over the divisor of the report (``reported``), or over ``divisor``. g is in an array if ``stored``, else a scalar."""

    def kernel(g, scalar, report, divisor, upstream):
        value = scalar
        if stored:
            value = np.float64(get(g, 0))
        put(upstream, 0, reported_mean(value, report) if reported else value / divisor)

    return kernel


def ratio(kernels, g, report, divisor, upstream):
    """upstream = g over the divisor, in float64. ``g`` is a number, or a DeviceArray with one element.

    The divisor is that of the report (``rowmath.mean``), or a number if there is none.
    """
    stored, reported = isinstance(g, memory.DeviceArray), report is not None
    scalar = 0.0 if stored else float(g)
    unused = upstream.view(np.int64 if upstream.itemsize == 8 else np.int32)
    arguments = g if stored else upstream, scalar, report if reported else unused, divisor, upstream
    launch.run(kernels, over_divisor, (reported, stored), 1, 1, *arguments)
