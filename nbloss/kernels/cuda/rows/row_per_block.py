"""Reductions over the threads of a block that works on one row: the maximum and sums, in every thread."""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.prims.api import barrier, device
from nbloss.kernels.cuda.sums import block_sum
from nbloss.kernels.cuda.tuning import BLOCK_THREADS


@device
def block_max(value, shared):
    """The maximum over the threads of the block, in every thread; nan if a value is nan."""
    t = cuda.threadIdx.x
    shared[t] = np.float64(value)
    half = BLOCK_THREADS // 2
    while half > 0:
        barrier()
        if t < half:
            other = shared[t + half]
            if other > shared[t] or other != other:
                shared[t] = other
        half //= 2
    barrier()
    result = shared[0]
    barrier()
    return result


@device
def block_added(value, shared):
    """The sum over the threads of the block, in every thread; ``shared`` may be used again."""
    result = block_sum(value, shared)
    barrier()
    return result
