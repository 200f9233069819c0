"""Sets rows of an output of any strides to 0."""

from nbloss.kernels.cpu.simd.load_store import put
from nbloss.kernels.cpu.simd.pointers import min_int, offset, position_pointer, row_step, stride, zero_fill


def zero_rows(out, lo, hi):
    """Set the positions [lo, hi) of ``out`` to 0."""
    n, inner, class_stride, step = out.shape[1], out.shape[2], stride(out, 1), row_step(out)
    p = lo
    while p < hi:
        count = hi - p if inner == 1 else min_int(hi - p, inner - p % inner)
        first = position_pointer(out, p)
        if class_stride == 1 and step == n:
            zero_fill(first, count * n)
        elif class_stride == 1:
            for k in range(count):
                zero_fill(offset(first, k * step), n)
        else:
            for c in range(n):
                line = offset(first, c * class_stride)
                if step == 1:
                    zero_fill(line, count)
                else:
                    for k in range(count):
                        put(line, k * step, 0.0)
        p += count
