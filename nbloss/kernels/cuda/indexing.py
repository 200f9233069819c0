"""Which number a thread works on. 64-bit everywhere: an array may hold more than 2**31 numbers."""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.prims.api import device

THREADS = 128  # of a block whose threads work alone


def blocks(count):
    """Blocks for one thread per position."""
    return -(-count // THREADS)


@device
def thread_position():
    """This thread's position in a grid of blocks of THREADS."""
    return np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)


@device
def quotient(a, b):
    """a // b of numbers that are not negative: without the sign's corrections, and in 32 bits when both fit (the compiler asks)."""
    return np.int64(np.uint64(a) // np.uint64(b))


@device
def position_offset(p, classes, inner):
    """Where the classes of position p = (o, i) begin in a C-ordered (outer, classes, inner) array; they lie ``inner`` apart."""
    o = quotient(p, inner)
    return o * classes * inner + (p - o * inner)
