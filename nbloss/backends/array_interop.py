"""GPU arrays of other libraries: how to read one, how to make one, and which stream orders the work on it.

This imports no library: if the caller has a torch tensor, torch has been imported.
"""

import sys

import numpy as np

from nbloss.kernels.cuda.runtime import memory, streams
from nbloss.kernels.cuda.runtime.memory import DeviceArray

CUDA, MANAGED = 2, 13  # DLPack's device types of memory that a GPU can read


def _library(value):
    return type(value).__module__.partition(".")[0]


def on_gpu(value):
    """Whether an argument is an array in GPU memory. A torch tensor on the CPU is not, although its class has the GPU protocols."""
    if value is None or isinstance(value, (np.ndarray, np.generic, int, float, list, tuple)):
        return False
    if isinstance(value, DeviceArray):
        return True
    if _library(value) == "torch":
        return bool(getattr(value, "is_cuda", False))
    if hasattr(value, "__cuda_array_interface__"):
        return True
    return hasattr(value, "__dlpack_device__") and int(value.__dlpack_device__()[0]) in (CUDA, MANAGED)


def family(value):
    """The class below that handles the arrays of this library."""
    return _FAMILIES.get("nbloss" if isinstance(value, DeviceArray) else _library(value), Other)


def device_of(value):
    """The index of the GPU that an array is on."""
    if isinstance(value, DeviceArray):
        return value.device
    if _library(value) == "torch":
        return value.device.index
    if hasattr(value, "__dlpack_device__"):
        return max(int(value.__dlpack_device__()[1]), 0)
    return family(value).seen(value, None).device


def numpy_dtype(name):
    """The NumPy dtype of this name; bfloat16 is that of ml_dtypes."""
    if name == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise ImportError("bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes") from None
        return np.dtype(bfloat16)
    try:
        return np.dtype(name)
    except TypeError:
        raise TypeError(f"arrays of dtype {name} are not taken") from None


class Other:
    """Any array with ``__dlpack__`` or ``__cuda_array_interface__``. Results are `nbloss.DeviceArray`."""

    # Whether a freed array's memory may be used again before the work that is queued on nbloss's stream is done.
    may_be_reused_early = True

    @staticmethod
    def stream(value):
        """The stream that orders the work on the array; 0 is the default stream."""
        interface = getattr(value, "__cuda_array_interface__", None)
        return (interface or {}).get("stream") or 0

    @staticmethod
    def seen(value, stream):
        """The same memory as a `DeviceArray`. Its library lets ``stream`` wait for its own work on the array."""
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_any_interface(value, stream_ptr=-1 if stream is None else memory.handle(stream))
        dtype = np.dtype(view.dtype)
        strides = None if view.strides is None else tuple(s * dtype.itemsize for s in view.strides)
        return memory.at(
            view.ptr, view.shape, strides, dtype, max(view.device_id, 0), (view, value), not view.readonly, memory.handle(stream)
        )  # fmt: skip

    @staticmethod
    def empty(shape, dtype, index, stream):
        """A new array of this library, for kernels to write."""
        return memory.empty(shape, dtype, index, stream)

    @staticmethod
    def result(array):
        """What the caller gets when the kernels that write an array of ``empty`` have been queued."""
        return array


class Own(Other):
    """`nbloss.DeviceArray`."""

    @staticmethod
    def stream(value):
        return value.stream

    @staticmethod
    def seen(value, stream):
        if stream is not None:
            streams.order(value.stream, memory.handle(stream))
        return value


class Jax(Other):
    """JAX arrays. Results are JAX arrays, which cannot be written: they begin as a `DeviceArray`."""

    @staticmethod
    def stream(value):
        return 0  # JAX's streams are its own: it orders them by the stream that DLPack names

    @staticmethod
    def seen(value, stream):
        from cuda.core.utils import StridedMemoryView

        # JAX takes no -1, DLPack's word for a consumer that orders nothing.
        view = StridedMemoryView.from_dlpack(value, stream_ptr=memory.handle(stream))
        dtype = numpy_dtype(str(value.dtype))  # cuda-core knows no bfloat16
        return memory.at(view.ptr, tuple(value.shape), None, dtype, max(view.device_id, 0), (view, value), False, memory.handle(stream))

    @staticmethod
    def result(array):
        return sys.modules["jax"].dlpack.from_dlpack(array)


class Torch(Other):
    """PyTorch tensors, with the current stream and the allocator of PyTorch."""

    may_be_reused_early = False  # its allocator hands memory out in the order of its current stream

    @staticmethod
    def stream(value):
        return sys.modules["torch"].cuda.current_stream(value.device).cuda_stream

    @staticmethod
    def seen(value, stream):
        if str(value.layout) != "torch.strided":
            raise TypeError(f"tensors should be dense; got layout {value.layout}")
        dtype = numpy_dtype(str(value.dtype).partition(".")[2])
        strides = tuple(s * dtype.itemsize for s in value.stride())
        return memory.at(value.data_ptr(), tuple(value.shape), strides, dtype, value.device.index, value)

    @staticmethod
    def empty(shape, dtype, index, stream):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=f"cuda:{index}")


class CuPy(Other):
    """CuPy arrays, with the current stream and the memory pool of CuPy."""

    may_be_reused_early = False  # as PyTorch's

    @staticmethod
    def stream(value):
        return sys.modules["cupy"].cuda.get_current_stream().ptr

    @staticmethod
    def seen(value, stream):
        return memory.at(value.data.ptr, value.shape, value.strides, value.dtype, value.device.id, value)

    @staticmethod
    def empty(shape, dtype, index, stream):
        return sys.modules["cupy"].empty(shape, dtype)


class Numba(Other):
    """Device arrays of Numba. Results come from the allocator of numba-cuda."""

    @staticmethod
    def empty(shape, dtype, index, stream):
        from numba import cuda

        return cuda.device_array(shape, dtype)


_FAMILIES = {"nbloss": Own, "torch": Torch, "cupy": CuPy, "numba": Numba, "numba_cuda": Numba, "jax": Jax, "jaxlib": Jax}
