"""The distillation loss of contiguous rows: one block per row."""

import numpy as np
from numba import cuda, float64

from nbloss.kernels.cuda.divergence import Steps
from nbloss.kernels.cuda.prims.api import barrier, device, get, put
from nbloss.kernels.cuda.sums import block_sum
from nbloss.kernels.cuda.tuning import BLOCK_THREADS


@device
def _block_max(value, shared):
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
def _added(value, shared):
    """The sum over the threads of the block, in every thread; ``shared`` may be used again."""
    result = block_sum(value, shared)
    barrier()
    return result


def distillation(kind, sm80, gradient):
    """Losses and, with ``gradient``, their gradient."""
    steps = Steps(kind, sm80)
    real, largest, gap_sums, term_sums = steps.real, steps.largest, steps.gap_sums, steps.term_sums
    is_large, loss_of, write = steps.is_large, steps.loss_of, steps.write

    def kernel(x, y, beta, square, upstream, upstream_stride, loss, out, classes):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        row, rank = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        base = row * classes
        m = real(_block_max(largest(y, base, rank, BLOCK_THREADS, 1, classes), shared))
        top = real(_block_max(largest(x, base, rank, BLOCK_THREADS, 1, classes), shared))
        s, gaps, own, impossible = gap_sums(x, y, base, rank, BLOCK_THREADS, 1, classes, m, top, beta)
        s, gaps = _added(s, shared), _added(gaps, shared)
        own, impossible = _added(own, shared), _added(impossible, shared)
        k = real(gaps / s) * beta
        large = is_large(m, top, k, beta, impossible)
        excess, shift = 0.0, 0.0
        if not large:
            excess, shift = term_sums(x, y, base, rank, BLOCK_THREADS, 1, classes, m, k, beta)
        excess, shift = _added(excess, shared), _added(shift, shared)
        value, total = loss_of(large, m, top, k, beta, s, own, impossible, excess, shift)
        if rank == 0:
            put(loss, row, value * square)
        if gradient:
            g = get(upstream, row * upstream_stride)
            write(x, y, out, base, rank, BLOCK_THREADS, 1, classes, large, m, top, k, beta, g, s, own, total)

    return kernel
