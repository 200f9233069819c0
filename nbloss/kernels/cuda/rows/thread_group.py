"""The threads that share a row: a part of a warp, a block, or a cluster of blocks. Maxima and sums over them, the same in each.

Sums are taken in a fixed tree: lanes, then warps, then blocks. Partial results lie in shared memory, at a place of each fold's own, so
that one barrier is enough. A block of a cluster writes its part into every block's memory: nobody reads another block's, so none has to
wait for the others before it leaves.
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.prims.api import barrier, cluster_arrive, cluster_put, cluster_rank, cluster_wait, device, shuffle_xor

WARP = 32


def group_size(group):
    """How many threads share a row. A group is (lanes, threads, blocks): lanes of a warp, or 0 for the threads of so many blocks."""
    lanes, threads, blocks = group
    return lanes or threads * blocks


def shared_size(group, folds):
    """How many numbers of shared memory so many folds take."""
    lanes, threads, blocks = group
    return 1 if lanes else folds * (threads // WARP + blocks)


def make_row_index(group):
    """``place() -> (row, rank)``: this thread's row, and its number among those that share it."""
    lanes, threads, blocks = group
    if lanes:
        rows = threads // lanes

        @device
        def place():
            thread = np.int64(cuda.threadIdx.x)
            return np.int64(cuda.blockIdx.x) * rows + thread // lanes, thread % lanes

    elif blocks == 1:

        @device
        def place():
            return np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)

    else:

        @device
        def place():
            cluster_arrive()  # awaited before the first write to another block: by then that block has begun
            return np.int64(cuda.blockIdx.x) // blocks, cluster_rank() * threads + np.int64(cuda.threadIdx.x)

    return place


@device
def add(a, b):
    return a + b


def make_reduce(group, merge):
    """``fold(v, shared, number)``: v merged over the group, as fold ``number`` (0 is the first) of its kernel."""
    lanes, threads, blocks = group
    warps = threads // WARP

    @device
    def over_lanes(v, count):
        distance = count // 2
        while distance > 0:
            v = merge(v, shuffle_xor(v, distance))
            distance //= 2
        return v

    @device
    def part_of_warp(v, shared, number):
        return over_lanes(v, lanes)

    @device
    def block(v, shared, number):
        v = over_lanes(v, WARP)
        if warps == 1:
            return v
        thread = np.int64(cuda.threadIdx.x)
        slots = number * (warps + blocks)
        if thread % WARP == 0:
            shared[slots + thread // WARP] = v
        barrier()
        return over_lanes(shared[slots + thread % warps], warps)

    @device
    def cluster(v, shared, number):
        v = block(v, shared, number)
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

    return part_of_warp if lanes else block if blocks == 1 else cluster
