"""Sets positions of an output of any strides to 0, and nothing beside them."""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import put
from nbloss.kernels.cpu.simd.pointers import offset, run_of_positions, stride, zero_fill


@njit(**INLINE)
def clear(first, n, class_stride, position_stride, count):
    """Store zeros in the n classes of ``count`` positions."""
    if class_stride == 1 and position_stride == n:
        zero_fill(first, count * n)
    elif class_stride == 1:
        for k in range(count):
            zero_fill(offset(first, k * position_stride), n)
    elif position_stride == 1:
        for c in range(n):
            zero_fill(offset(first, c * class_stride), count)
    elif abs(class_stride) < abs(position_stride):
        for k in range(count):
            for c in range(n):
                put(first, k * position_stride + c * class_stride, 0.0)
    else:
        for c in range(n):
            for k in range(count):
                put(first, k * position_stride + c * class_stride, 0.0)


def zero_rows(out, lo, hi):
    """Set the positions [lo, hi) of ``out`` to 0."""
    n, class_stride = out.shape[1], stride(out, 1)
    p = lo
    while p < hi:
        first, position_stride, count = run_of_positions(out, p, hi)
        clear(first, n, class_stride, position_stride, count)
        p += count
