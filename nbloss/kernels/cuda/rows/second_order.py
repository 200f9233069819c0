"""The second derivatives of contiguous rows, and the sums of their target distributions: one block per row."""

import numpy as np
from numba import cuda, float64

from nbloss.kernels.cuda.prims.api import get, put
from nbloss.kernels.cuda.rows.row_per_block import block_added, block_max
from nbloss.kernels.cuda.second_order import Steps, mass_sum
from nbloss.kernels.cuda.tuning import BLOCK_THREADS


def hessian(kind, sm80, product, optioned):
    """The Hessian times v (``product``), or its diagonal."""
    steps = Steps(kind, sm80, product, optioned)
    real, largest, sums, finished, write = steps.real, steps.largest, steps.sums, steps.finished, steps.write

    def kernel(x, v, coef, coef_stride, option, out, classes):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        row, rank = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        base = row * classes
        m = real(block_max(largest(x, base, rank, BLOCK_THREADS, 1, classes), shared))
        others, products, ties, at_top = sums(x, v, base, rank, BLOCK_THREADS, 1, classes, m)
        others, ties = block_added(others, shared), block_added(ties, shared)
        if product:
            products, at_top = block_added(products, shared), block_added(at_top, shared)
        rest, s, ref, mean = finished(others, products, ties, at_top, m)
        write(x, v, out, base, rank, BLOCK_THREADS, 1, classes, m, rest, s, ref, mean, get(coef, row * coef_stride), option)

    return kernel


def row_mass():
    """mass = sum of w (a y + b) of each row."""

    def kernel(y, w, a, b, mass, classes):
        shared = cuda.shared.array(BLOCK_THREADS, float64)
        row, rank = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        total = block_added(mass_sum(y, w, a, b, row * classes, rank, BLOCK_THREADS, 1, classes), shared)
        if rank == 0:
            put(mass, row, total)

    return kernel
