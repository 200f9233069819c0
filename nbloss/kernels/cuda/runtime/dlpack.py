"""DeviceArrays for other libraries, by the DLPack protocol (https://dmlc.github.io/dlpack)."""

import ctypes

import numpy as np

from nbloss.kernels.cuda.runtime import streams

BFLOAT = 4  # DLPack's code of bfloat16 and other brain floats

NO_SYNC = -1  # the stream of a consumer that orders the work itself

# Offset of the type code in the two structures that a capsule holds, by the capsule's name.
TYPE_CODE_AT = {b"dltensor": 20, b"dltensor_versioned": 52}


class _Lent:
    """Keeps an array alive while another library has it; then the array's own stream waits for the stream that the library worked on.

    The memory returns to the pool on the array's stream. Without the wait its next owner could overwrite what the other stream still reads.
    """

    def __init__(self, array, stream):
        self.array, self.stream = array, stream

    def __del__(self):
        if self.stream != NO_SYNC and streams is not None:  # None: the interpreter shuts down
            streams.order(self.stream, self.array.stream)


def export(array, stream, options):
    """The capsule of an array for a consumer that will work on ``stream`` (a handle)."""
    from cuda.core import Buffer
    from cuda.core.utils import StridedMemoryView

    if stream != NO_SYNC:
        streams.order(array.stream, stream)
    reach = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize if array.size else 0
    bfloat16 = array.dtype.name == "bfloat16"
    dtype = np.dtype(np.int16) if bfloat16 else array.dtype  # cuda-core has no bfloat16
    buffer = Buffer.from_handle(array.address, reach, owner=_Lent(array, stream))
    counts = tuple(s // array.itemsize for s in array.strides)
    view = StridedMemoryView.from_buffer(buffer, array.shape, counts, itemsize=array.itemsize, dtype=dtype, is_readonly=not array.writeable)
    capsule = view.__dlpack__(stream=NO_SYNC, **options)
    if bfloat16:
        _set_type_code(capsule, BFLOAT)
    return capsule


def _set_type_code(capsule, code):
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    python.PyCapsule_GetPointer.restype, python.PyCapsule_GetPointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = python.PyCapsule_GetName(capsule)
    ctypes.c_uint8.from_address(python.PyCapsule_GetPointer(capsule, name) + TYPE_CODE_AT[name]).value = code
