"""The primitives for numba-cuda's simulator, in NumPy, with checks that the hardware does not make.

Every access is checked against the bounds of the array (negative offsets too), and every vector for its alignment. Instructions
round as IEEE defines, so that kernels round as on the hardware. ``exp2`` is exact; on the hardware it may be wrong by two units.
"""

from fractions import Fraction
from functools import partial

import numpy as np
from numba import cuda

ALL_LANES = 0xFFFFFFFF
TINY = float(np.finfo(np.float32).tiny)


def device(function):
    return function


def _flat(p):
    """The NumPy array behind a kernel argument of the simulator."""
    return p.view(np.ndarray)


def _checked(p, i, count=1):
    """The array, after a check of offset and alignment: ``count`` numbers are aligned to their size together."""
    array = _flat(p)
    if not 0 <= i <= array.size - count:
        raise IndexError(f"[{i}:{i + count}] is outside an array of {array.size} elements")
    size = count * array.itemsize
    if count > 1 and (array.ctypes.data + int(i) * array.itemsize) % size:
        raise ValueError(f"a {size}-byte access at offset {i} is not aligned")
    return array


def _computed(p):
    return np.float64 if _flat(p).dtype == np.float64 else np.float32


def _to_computed(bits):
    """Half numbers as float32; the dtype of the array says which half type."""
    if bits.dtype == np.uint16:
        return bits.view(np.float16).astype(np.float32)
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _to_stored(values, dtype):
    if dtype == np.uint16:
        return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16).view(np.int16)


def get(p, i):
    _checked(p, i)
    stored = _flat(p[i : i + 1])  # of p itself: shared memory notes who reads and writes it
    return stored[0] if stored.itemsize > 2 else _to_computed(stored)[0]


def get_shared(p, i):
    return _checked(p, i)[i]


def put(p, i, v):
    array = _checked(p, i)
    p[i : i + 1] = v if array.itemsize > 2 else _to_stored(np.array([v], np.float32), array.dtype)


get_in_block, put_in_block, put_in_block_old = get, put, put


def move(p, i, q, j):
    _checked(p, i)
    _checked(q, j)
    q[j : j + 1] = p[i : i + 1]


def integer(p, i):
    return int(_checked(p, i)[i])


def put_integer(p, i, v):
    _checked(p, i)[i] = v


def _word(dtype):
    return np.dtype(np.uint32) if dtype.itemsize == 2 else dtype


def _vector(p, i, size):
    count = size // _flat(p).itemsize
    array = _checked(p, i, count)
    return tuple(array[i : i + count].view(_word(array.dtype)))


def _put_vector(p, i, words, size):
    count = size // _flat(p).itemsize
    array = _checked(p, i, count)
    array[i : i + count].view(_word(array.dtype))[:] = words


vector, short_vector = partial(_vector, size=16), partial(_vector, size=8)

put_vector, put_short_vector = partial(_put_vector, size=16), partial(_put_vector, size=8)


def pointer(shared):
    return shared


def vector_in_block(p, i):
    array = _checked(p, i, 16 // _flat(p).itemsize)
    return tuple(_flat(p[i : i + 16 // array.itemsize]).view(_word(array.dtype)))


def put_vector_in_block(p, i, words):
    array = _checked(p, i, 16 // _flat(p).itemsize)
    p[i : i + 16 // array.itemsize] = np.array(words, _word(array.dtype)).view(array.dtype)


def unpack(p, word):
    dtype = _flat(p).dtype
    if dtype.itemsize > 2:
        return (word,)
    return tuple(_to_computed(np.array([word], np.uint32).view(dtype)))


def pack(p, numbers):
    dtype = _flat(p).dtype
    if dtype.itemsize > 2:
        return numbers[0]
    return _to_stored(np.array(numbers, np.float32), dtype).view(np.uint32)[0]


pack_old = pack


def maximum(a, b):
    return a if a > b or a != a else b


maximum_old = maximum


def larger_words(p, a, b):
    return pack(p, [maximum(x, y) for x, y in zip(unpack(p, a), unpack(p, b), strict=True)])


def fma(a, b, c):
    """One rounding. The product of two float32 is exact in the wider type; for float64 exact fractions are used."""
    if a.dtype == np.float32:
        return np.float32(np.longdouble(a) * np.longdouble(b) + np.longdouble(c))
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        return a * b + c
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    return np.float64(exact.numerator / exact.denominator)


def fma_limited(a, b, c):
    result = fma(a, b, c)
    return min(max(result, np.float32(0)), np.float32(1)) if result == result else np.float32(0)


def exp2(x):
    result = np.float32(np.exp2(np.float64(x)))
    return np.float32(0) if result < np.finfo(np.float32).tiny else result


def exp(x):
    return type(x)(np.exp(x))


def expm1(x):
    return type(x)(np.expm1(np.float64(x)))


def log1p(x):
    return type(x)(np.log1p(np.float64(x)))


def power(x, y):
    return type(x)(np.float64(x) ** np.float64(y))


def _exponent(z):
    return int(np.float32(z).view(np.int32)) - int(np.float32(1.5 * 2.0**23).view(np.int32))


def power2(x, z, shift):
    n = _exponent(z) + shift
    if z == z and not -126 <= n <= 127:
        raise OverflowError(f"2**{n} is not a normal float32")
    return x * np.float32(2.0**n if z == z else np.nan)


def add_exponent(x, z):
    """nan where the hardware's bits would mean nothing."""
    result = np.float64(x) * 2.0 ** np.clip(_exponent(z), -1000, 1000)
    return np.float32(result if x >= TINY and TINY <= result < 2.0**128 else np.nan)


def bits(v):
    return int(np.float64(v).view(np.int64))


def number(v):
    return np.int64(v).view(np.float64)


def shuffle_xor(v, mask):
    return cuda.shfl_xor_sync(ALL_LANES, v, mask)


def barrier():
    cuda.syncthreads()


def fence():
    """The simulator has no caches and reorders nothing."""


host_fence = fence


def add_integer(p, i, v):
    array = _checked(p, i)
    old = int(array[i])
    array[i] = old + v
    return old


def min_integer(p, i, v):
    array = _checked(p, i)
    old = int(array[i])
    array[i] = min(old, v)
    return old


def swap_integer(p, i, old, new):
    array = _checked(p, i)
    found = int(array[i])
    if found == old:
        array[i] = new
    return found


def cluster_rank():
    return cuda.cluster_rank()


def cluster_arrive():
    cuda.cluster_arrive()


def cluster_arrive_relaxed():
    cuda.cluster_arrive(False)


def cluster_wait():
    cuda.cluster_wait()


def cluster_put(shared, i, rank, v):
    cuda.peer(shared, rank)[i] = v
