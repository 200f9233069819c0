"""The distillation loss of contiguous rows: one block per row."""

import numpy as np
from numba import cuda, float64

from nbloss.kernels.cuda.divergence import Steps
from nbloss.kernels.cuda.prims.api import get, put
from nbloss.kernels.cuda.rows.row_per_block import block_added, block_max
from nbloss.kernels.cuda.tuning import BLOCK_THREADS


def distillation(kind, sm80, gradient):
    """Losses and, with ``gradient``, their gradient."""
    steps = Steps(kind, sm80)
    real, largest, gap_sums, term_sums = steps.real, steps.largest, steps.gap_sums, steps.term_sums
    is_large, loss_of, write = steps.is_large, steps.loss_of, steps.write

    def kernel(x, y, beta, square, upstream, upstream_stride, loss, out, classes):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        row, rank = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        base = row * classes
        m = real(block_max(largest(y, base, rank, BLOCK_THREADS, 1, classes), shared))
        top = real(block_max(largest(x, base, rank, BLOCK_THREADS, 1, classes), shared))
        s, gaps, own, impossible = gap_sums(x, y, base, rank, BLOCK_THREADS, 1, classes, m, top, beta)
        s, gaps = block_added(s, shared), block_added(gaps, shared)
        own, impossible = block_added(own, shared), block_added(impossible, shared)
        k = real(gaps / s) * beta
        large = is_large(m, top, k, beta, impossible)
        excess, shift = 0.0, 0.0
        if not large:
            excess, shift = term_sums(x, y, base, rank, BLOCK_THREADS, 1, classes, m, k, beta)
        excess, shift = block_added(excess, shared), block_added(shift, shared)
        value, total = loss_of(large, m, top, k, beta, s, own, impossible, excess, shift)
        if rank == 0:
            put(loss, row, value * square)
        if gradient:
            g = get(upstream, row * upstream_stride)
            write(x, y, out, base, rank, BLOCK_THREADS, 1, classes, large, m, top, k, beta, g, s, own, total)

    return kernel
