"""Which element a thread works on. All indices have 64 bits: an array may hold more than 2**31 elements."""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.prims.api import device
from nbloss.kernels.cuda.tuning import BLOCK_THREADS


def blocks(count):
    """How many blocks of BLOCK_THREADS threads there are if each position has a thread."""
    return -(-count // BLOCK_THREADS)


@device
def thread_position():
    """The position of this thread in a grid of blocks of BLOCK_THREADS threads."""
    return np.int64(cuda.blockIdx.x) * BLOCK_THREADS + np.int64(cuda.threadIdx.x)


@device
def quotient(a, b):
    """a // b for a >= 0 and b > 0. Unsigned division needs no sign correction, and the compiler divides in 32 bits where both fit."""
    return np.int64(np.uint64(a) // np.uint64(b))


@device
def position_offset(p, classes, inner):
    """Offset of the first class of position p = (o, i) in a C-ordered (outer, classes, inner) array; the stride of the classes is inner."""
    o = quotient(p, inner)
    return o * classes * inner + (p - o * inner)
