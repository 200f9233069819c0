"""Device memory: arrays, the pool that they come from, copies to and from the host. No other file asks the driver for memory.

A `DeviceArray` keeps its shape and strides as a NumPy array whose data pointer is an address on the device (``geometry``). Reshaping,
slicing and tests for overlap are arithmetic on that array. Its values must never be read on the host. In Numba's simulator the device's
memory is the host's memory.
"""

from __future__ import annotations

import math
import os
from functools import cache

import numpy as np

from nbloss.kernels.cuda.runtime.driver import LEGACY_STREAM, THREAD_STREAM, checked, driver, handle
from nbloss.kernels.cuda.tuning import POOL_KEEPS_BYTES

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")

pretended: tuple | None = None  # during a dry run (`launch.dry_run`): what `device_facts` returns. Nothing is read or written then


class _Memory:
    """An object from which NumPy makes an array of existing memory."""

    def __init__(self, interface):
        self.__array_interface__ = interface


class DeviceArray:
    """An array in the memory of a GPU, for callers without a library of device arrays.

    `nbloss.to_device` makes one, every function of nbloss accepts it, and `nbloss.to_host` reads it. CuPy, PyTorch and Numba use it without
    a copy (``__cuda_array_interface__``, ``__dlpack__``).

    Attributes
    ----------
    shape, strides : tuple of int
        As NumPy's; strides in bytes.
    dtype : numpy.dtype
    device : int
        Index of the GPU.
    """

    # ``stream`` is the handle of the stream that orders the work on the array.
    __slots__ = ("_geometry", "_strides", "address", "device", "dtype", "owner", "shape", "stream", "writeable")

    def __init__(self, geometry, address, device, owner, stream=LEGACY_STREAM):
        strides = None if geometry.flags.c_contiguous else geometry.strides
        self._set(geometry.shape, strides, geometry.dtype, address, device, owner, geometry.flags.writeable, stream, geometry)

    def _set(self, shape, strides, dtype, address, device, owner, writeable=True, stream=LEGACY_STREAM, geometry=None):
        self.shape, self._strides, self.dtype, self.writeable = shape, strides, dtype, writeable
        self.address, self.device, self.owner, self.stream, self._geometry = address, device, owner, stream, geometry
        return self

    @property
    def geometry(self):
        """The NumPy array of the same address, shape and strides. It is made on demand: calls on C-ordered arrays do not need it."""
        if self._geometry is None:
            self._geometry = _geometry(self.address, self.shape, self._strides, self.dtype, self.writeable)
        return self._geometry

    contiguous = property(lambda self: self._strides is None)
    strides = property(lambda self: _c_strides(self.shape, self.itemsize) if self._strides is None else self._strides)
    itemsize = property(lambda self: self.dtype.itemsize)
    size = property(lambda self: math.prod(self.shape))
    nbytes = property(lambda self: self.size * self.itemsize)
    ndim = property(lambda self: len(self.shape))
    flags = property(lambda self: self.geometry.flags)

    def __repr__(self):
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device='cuda:{self.device}')"

    def __len__(self):
        if not self.shape:
            raise TypeError("a 0-d array has no length")
        return self.shape[0]

    @property
    def pointer(self):
        """The argument of a kernel: the address, or in the simulator a flat array from the first element to the last."""
        if not SIMULATED:
            return self.address
        a = self.geometry
        if a.flags.c_contiguous:
            return a.reshape(-1)
        span = 1 + sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)) // a.itemsize if a.size else 0
        return np.lib.stride_tricks.as_strided(a, (span,), (a.itemsize,))

    def seen(self, geometry):
        """The same memory with another geometry, which is a view of the present one."""
        address = self.address if geometry.size == 0 else geometry.__array_interface__["data"][0]
        return DeviceArray(geometry, address, self.device, self.owner, self.stream)

    def reshape(self, *shape):
        """The same memory in another shape; ValueError where that needs a copy."""
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        if shape == self.shape:
            return self
        if self._strides is not None or self._geometry is not None or (-1 in shape and shape != (-1,)):
            return self.seen(self.geometry.reshape(shape, copy=False))
        return self._as((self.size,) if shape == (-1,) else shape, self.dtype)

    def view(self, dtype):
        """The same bytes as another dtype of the same size."""
        if self.dtype == dtype:
            return self
        if self._strides is not None or self._geometry is not None:
            return self.seen(self.geometry.view(dtype))
        return self._as(self.shape, np.dtype(dtype))

    def _as(self, shape, dtype):
        """The same C-ordered memory with another shape and dtype."""
        return DeviceArray.__new__(DeviceArray)._set(shape, None, dtype, self.address, self.device, self.owner, self.writeable, self.stream)

    @property
    def __cuda_array_interface__(self):
        if SIMULATED:
            raise AttributeError("arrays of the simulator are in host memory")
        typestr = self.dtype.str  # "<V2" for bfloat16, as other libraries have it
        data = (self.address if self.size else 0, not self.writeable)
        return {"shape": self.shape, "strides": self._strides, "typestr": typestr, "data": data, "version": 3, "stream": self.stream}

    def __dlpack_device__(self):
        return (1, 0) if SIMULATED else (2, self.device)

    def __dlpack__(self, *, stream=None, **options):
        """The array for another library, whose stream waits for the work on it. None is the legacy default stream; -1 waits for nothing."""
        if SIMULATED:
            return self.geometry.__dlpack__(stream=stream, **options)
        from nbloss.kernels.cuda.runtime import dlpack

        return dlpack.export(self, LEGACY_STREAM if stream is None else stream, options)


def _c_strides(shape, itemsize):
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def _geometry(address, shape, strides, dtype, writeable):
    """A NumPy array with an address on the device. It serves arithmetic on strides; its values must not be read."""
    if 0 in shape:
        return np.empty(shape, dtype)
    interface = {"data": (address, not writeable), "shape": shape, "strides": strides, "typestr": f"|V{dtype.itemsize}", "version": 3}
    return np.asarray(_Memory(interface)).view(dtype)


def at(address, shape, strides, dtype, device, owner, writeable=True, stream=LEGACY_STREAM) -> DeviceArray:
    """An array of memory that another object owns. The array keeps ``owner`` alive."""
    dtype = np.dtype(dtype)
    if strides is not None and (0 in shape or strides == _c_strides(shape, dtype.itemsize)):
        strides = None
    return DeviceArray.__new__(DeviceArray)._set(shape, strides, dtype, address, device, owner, writeable, stream)


def empty(shape, dtype, device, stream) -> DeviceArray:
    """A new C-ordered array from the stream-ordered memory pool of the device. Its memory returns to the pool with the last reference."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if SIMULATED:
        geometry = np.empty(shape, dtype)
        return DeviceArray(geometry, geometry.ctypes.data, device, geometry)
    block = allocate(math.prod(shape) * dtype.itemsize, device, stream)
    return DeviceArray.__new__(DeviceArray)._set(shape, None, dtype, int(block.handle), device, block, True, handle(stream))


def upload(host: np.ndarray, device, stream) -> DeviceArray:
    """The values of a NumPy array in new C-ordered device memory. The host array may change as soon as this returns."""
    host = np.ascontiguousarray(host) if host.ndim else host
    array = empty(host.shape, host.dtype, device, stream)
    put(host, array, stream)
    return array


def put(host: np.ndarray, array: DeviceArray, stream) -> None:
    """Copy host values into device memory; both are C-ordered."""
    if pretended:
        return
    if SIMULATED:
        array.geometry[...] = host
    elif host.size:
        checked(driver().cuMemcpyHtoDAsync(array.address, host.ctypes.data, host.nbytes, handle(stream)))
        stream.sync()


def download(array: DeviceArray, host: np.ndarray, stream) -> None:
    """Copy device values into a C-ordered host array of the same size, and wait for them."""
    if pretended:
        return
    if SIMULATED:
        host[...] = array.geometry.reshape(host.shape).view(host.dtype)
    elif host.size:
        checked(driver().cuMemcpyDtoHAsync(host.ctypes.data, array.address, host.nbytes, handle(stream)))
        stream.sync()


def clear(array: DeviceArray, stream) -> None:
    """Fill an array with zeros, in stream order."""
    if pretended:
        return
    if SIMULATED:
        array.geometry[...] = np.zeros((), array.dtype)
    elif array.size:
        checked(driver().cuMemsetD8Async(array.address, 0, array.nbytes, handle(stream)))


def fill(array, offset, pitch, word, count, stream):
    """Write a word of 32 bits ``count`` times, ``pitch`` bytes apart, ``offset`` bytes behind an array's address, on a stream (a handle).

    The array may be an address.
    """
    if pretended:
        return
    if SIMULATED:
        array.geometry.view(np.uint32)[offset // 4 :: pitch // 4] = word
    elif count:
        address = array if isinstance(array, int) else array.address
        checked(driver().cuMemsetD2D32Async(address + offset, pitch, word, 1, count, stream))


def words_of_ones(dtype):
    """The words that fill an array of float32 or float64 with ones: ``(offset, pitch, word)`` for each half of a number (little-endian)."""
    if dtype == np.float32:
        return [(0, 4, int(np.float32(1).view(np.uint32)))]
    return [(0, 8, 0), (4, 8, int(np.float64(1).view(np.uint64)) >> 32)]


class HostArray:
    """Words of int64 in host memory that kernels write and the host reads at any time: ``host`` and ``device`` are the same memory."""

    def __init__(self, count, device):
        if SIMULATED:
            self.host = np.zeros(count, np.int64)
            address = self.host.ctypes.data
        else:
            flags = driver().CU_MEMHOSTALLOC_PORTABLE | driver().CU_MEMHOSTALLOC_DEVICEMAP
            address = int(checked(driver().cuMemHostAlloc(8 * count, flags)))
            interface = {"data": (address, False), "shape": (count,), "typestr": "<i8", "version": 3}
            self.host = np.asarray(_Memory(interface))
            self.host[:] = 0
        self.device = at(address, (count,), None, np.int64, device, self.host)


_contexts: dict = {}


def enter(device):
    """Make a device the current one of this thread. Returns what `leave` needs to undo this."""
    if SIMULATED:
        return None
    before = int(driver().cuCtxGetCurrent()[1])
    if before and before == _contexts.get(device):
        return None
    from cuda.core import Device

    Device(device).set_current()
    _contexts[device] = int(driver().cuCtxGetCurrent()[1])
    return before if before != _contexts[device] else None


def leave(before):
    if before:
        checked(driver().cuCtxSetCurrent(before))


def synchronize():
    """Wait for all work on the current device."""
    if not SIMULATED:
        checked(driver().cuCtxSynchronize())


@cache
def _pool(device):
    """The stream-ordered memory pool of nbloss on a device. The device's default pool is left to other libraries, as they have set it."""
    from cuda.core import DeviceMemoryResource, DeviceMemoryResourceOptions

    made = DeviceMemoryResource(device, DeviceMemoryResourceOptions())
    attribute = driver().CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
    checked(driver().cuMemPoolSetAttribute(made.handle, attribute, driver().cuuint64_t(POOL_KEEPS_BYTES)))
    return made


def allocate(count, device, stream):
    """``count`` bytes of the pool: an object whose ``handle`` is their address. They are freed in stream order with its last reference."""
    try:
        return _pool(device).allocate(count or 1, stream=stream)
    except RuntimeError:
        if not int(checked(driver().cuStreamIsCapturing(handle(stream)))):
            raise
        return _GraphMemory(count or 1, device, handle(stream))


class _GraphMemory:
    """Memory that a graph allocates and frees: cuda-core's pools refuse a stream that is captured, the driver takes it."""

    def __init__(self, count, device, stream):
        self.handle = checked(driver().cuMemAllocFromPoolAsync(count, _pool(device).handle, stream))
        self.free, self.stream = driver().cuMemFreeAsync, stream  # kept here: the module may be gone when the interpreter shuts down

    def __del__(self):
        if hasattr(self, "free"):
            self.free(self.handle, self.stream)


@cache
def _streams(handle):
    from cuda.core import LEGACY_DEFAULT_STREAM, PER_THREAD_DEFAULT_STREAM, Stream

    named = {0: LEGACY_DEFAULT_STREAM, LEGACY_STREAM: LEGACY_DEFAULT_STREAM, THREAD_STREAM: PER_THREAD_DEFAULT_STREAM}
    return named[handle] if handle in named else Stream.from_handle(handle)


def stream(handle=0):
    """The stream of a driver handle; 0 is the legacy default stream."""
    return None if SIMULATED else _streams(handle)
