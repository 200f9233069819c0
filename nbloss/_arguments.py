"""The array arguments of a call: which values are taken, how each becomes an array, and the errors for all others."""

from functools import cache

import numpy as np

# Each dtype of logits: the dtype that the kernels see (None: the same), and the dtype of the arithmetic. bfloat16 belongs to ml_dtypes; it
# is known by its name, so that ml_dtypes need not be installed.
_KINDS = {
    "float16": (np.uint16, np.float32),
    "bfloat16": (np.int16, np.float32),
    "float32": (None, np.float32),
    "float64": (None, np.float64),
}
FLOAT_DTYPES = "float16, bfloat16 (ml_dtypes), float32 or float64"


@cache
def float_kind(dtype):
    """``(stored, computed)``: the dtype that the kernels see (None: the same), and the dtype of the arithmetic. None for other dtypes."""
    as_stored, computed = _KINDS.get(dtype.name, (None, None))
    return computed and (as_stored and np.dtype(as_stored), np.dtype(computed))


def any_array(backend, name, value):
    """An array of any dtype in native byte order, on the backend's device where it is there already."""
    array = backend.device_array(value)
    if array is not None:
        return array
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} should be a plain array; got a masked array, whose mask would be lost: fill it first")
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="), order="K")


def float_array(backend, name, value):
    """An array of one of the four float dtypes, not converted."""
    array = any_array(backend, name, value)
    if float_kind(array.dtype) is None:
        raise TypeError(f"{name} should have dtype {FLOAT_DTYPES}; got {array.dtype}")
    return array


def real_array(backend, name, value, dtype):
    """An array of real numbers of any dtype, converted to ``dtype``."""
    array = any_array(backend, name, value)
    if float_kind(array.dtype) is None and array.dtype.kind not in "buif":
        raise TypeError(f"{name} should hold real numbers; got dtype {array.dtype}")
    return backend.cast(array, dtype)


def float_dtype(dtype):
    """A dtype argument, if it is one of the four float dtypes."""
    given = np.dtype(dtype)
    if float_kind(given) is None:
        raise TypeError(f"dtype should be {FLOAT_DTYPES}; got {given}")
    return given


def array_like(backend, name, value, like):
    """An array of the shape and dtype of ``like``. A number stands for an array of this number."""
    if np.ndim(value) == 0:
        return backend.broadcast(real_array(backend, name, value, like.dtype), like.shape)
    array = float_array(backend, name, value)
    if array.shape != like.shape:
        raise ValueError(f"{name} should have shape {like.shape}, the output's; got {array.shape}")
    return backend.cast(array, like.dtype)
