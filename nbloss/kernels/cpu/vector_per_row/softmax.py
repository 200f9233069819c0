"""softmax and its gradient for contiguous rows, vectors along each row. The exponentials are kept, as in ``cross_entropy``."""

import numpy as np

from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load_float64, put, splat, store
from nbloss.kernels.cpu.simd.nontemporal import rows_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, position_pointer, row_step
from nbloss.kernels.cpu.simd.vec import insert_lane
from nbloss.kernels.cpu.simd.vecmath import exp_scale
from nbloss.kernels.cpu.simd.workspace import carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import LONG_ROW_BYTES
from nbloss.kernels.cpu.vector_per_row.confident import row_rest
from nbloss.kernels.cpu.vector_per_row.log_softmax import gradients
from nbloss.kernels.cpu.vector_per_row.reduce import (
    exp_buffer_size,
    prefetch_distance,
    row_exp_sums,
    row_max,
    row_total,
    rows_per_group,
)
from nbloss.kernels.cpu.vector_per_row.write import output_lines, write_kept, write_recomputed
from nbloss.kernels.math.epilogue import CONFIDENT


def softmax(x, out, lo, hi):
    """out = exp(x - m) / s. The loop is that of ``log_softmax``."""
    n = x.shape[1]
    base = pointer(x, 0)
    width = lanes(base)
    size, ring, pitch = rows_per_group(width, n), 2 * width - 1, exp_buffer_size(base, n)
    again = n * x.itemsize > LONG_ROW_BYTES  # compute exponentials twice instead of keeping them
    maxima, factors, kept = carve(base, (2 * width, width, size * pitch))
    s = splat(base, 1.0)
    terms = stack_alloc(np.float64, 256)
    nontemporal = rows_bypass_caches(out, n, base)
    ahead = prefetch_distance(n, row_step(x), size)
    for p in range(lo, min_int(hi, lo + size)):
        put(maxima, p & ring, row_max(position_pointer(x, p), n))
    for p in range(lo, hi, size):
        count, confident = min_int(size, hi - p), 0
        for k in range(count):
            row, following = position_pointer(x, p + k), position_pointer(x, min_int(p + k + size, hi - 1))
            lines, m = output_lines(row, out, p + k, nontemporal), get(maxima, (p + k) & ring)
            if again:
                sums, following_max = row_exp_sums(row, n, m, None, ahead, lines, following)
            else:
                sums, following_max = row_exp_sums(row, n, m, offset(kept, k * pitch), ahead, lines, following)
            store(terms, k * width, sums)
            put(maxima, (p + k + size) & ring, following_max)
        for k in range(count):
            total = row_total(load_float64(terms, k * width, s), get(maxima, (p + k) & ring))
            confident |= np.int64(total < CONFIDENT) << k
            s = insert_lane(s, k, cast(base, total))
        for k in range(count):
            if confident >> k & 1:
                rest = row_rest(position_pointer(x, p + k), n, get(maxima, (p + k) & ring), offset(kept, k * pitch))
                s = insert_lane(s, k, cast(base, rest + 1.0))
        store(factors, 0, 1.0 / s / exp_scale(get(maxima, 0)))
        for k in range(count):
            row, result = position_pointer(x, p + k), position_pointer(out, p + k)
            if again and not confident >> k & 1:
                write_recomputed(row, result, n, get(maxima, (p + k) & ring), get(factors, k), nontemporal)
            else:
                write_kept(offset(kept, k * pitch), result, n, get(factors, k), nontemporal)
    free(maxima)


def softmax_backward(g, y, out, lo, hi):
    """out = y (g - sum of g y). The sum is subtracted as two numbers: where y is close to 1, g and the sum cancel."""
    gradients(g, y, out, True, lo, hi)
