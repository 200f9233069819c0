"""Copies on the device, between any strides and dtypes."""

import numpy as np

from nbloss.kernels.cuda.indexing import THREADS, blocks, quotient, thread_position
from nbloss.kernels.cuda.prims.api import bits, device, get, integer, number, put
from nbloss.kernels.cuda.runtime import launch

DIMENSIONS = 8

STORED = {"float16": "uint16", "bfloat16": "int16"}  # as kernels know them

SAME_BITS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}


@device
def integer_value(p, i, mask, natural):
    """An integer as float64; ``natural``: it is uint64, whose upper half looks negative."""
    y = integer(p, i) & mask
    if natural and y < 0:  # half of it, the bit that is lost kept in the last place: rounded once
        return 2.0 * np.float64(((y >> 1) & 0x7FFFFFFFFFFFFFFF) | (y & 1))
    return np.float64(y)


@device
def round_to_odd(value):
    """float64 in the 24 bits of a float32; the last one says whether there was more, so that the next rounding is the only one."""
    word = bits(value)
    more = word & 0x1FFFFFFF
    return number((word - more) | (0x20000000 if more != 0 else 0))


def strided_copy(dimensions, reading, rounding):
    """out[p] = source[...] for the p-th place in C order.

    ``reading``: "bits" (both have one dtype), "float", "integer", or "natural" (uint64); ``rounding``: float64 goes to float16.
    """
    plain, floats, natural = reading == "bits", reading == "float", reading == "natural"

    def kernel(source, first, mask, out, count, n1, n2, n3, n4, n5, n6, n7, s0, s1, s2, s3, s4, s5, s6, s7):
        p = thread_position()
        if p < count:
            sizes = (n1, n1, n2, n3, n4, n5, n6, n7)
            strides = (s0, s1, s2, s3, s4, s5, s6, s7)
            rest, place = p, first
            for k in range(dimensions - 1, 0, -1):
                q = quotient(rest, sizes[k])
                place += (rest - q * sizes[k]) * strides[k]
                rest = q
            place += rest * s0
            if plain:
                out[p] = source[place]
            else:
                value = get(source, place) if floats else integer_value(source, place, mask, natural)
                put(out, p, round_to_odd(value) if rounding else value)

    return kernel


def merged_dimensions(shape, strides):
    """The same places in the same order with the fewest dimensions: [(size, stride), ...], the last one fastest."""
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
    """``(array, first)``: the same memory from its lowest address on, and how many numbers after it the array's own first one lies."""
    backwards = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)
    first = sum((n - 1) * -s for n, s in zip(array.shape, array.strides, strict=True) if s < 0) // array.itemsize
    return (array.seen(array.geometry[backwards]) if first else array), first


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
    return "natural" if name == "uint64" else "integer", f"int{size}", target, mask


def copy(kernels, source, out):
    """out = source, element by element: C-ordered ``out`` of the same shape and of a float dtype or the source's own.

    ``source`` has any strides (multiples of its itemsize) and any real dtype; float16 and bfloat16 go by their own names here.
    """
    if out.size == 0:
        return
    reading, seen, made, mask = _reading(source, out)
    lowest, first = from_lowest(source)
    dims = merged_dimensions(source.shape, source.strides)
    if len(dims) > DIMENSIONS:
        raise ValueError(f"an array of at most {DIMENSIONS} dimensions is needed; got shape {source.shape} with strides {source.strides}")
    filler = [(1, 0)] * (DIMENSIONS - len(dims))
    sizes, strides = zip(*dims, *filler, strict=True)
    constants = len(dims), reading, reading != "bits" and _twice(source, out)
    where = lowest.view(seen), first, mask, out.view(made), out.size
    launch.run(kernels, strided_copy, constants, blocks(out.size), THREADS, *where, *sizes[1:], *(s // source.itemsize for s in strides))


def _twice(source, out):
    """Whether a number would be rounded to float32 before it is rounded to float16."""
    return out.dtype.name == "float16" and (source.dtype.kind in "iu" or source.dtype == np.float64)
