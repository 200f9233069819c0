"""Adds rows of one matrix, times numbers, to rows of another one: the part of the targets in the gradients of a last layer."""

from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load, load_n, put, store, store_n
from nbloss.kernels.cpu.simd.pointers import offset, pointer, stride


def scatter_rows(x, rows, factors, after, out, out_rows, lo, hi):
    """The columns [lo, hi) of ``kernel_set.scatter_rows``. Terms are added in their order, so threads share out columns, not terms."""
    xs, row, factor, into, out_row = pointer(x, 0), pointer(rows, 0), pointer(factors, 0), pointer(out, 0), pointer(out_rows, 0)
    row_stride, step, out_stride, width = stride(x, 0), stride(x, 1), stride(out, 0), lanes(into)
    whole = lo + (hi - lo) // width * width
    for k in range(rows.size):
        g, source, line = get(factor, k), offset(xs, get(row, k) * row_stride), offset(into, get(out_row, k) * out_stride)
        if step == 1:
            for c in range(lo, whole, width):
                store(line, c, load(line, c) + load(source, c) * g * after)
            if whole < hi:
                count = hi - whole
                store_n(line, whole, count, load_n(line, whole, count, 0.0) + load_n(source, whole, count, 0.0) * g * after)
        else:
            for c in range(lo, hi):
                put(line, c, get(line, c) + get(source, c * step) * g * cast(into, after))
