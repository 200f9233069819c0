"""Copies on the device from any strides and dtype to C order."""

import numpy as np

from nbloss.kernels.cuda.indexing import blocks, quotient, thread_position
from nbloss.kernels.cuda.prims.api import bits, device, get, integer, number, put
from nbloss.kernels.cuda.runtime import launch
from nbloss.kernels.cuda.tuning import BLOCK_THREADS

DIMENSIONS = 8

STORED = {"float16": "uint16", "bfloat16": "int16"}  # how kernels name the half types

SAME_BITS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}


@device
def integer_value(p, i, mask, unsigned64):
    """An integer as float64. ``unsigned64``: it is a uint64, whose upper half reads as negative."""
    y = integer(p, i) & mask
    if unsigned64 and y < 0:  # half of it; the last bit keeps the bit that is lost, so that the result is rounded once
        return 2.0 * np.float64(((y >> 1) & 0x7FFFFFFFFFFFFFFF) | (y & 1))
    return np.float64(y)


@device
def round_to_odd(value):
    """Round float64 to 24 bits, to odd: a later rounding to fewer bits then gives the same as one rounding of the float64."""
    word = bits(value)
    more = word & 0x1FFFFFFF
    return number((word - more) | (0x20000000 if more != 0 else 0))


def strided_copy(dimensions, reading, rounding):
    """out[p] = source[...] for the p-th element in C order.

    ``reading`` is "bits" (both have the same dtype), "float", "integer" or "unsigned64". ``rounding``: round to odd before float16.
    """
    same_dtype, floats, unsigned64 = reading == "bits", reading == "float", reading == "unsigned64"

    def kernel(source, first, mask, out, count, n1, n2, n3, n4, n5, n6, n7, s0, s1, s2, s3, s4, s5, s6, s7):
        p = thread_position()
        if p < count:
            sizes = (n1, n1, n2, n3, n4, n5, n6, n7)
            strides = (s0, s1, s2, s3, s4, s5, s6, s7)
            rest, offset = p, first
            for k in range(dimensions - 1, 0, -1):
                q = quotient(rest, sizes[k])
                offset += (rest - q * sizes[k]) * strides[k]
                rest = q
            offset += rest * s0
            if same_dtype:
                out[p] = source[offset]
            else:
                value = get(source, offset) if floats else integer_value(source, offset, mask, unsigned64)
                put(out, p, round_to_odd(value) if rounding else value)

    return kernel


def merged_dimensions(shape, strides):
    """The same elements in the same order with the fewest dimensions: [(size, stride), ...]; the last one varies fastest."""
    dims = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == size * stride:
            dims[-1] = dims[-1][0] * size, stride
        else:
            dims.append((size, stride))
    return dims or [(1, 0)]


def from_lowest(array):
    """``(array, first)``: the same memory from its lowest address on, and the offset of the first element from there."""
    reversed_axes = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)
    first = sum((n - 1) * -s for n, s in zip(array.shape, array.strides, strict=True) if s < 0) // array.itemsize
    return (array.seen(array.geometry[reversed_axes]) if first else array), first


def _reading(source, out):
    """``(reading, stored dtype of source, of out, mask)``."""
    if source.dtype == out.dtype:
        bits = SAME_BITS[source.itemsize]
        return "bits", bits, bits, -1
    target = STORED.get(out.dtype.name, out.dtype.name)
    kind, name = source.dtype.kind, source.dtype.name
    if name in STORED or kind == "f":
        return "float", STORED.get(name, name), target, -1
    size = 8 * source.itemsize
    mask = (1 << size) - 1 if kind != "i" and size < 64 else -1
    return "unsigned64" if name == "uint64" else "integer", f"int{size}", target, mask


def copy(kernels, source, out):
    """out = source, element by element. ``out`` is C-ordered, has the same shape, and a float dtype or the dtype of the source.

    ``source`` has any strides (multiples of its itemsize) and any real dtype. float16 and bfloat16 have their own dtypes here.
    """
    if out.size == 0:
        return
    reading, source_type, out_type, mask = _reading(source, out)
    lowest, first = from_lowest(source)
    dims = merged_dimensions(source.shape, source.strides)
    if len(dims) > DIMENSIONS:
        raise ValueError(f"an array should have at most {DIMENSIONS} dimensions; got shape {source.shape} with strides {source.strides}")
    filler = [(1, 0)] * (DIMENSIONS - len(dims))
    sizes, strides = zip(*dims, *filler, strict=True)
    constants = len(dims), reading, reading != "bits" and _rounds_twice(source, out)
    arguments = lowest.view(source_type), first, mask, out.view(out_type), out.size
    strides = (stride // source.itemsize for stride in strides)
    launch.run(kernels, strided_copy, constants, blocks(out.size), BLOCK_THREADS, *arguments, *sizes[1:], *strides)


def _rounds_twice(source, out):
    """Whether a number would be rounded to float32 first, and then to float16."""
    return out.dtype.name == "float16" and (source.dtype.kind in "iu" or source.dtype == np.float64)
