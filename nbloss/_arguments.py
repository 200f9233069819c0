"""The array arguments of a call: which dtypes and shapes are taken, and the errors for all others.

``nbloss.backends.host_arrays`` converts what is no array yet, and says what to do with what cannot be converted.
"""

from functools import cache

import numpy as np

from nbloss.backends import host_arrays

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


# ------------------------------ arrays of any shape ------------------------------


def any_array(backend, name, value):
    """An array of any dtype in native byte order, on the backend's device if it is there already."""
    array = value
    if type(value) is not np.ndarray:
        if not isinstance(value, (float, int, list, tuple, np.generic)):
            host_arrays.check(name, value)
            array = backend.device_array(value)
            if array is not None:
                return array
        array = host_arrays.as_numpy(name, value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="), order="K")


def _as_float(name, value, array, for_integers=""):
    if float_kind(array.dtype) is None:
        refusal = host_arrays.refusal(name, value, array, f"have dtype {FLOAT_DTYPES}")
        raise TypeError(f"{refusal}{for_integers}") if array.dtype.kind in "bui" else refusal
    return array


def _as_real(name, value, array):
    if float_kind(array.dtype) is None and array.dtype.kind not in "buif":
        raise host_arrays.refusal(name, value, array, "hold real numbers")
    return array


def float_array(backend, name, value, for_integers=""):
    """An array of one of the four float dtypes, not converted; ``for_integers`` ends the error for integers and bools."""
    return _as_float(name, value, any_array(backend, name, value), for_integers)


def real_array(backend, name, value, dtype):
    """An array of real numbers of any dtype, converted to ``dtype``."""
    return backend.cast(_as_real(name, value, any_array(backend, name, value)), dtype)


def float_dtype(dtype):
    """A dtype argument, if it is one of the four float dtypes."""
    given = np.dtype(dtype)
    if float_kind(given) is None:
        raise TypeError(f"dtype should be {FLOAT_DTYPES}; got {given}")
    return given


def array_like(backend, name, value, like):
    """An array of the shape and dtype of ``like``. A number stands for an array of this number."""
    array = any_array(backend, name, value)
    if array.ndim == 0:
        return backend.broadcast(backend.cast(_as_real(name, value, array), like.dtype), like.shape)
    _as_float(name, value, array)
    if array.shape != like.shape:
        raise ValueError(f"{name} should have shape {like.shape}, the output's; got {array.shape}")
    return backend.cast(array, like.dtype)


# ------------------------------ targets and weights ------------------------------


def target_array(backend, value, shape, rows, ignore_index, logits="input"):
    """``(array, whether it holds probabilities)`` for logits of this shape, ``logits`` in errors, and losses of the shape ``rows``."""
    # NumPy makes a float array of [], but an empty list of targets holds class numbers.
    array = np.empty(0, np.int64) if isinstance(value, list) and not value else any_array(backend, "target", value)
    dtype = array.dtype
    if array.shape == rows and dtype.kind in "iub":
        return array, False
    real = dtype.kind == "f" or float_kind(dtype) is not None
    if not real and dtype.kind not in "iub":
        missing = host_arrays.fill("target", value, array, ignore_index) if array.shape == rows and dtype.kind == "O" else None
        raise host_arrays.refusal("target", value, array, "hold class numbers or probabilities", missing)
    if array.shape == shape:
        if not real:
            cure = host_arrays.cast("target", value, "float32")
            raise TypeError(
                f"target should hold floats where it has {_whose(logits)} shape (probabilities, one-hot included); got {dtype}: {cure}"
            )
        if ignore_index >= 0:
            wanted = "negative" if logits == "input" else "None"  # as in torch
            raise ValueError(f"ignore_index should be {wanted} with a target of probabilities; got {ignore_index}")
        return array, True
    if array.shape != rows:
        raise ValueError(
            f"target should have shape {rows} (class numbers) or {shape} (probabilities) "
            f"to go with {logits} of shape {shape}; got {array.shape}{_target_hint(shape, rows, array.shape, logits)}"
        )
    raise _float_class_numbers(backend, value, array, ignore_index, logits)


def _whose(logits):
    return f"{logits}'" if logits.endswith("s") else f"{logits}'s"


def _float_class_numbers(backend, value, array, ignore_index, logits):
    """The TypeError for floats where class numbers are wanted."""
    host = array if isinstance(array, np.ndarray) else backend.download(array)
    odd = ~(np.isfinite(host) & (host == np.trunc(host)))
    if not odd.any():
        return TypeError(f"target should hold class numbers; got dtype {host.dtype}: {host_arrays.cast('target', value, 'int64')}")
    missing = np.isnan(host)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(missing if missing.any() else odd), host.shape))
    if missing.any():
        cure = host_arrays.fill("target", value, host, ignore_index)
        return TypeError(f"target should hold class numbers; got nan, a missing value, at index {index}: {cure}")
    return TypeError(f"target should hold class numbers; got {host[index]} at index {index}: probabilities have {_whose(logits)} shape")


def _target_hint(shape, rows, got, logits):
    """What would make the shapes fit, if something simple does."""
    if len(shape) > 1 and logits == "input":
        for axis, place in ((-1, "last"), (0, "first")):
            at = axis % len(shape)
            if at == 1:
                continue
            moved = shape[:at] + shape[at + 1 :]
            if got in (moved, (*moved[:1], shape[at], *moved[1:])):
                return f", which fits if the {place} axis of input holds the classes: use np.moveaxis(input, {axis}, 1)"
    if len(shape) > 2 and got == (*rows, shape[1]):
        return ", which fits if its last axis holds the classes: use np.moveaxis(target, -1, 1)"
    for axis, length in enumerate(got):
        if length == 1 and got[:axis] + got[axis + 1 :] == rows:
            return f", which has one axis too many: use np.squeeze(target, {axis})"
    return ""


def array_beside_input(backend, name, value, shape):
    """An array of the shape of the input, of any of the four float dtypes."""
    array = float_array(backend, name, value)
    if array.shape != shape:
        raise ValueError(f"{name} should have shape {shape}, the input's; got {array.shape}")
    return array


def weight_array(backend, value, shape, axis, rows, dtype, logits="input"):
    """The class weights in the dtype of the arithmetic, for logits of this shape whose classes lie along ``axis``."""
    array = real_array(backend, "weight", value, dtype)
    if array.shape == shape[axis : axis + 1]:
        return array
    hint = ""
    if axis == 1 and array.shape in (rows, rows[:1]):
        hint = ". Weights of the rows are no class weights: use sample_weight="
    elif logits == "input" and len(shape) > 2 and array.shape == shape[-1:]:
        hint = ", which fits if the last axis of input holds the classes: use np.moveaxis(input, -1, 1)"
    raise ValueError(f"weight should have shape {shape[axis : axis + 1]}, one per class; got {array.shape}{hint}")


def sample_weight_array(backend, value, rows, dtype):
    """The weights of rows, whose losses have the shape ``rows``, in the dtype of the arithmetic."""
    array = real_array(backend, "sample_weight", value, dtype)
    if array.shape != rows:
        raise ValueError(f"sample_weight should have the loss's shape {rows}; got {array.shape}")
    return array
