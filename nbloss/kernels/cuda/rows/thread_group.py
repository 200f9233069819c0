"""The threads that share a row: lanes of a warp, a block, or a cluster of blocks. Maxima and sums over them, the same in each thread.

A group is described by ``(lanes, threads, blocks)``: lanes of a warp, threads of a block, blocks of a cluster. With lanes = 0 all threads
of all those blocks share a row.

Sums are taken in a fixed tree: lanes, then warps, then blocks. Partial results are in shared memory, and each reduction of a kernel has
cells of its own, so one barrier per reduction is enough. A block of a cluster writes its part into the memory of every block. No block
reads the memory of another one, so a block can leave before the others do.
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.prims.api import barrier, cluster_arrive, cluster_put, cluster_rank, cluster_wait, device, shuffle_xor
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
            cluster_arrive()  # the wait comes before the first write to another block, which has started by then
            return np.int64(cuda.blockIdx.x) // blocks, cluster_rank() * threads + np.int64(cuda.threadIdx.x)

    return row_index


@device
def add(a, b):
    return a + b


def make_reduce(group, merge):
    """``reduce(v, shared, number)``: v merged over the group. ``number`` counts the reductions of a kernel from 0, in order."""
    lanes, threads, blocks = group
    warps = threads // WARP_THREADS

    @device
    def over_lanes(v, count):
        distance = count // 2
        while distance > 0:
            v = merge(v, shuffle_xor(v, distance))
            distance //= 2
        return v

    @device
    def over_part_of_warp(v, shared, number):
        return over_lanes(v, lanes)

    @device
    def over_block(v, shared, number):
        v = over_lanes(v, WARP_THREADS)
        if warps == 1:
            return v
        thread = np.int64(cuda.threadIdx.x)
        cells = number * (warps + blocks)
        if thread % WARP_THREADS == 0:
            shared[cells + thread // WARP_THREADS] = v
        barrier()
        return over_lanes(shared[cells + thread % warps], warps)

    @device
    def over_cluster(v, shared, number):
        v = over_block(v, shared, number)
        thread = np.int64(cuda.threadIdx.x)
        cells = number * (warps + blocks) + warps
        if number == 0:
            cluster_wait()
        if thread < blocks:
            cluster_put(shared, cells + cluster_rank(), thread, v)
        cluster_arrive()
        cluster_wait()
        total = shared[cells]
        for other in range(1, blocks):
            total = merge(total, shared[cells + other])
        return total

    return over_part_of_warp if lanes else over_block if blocks == 1 else over_cluster
