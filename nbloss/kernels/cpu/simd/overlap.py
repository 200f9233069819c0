"""Whether arrays share memory, judged by the ranges of their addresses: a result of True may be wrong, where strided arrays interlock."""

from numba import njit
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.arguments import Integers
from nbloss.kernels.cpu.simd.pointers import address, pointer


@njit(**INLINE)
def _extent(array):
    """The first and the last address that belong to an array of one or three axes: whole bytes of its elements."""
    first = last = address(pointer(array, 0))
    for step, size in _steps(array):
        if step < 0:
            first += (size - 1) * step
        else:
            last += (size - 1) * step
    return first, last + array.itemsize - 1


def _steps(array):
    """``(stride in bytes, length)`` of each axis."""


@overload(_steps, jit_options=INLINE)
def _typed_steps(array):
    if isinstance(array, Integers):
        return lambda array: ((array.itemsize, array.size),)
    if array.ndim == 1:
        return lambda array: ((array.strides[0], array.shape[0]),)
    return lambda array: _three_steps(array)


@njit(**INLINE)
def _three_steps(array):
    return (array.strides[0], array.shape[0]), (array.strides[1], array.shape[1]), (array.strides[2], array.shape[2])


@njit(**INLINE)
def same_strides(a, b):
    """Whether two arrays of the same shape have the same strides, where an axis has more than one element."""
    same = True
    for k in range(3):
        same &= a.strides[k] == b.strides[k] or a.shape[k] <= 1
    return same


@njit(**INLINE)
def overlap(a, b):
    """Whether the ranges of addresses of two arrays overlap."""
    first_a, last_a = _extent(a)
    first_b, last_b = _extent(b)
    return first_a <= last_b and first_b <= last_a
