"""The threads that share a row: lanes of a warp, a block, or a cluster of blocks. Maxima and sums over them, the same in each thread.

A group is described by ``(lanes, threads, blocks)``: lanes of a warp, threads of a block, blocks of a cluster. With lanes = 0 all threads
of all those blocks share a row.

Sums are taken in a fixed tree: lanes, then warps, then blocks. Partial results are in shared memory, and each reduction of a kernel has
cells of its own, so one barrier per reduction is enough. A block of a cluster writes its part into the memory of every block. No block
reads the memory of another one, so a block can leave before the others do.
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.prims.api import (
    barrier,
    cluster_arrive,
    cluster_arrive_relaxed,
    cluster_put,
    cluster_rank,
    cluster_wait,
    device,
    shuffle_xor,
)
from nbloss.kernels.cuda.tuning import WARP_THREADS


def group_size(group):
    """How many threads share a row."""
    lanes, threads, blocks = group
    return lanes or threads * blocks


def shared_size(group, reductions):
    """How many numbers of shared memory this many reductions need."""
    lanes, threads, blocks = group
    return 1 if lanes else reductions * (threads // WARP_THREADS + blocks)


def make_row_index(group):
    """``row_index() -> (row, rank)``: the row of this thread, and the number of the thread within its group."""
    lanes, threads, blocks = group
    if lanes:
        rows = threads // lanes

        @device
        def row_index():
            thread = np.int64(cuda.threadIdx.x)
            return np.int64(cuda.blockIdx.x) * rows + thread // lanes, thread % lanes

    elif blocks == 1:

        @device
        def row_index():
            return np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)

    else:

        @device
        def row_index():
            # The wait comes before the first write to another block, which has started by then. Nothing was written yet that another
            # block reads, so this arrival need not publish anything.
            cluster_arrive_relaxed()
            return np.int64(cuda.blockIdx.x) // blocks, cluster_rank() * threads + np.int64(cuda.threadIdx.x)

    return row_index


@device
def add(a, b):
    return a + b


def make_reduce(group, merge):
    """``reduce(v, shared, number)``: v merged over the group. ``number`` counts the reductions of a kernel from 0, in order.

    ``reduce_two(a, b, shared, number)`` merges two numbers with the barriers of one; they are the reductions ``number`` and number + 1.
    """
    lanes, threads, blocks = group
    warps = threads // WARP_THREADS
    in_warp = lanes > 0 or (warps == 1 and blocks == 1)

    @device
    def over_lanes(v, count):
        distance = count // 2
        while distance > 0:
            v = merge(v, shuffle_xor(v, distance))
            distance //= 2
        return v

    @device
    def give_to_block(v, shared, number):
        """Store the part of this warp."""
        thread = np.int64(cuda.threadIdx.x)
        if thread % WARP_THREADS == 0:
            shared[number * (warps + blocks) + thread // WARP_THREADS] = v

    @device
    def of_block(shared, number):
        return over_lanes(shared[number * (warps + blocks) + np.int64(cuda.threadIdx.x) % warps], warps)

    @device
    def give_to_cluster(v, shared, number):
        """Store the part of this block in every block."""
        thread = np.int64(cuda.threadIdx.x)
        if thread < blocks:
            cluster_put(shared, number * (warps + blocks) + warps + cluster_rank(), thread, v)

    @device
    def meet():
        """The barrier of the cluster. Only warp 0 has stored something in other blocks, so only its arrival waits for a memory fence.

        The threads of a warp arrive with one instruction: the condition is the same for all of them.
        """
        if np.int64(cuda.threadIdx.x) < WARP_THREADS:
            cluster_arrive()
        else:
            cluster_arrive_relaxed()
        cluster_wait()

    @device
    def of_cluster(shared, number):
        cells = number * (warps + blocks) + warps
        total = shared[cells]
        for other in range(1, blocks):
            total = merge(total, shared[cells + other])
        return total

    @device
    def reduce(v, shared, number):
        v = over_lanes(v, lanes or WARP_THREADS)
        if in_warp:
            return v
        give_to_block(v, shared, number)
        barrier()
        v = of_block(shared, number)
        if blocks == 1:
            return v
        if number == 0:
            cluster_wait()
        give_to_cluster(v, shared, number)
        meet()
        return of_cluster(shared, number)

    @device
    def reduce_two(a, b, shared, number):
        a, b = over_lanes(a, lanes or WARP_THREADS), over_lanes(b, lanes or WARP_THREADS)
        if in_warp:
            return a, b
        give_to_block(a, shared, number)
        give_to_block(b, shared, number + 1)
        barrier()
        a, b = of_block(shared, number), of_block(shared, number + 1)
        if blocks == 1:
            return a, b
        give_to_cluster(a, shared, number)
        give_to_cluster(b, shared, number + 1)
        meet()
        return of_cluster(shared, number), of_cluster(shared, number + 1)

    return reduce, reduce_two
