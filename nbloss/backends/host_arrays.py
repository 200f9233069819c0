"""Values that NumPy must convert: how each becomes an array, and the errors that say what to do with those that do not.

This imports no library: if the caller has a torch tensor, torch has been imported. Nothing here runs for a NumPy array that is taken.
"""

import sys
from collections.abc import Mapping
from numbers import Integral, Number

import numpy as np


def library(value):
    """The name of the library that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def type_name(value):
    """The name of a value's type, and of its library."""
    name = type(value).__name__
    return name if library(value) == "builtins" else f"{name} ({library(value)})"


def is_tensor(value):
    """Whether a value is a torch tensor, also of a class derived from it."""
    return isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


# ------------------------------ conversion ------------------------------


def check(name, value):
    """Refuse what would be read wrongly or too late: masked arrays, lazy arrays, and torch tensors that are no plain numbers."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} should be a plain array; got a masked array, whose mask would be lost: fill it first")
    if is_tensor(value):
        _check_tensor(name, value)
    elif (finish := _finish(value)) is not None:
        stays = ", or a function of nbloss.interop.dask, which stays lazy" if library(value) == "dask" else ""
        raise TypeError(f"{name} should be an array in memory; got {type_name(value)}, which is lazy: use {name}.{finish}(){stays}")


def _check_tensor(name, tensor):
    if tensor.requires_grad:
        raise TypeError(
            f"{name} should be a tensor outside autograd; got one that requires grad: "
            f"use {name}.detach(), because nbloss returns gradients itself"
        )
    for unfit, what, cure in (
        (tensor.is_nested, "a nested one", "to_padded_tensor(...)"),
        (str(tensor.layout) != "torch.strided", f"layout {tensor.layout}", "to_dense()"),
        (tensor.is_quantized, "a quantized one", "dequantize()"),
        (tensor.is_conj(), "one with the conjugate bit set", "resolve_conj()"),
        (tensor.is_neg(), "one with the negative bit set", "resolve_neg()"),
    ):
        if unfit:
            raise TypeError(f"{name} should be a dense tensor of plain numbers; got {what}: use {name}.{cure}")


def _finish(value):
    """The method that computes a lazy array; None for values that are not lazy."""
    if type(value).__name__ == "LazyFrame":  # of polars
        return "collect"
    if library(value) == "dask" or (hasattr(type(value), "__dask_graph__") and value.__dask_graph__() is not None):
        return "compute"
    return None


def as_numpy(name, value):
    """A value in host memory as a NumPy array, not copied where that can be helped."""
    try:
        if is_tensor(value) and str(value.dtype) == "torch.bfloat16":
            return _bfloat16_view(value)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} should be an array, or what NumPy can make one of; got {type_name(value)}: {error}") from error


def _bfloat16_view(tensor):
    """The memory of a bfloat16 tensor: NumPy itself has no such dtype."""
    from nbloss.backends.array_interop import numpy_dtype

    bits = tensor.view(sys.modules["torch"].int16)
    return np.asarray(bits).view(numpy_dtype("bfloat16"))


# ------------------------------ errors ------------------------------


def cast(name, value, dtype):
    """How to convert an argument to a dtype of NumPy, in the words of its library."""
    if is_tensor(value):
        return f"use {name}.to(torch.{dtype})"
    return f"use {_host_array(name, value)}.astype(np.{dtype})"


def _host_array(name, value):
    """How to get an array that has NumPy's methods."""
    if hasattr(value, "astype"):
        return name
    return f"nbloss.to_host({name})" if hasattr(type(value), "__cuda_array_interface__") else f"np.asarray({name})"


def refusal(name, value, array, wanted, missing=None):
    """The TypeError for an array of a dtype that is not taken. ``array`` is what ``value`` was converted to.

    ``wanted`` says what the argument should do, and ``missing`` what to do with a missing value.
    """
    got, advice = _described(name, value, array, missing)
    return TypeError(f"{name} should {wanted}; got {got}" + (f": {advice}" if advice else ""))


def _described(name, value, array, missing):
    """``(what came, what to do with it)``; the advice may be None."""
    kind = array.dtype.kind
    if kind == "O":
        return _unreadable(name, value, array) or _first_odd(name, value, array, missing)
    if kind in "UST" and array.size:
        return _string(name, value, array[(0,) * array.ndim], (0,) * array.ndim)
    return str(array.dtype) if name == "input" else f"dtype {array.dtype}", cast(name, value, "float32") if kind in "iub" else None


def _unreadable(name, value, array):
    """As `_described`, for values whose type tells what they are; None for all others."""
    got = type_name(value)
    if value is None:
        return got, None
    if hasattr(value, "toarray"):
        return f"{got}, a sparse matrix", f"use {name}.toarray()"
    if isinstance(value, Mapping):
        weights = f"give one number per class, such as [{name}[c] for c in range(C)]"
        return got, weights if name == "weight" else "give the array itself"
    if library(value) == "autograd":
        return _traced(got, "")
    if isinstance(value, set | frozenset):
        return f"{got}, which has no order", "use a list"
    if hasattr(value, "__iter__") and array.ndim == 0 and not isinstance(value, np.ndarray):
        return got, f"use list({name})"
    return None


def _traced(got, made):
    advice = f"use {made}the function of this name in nbloss.interop.autograd"
    return f"{got}, and nbloss.functional is not traced by autograd", advice


def _string(name, value, string, index):
    if name == "target":
        advice = "number the classes, e.g. np.searchsorted(classes, target) with the sorted names of all classes"
    else:
        advice = f"{cast(name, value, 'float32')} if the strings are numbers"
    return f"the string {str(string)!r} at index {index}", advice


def _first_odd(name, value, array, missing):
    """As `_described`, for an array of objects: by its first element that is no number."""
    position = next((i for i, element in enumerate(array.flat) if is_missing(element) or not isinstance(element, Number)), None)
    if position is None:
        first = next(array.flat, None)
        dtype = "int64" if name == "target" and isinstance(first, Integral) else "float32"
        return "dtype object" if first is None else f"dtype object that holds {type_name(first)}", _numbers(name, value, dtype)
    index, element = tuple(int(i) for i in np.unravel_index(position, array.shape)), array.flat[position]
    if is_missing(element):
        return f"{element}, a missing value, at index {index}", missing or _numbers(name, value, "float32")
    if isinstance(element, str | bytes):
        return _string(name, value, element, index)
    if library(element) == "autograd":
        return _traced(f"{type_name(element)} at index {index}", f"autograd.numpy.array({name}) and ")
    if array.ndim == 0:
        return type_name(value), "convert it to an array of numbers first"
    if np.ndim(element) or isinstance(element, list | tuple):
        return f"dtype object that holds {type_name(element)} at index {index}", f"use np.stack(np.asarray({name})) if all are of one shape"
    return f"dtype object that holds {type_name(element)} at index {index}", "convert it to an array of numbers first"


def _numbers(name, value, dtype):
    """How to convert objects that are numbers or missing. In pandas, ``to_numpy`` also takes ``pandas.NA``."""
    if library(value) == "pandas":
        return f"use {name}.to_numpy(dtype=np.{dtype}" + (", na_value=np.nan)" if dtype == "float32" else ")")
    return cast(name, value, dtype)


# ------------------------------ missing values ------------------------------


def is_missing(element):
    """Whether an object is nan, None, or the missing value of pandas."""
    return (
        element is None
        or type(element).__name__ in ("NAType", "NaTType")
        or (isinstance(element, float | np.floating) and bool(element != element))
    )


def fill(name, value, array, number):
    """How to put ``number`` in the place of missing class numbers, in the words of the argument's library."""
    whole = library(value) == "polars" and not value.dtype.is_float()
    if library(value) == "polars":
        call = f"{name}.fill_null({number})" if whole else f"{name}.fill_nan(None).fill_null({number}).cast(pl.Int64)"
    elif library(value) == "pyarrow":
        call = f'{name}.fill_null({number}).cast("int64")'
    elif hasattr(value, "fillna"):  # pandas and xarray
        call = f"{name}.fillna({number}).astype(np.int64)"
    elif is_tensor(value):
        call = f"{name}.nan_to_num({number}).long()"
    elif array.dtype.kind == "O":
        call = f"np.array([{number} if label is None else label for label in {name}])"
    else:
        given = name if isinstance(value, list | tuple) else _host_array(name, value)
        call = f"np.where(np.isnan({given}), {number}, {given}).astype(np.int64)"
    return f"fill missing values with ignore_index, as {call} does"
