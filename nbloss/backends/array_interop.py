"""Other libraries' arrays on a GPU: how each is read, made, and which stream its work is ordered on.

Nothing is imported here that the caller has not imported: who holds a torch tensor has torch.
"""

import sys

import numpy as np

from nbloss.kernels.cuda.runtime import memory
from nbloss.kernels.cuda.runtime.memory import DeviceArray

CUDA, MANAGED = 2, 13  # DLPack's numbers for memory that a GPU reads


def _library(value):
    return type(value).__module__.partition(".")[0]


def on_gpu(value):
    """Whether an argument is an array in a GPU's memory. A torch tensor of the CPU is not, whatever protocols its class has."""
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
    """How to treat arrays of this kind."""
    return _FAMILIES.get("nbloss" if isinstance(value, DeviceArray) else _library(value), Other)


def device_of(value):
    """The index of the GPU that an array lives on."""
    return family(value).seen(value, None).device


def _dtype(name):
    """NumPy's dtype of a name; bfloat16 is that of ml_dtypes."""
    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    try:
        return np.dtype(name)
    except TypeError:
        raise TypeError(f"arrays of dtype {name} are not taken") from None


class Other:
    """Anything with ``__dlpack__`` or ``__cuda_array_interface__``; its results are nbloss's own arrays."""

    @staticmethod
    def stream(value):
        interface = getattr(value, "__cuda_array_interface__", None)
        return (interface or {}).get("stream") or 0

    @staticmethod
    def seen(value, stream):
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_any_interface(value, stream_ptr=-1 if stream is None else int(stream.handle))
        dtype = np.dtype(view.dtype)
        strides = None if view.strides is None else tuple(s * dtype.itemsize for s in view.strides)
        return memory.at(view.ptr, view.shape, strides, dtype, max(view.device_id, 0), (view, value), not view.readonly)

    @staticmethod
    def empty(shape, dtype, index, stream):
        return memory.empty(shape, dtype, index, stream)


class Own(Other):
    """`nbloss.DeviceArray`."""

    @staticmethod
    def stream(value):
        return 0

    @staticmethod
    def seen(value, stream):
        return value


class Torch(Other):
    """PyTorch: its current stream, its caching allocator."""

    @staticmethod
    def stream(value):
        return sys.modules["torch"].cuda.current_stream(value.device).cuda_stream

    @staticmethod
    def seen(value, stream):
        if str(value.layout) != "torch.strided":
            raise TypeError(f"tensors should be dense; got layout {value.layout}")
        dtype = _dtype(str(value.dtype).partition(".")[2])
        strides = tuple(s * dtype.itemsize for s in value.stride())
        return memory.at(value.data_ptr(), tuple(value.shape), strides, dtype, value.device.index, value)

    @staticmethod
    def empty(shape, dtype, index, stream):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=f"cuda:{index}")


class CuPy(Other):
    """CuPy: its current stream, its memory pool."""

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
    """Numba's device arrays; results come from numba-cuda's allocator."""

    @staticmethod
    def empty(shape, dtype, index, stream):
        from numba import cuda

        return cuda.device_array(shape, dtype)


_FAMILIES = {"nbloss": Own, "torch": Torch, "cupy": CuPy, "numba": Numba, "numba_cuda": Numba}
