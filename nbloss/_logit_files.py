"""Files of arrays as memory maps: ``.npy``, and ``.safetensors`` without the package of this name.

A safetensors file is the length of its header (8 bytes, little-endian), the header, a JSON object of ``{name: {"dtype", "shape",
"data_offsets"}}``, and the data (https://huggingface.co/docs/safetensors).
"""

import json
import math
import os
from operator import index
from pathlib import Path

import numpy as np

from nbloss.backends.array_interop import numpy_dtype

_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MOST_HEADER_BYTES = 100_000_000  # that the format allows


def open_logits(path, key):
    """The array of a file as a read-only memory map. ``key`` names the tensor of a safetensors file that has several, else it is None."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path, key)
    if path.suffix != ".npy":
        raise ValueError(f"logits should be a path that ends in .npy or .safetensors; got {str(path)!r}")
    if key is not None:
        raise ValueError(f"key names a tensor of a .safetensors file; got key={key!r} for {path}")
    array = open_npy(path)
    # np.save knows no bfloat16, and writes a type of two bytes without a name.
    return array.view(numpy_dtype("bfloat16")) if array.dtype == np.dtype("V2") else array


def open_npy(path):
    """The array of a ``.npy`` file as a read-only memory map."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        if "mmap length" in str(error):
            raise ValueError(f"{path} is truncated: its header announces more than its {os.path.getsize(path)} bytes") from None
        raise ValueError(f"{path} is no .npy file that can be mapped: {error}") from None
    except OverflowError:
        raise ValueError(f"{path} is no .npy file that can be mapped: no array has the shape in its header") from None


def _open_safetensors(path, key):
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        if not 8 < start <= min(size, 8 + _MOST_HEADER_BYTES):
            raise ValueError(f"{path} is no .safetensors file, or is truncated: its header has {start - 8} bytes, the file {size}")
        header = file.read(start - 8)
    try:
        tensors = {name: tensor for name, tensor in json.loads(header).items() if name != "__metadata__"}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no .safetensors file: its header is no JSON object ({error})") from None
    if key is None and len(tensors) == 1:
        (key,) = tensors
    if key not in tensors:
        raise ValueError(f"key should name one of the tensors of {path}: {', '.join(sorted(tensors)) or 'it has none'}; got {key!r}")
    try:
        kind, shape, (first, end) = (tensors[key][field] for field in ("dtype", "shape", "data_offsets"))
        shape, length = tuple(map(index, shape)), index(end) - index(first)
        known = kind in _SAFETENSORS
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is no .safetensors file: tensor {key!r} has no dtype, shape and data_offsets") from None
    if not known:
        raise TypeError(f"logits should have dtype {', '.join(_SAFETENSORS)}; got {kind} of tensor {key!r} in {path}")
    dtype = numpy_dtype(_SAFETENSORS[kind])
    if first < 0 or min(shape, default=0) < 0 or length != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path} is no .safetensors file: tensor {key!r} has shape {shape} and {length} bytes")
    if start + end > size:
        raise ValueError(f"{path} is truncated: tensor {key!r} ends at byte {start + end}, the file has {size}")
    if not length:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype.newbyteorder("<") if dtype.kind == "f" else dtype, "r", start + first, shape)
