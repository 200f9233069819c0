"""A handler of XLA's foreign function interface on the CPU, in ctypes. The structs are those of ``xla/ffi/api/c_api.h``.

XLA calls it with the addresses of its buffers. NumPy views of these are what `nbloss.functional` reads and writes: nothing is copied.
"""

import ctypes
import mmap
from ast import literal_eval
from functools import cache
from math import prod

import jax
import ml_dtypes  # noqa: F401 (np.dtype("bfloat16"))
import numpy as np

from nbloss.interop.jax._host import Spec, runner

TARGET = "nbloss"
_VIEWS = 64  # views of an array that are kept: XLA uses the same memory again and again
_HUGE_FROM = 1 << 25  # bytes: glibc maps larger blocks for themselves. In its heap, huge pages took up to four times as long (2026-11-30)

# The memory of the process in words of 8 bytes: the fastest way to read a struct. Places in it are addresses divided by 8.
_memory = (ctypes.c_int64 * (1 << 59)).from_address(0)
_EXTENSION, _API, _ARGUMENTS, _RESULTS, _ATTRIBUTES = 1, 2, 9, 14, 20  # words of XLA_FFI_CallFrame
_DATA = 3  # word of XLA_FFI_Buffer
_VERSION, _ERROR_CREATE = 2, 6  # words of XLA_FFI_Api
_CODES = {IndexError: 11, ValueError: 3, TypeError: 3, MemoryError: 8, KeyboardInterrupt: 1}  # XLA_FFI_Error_Code; 13: internal


class _Version(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("major", ctypes.c_int), ("minor", ctypes.c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("version", _Version), ("traits", ctypes.c_uint32))


class _Extension(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
    )


class _Error(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("message", ctypes.c_char_p), ("code", ctypes.c_int))


class _Views(dict):
    """address -> the array that is there."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size = prod(shape) * self.dtype.itemsize

    def __missing__(self, address):
        if len(self) >= _VIEWS:
            self.clear()
        memory = (ctypes.c_char * self.size).from_address(address) if self.size else None
        array = self[address] = np.ndarray(self.shape, self.dtype, memory)
        return array


@cache
def _call(text):
    """What an attribute stands for: a function, its arrays, and its results."""
    spec, arrays, results = literal_eval(text.decode())
    arrays, results = [_Views(*each) for each in arrays], [_Views(*each) for each in results]
    return runner(Spec(*spec)), arrays, results, _advise is not None and any(result.size > _HUGE_FROM for result in results)


def _execute(frame):
    attribute = _memory[_memory[frame + _ATTRIBUTES] >> 3] >> 3  # an XLA_FFI_ByteSpan
    run, arrays, results, large = _call(ctypes.string_at(_memory[attribute], _memory[attribute + 1]))
    at, to = _memory[frame + _ARGUMENTS] >> 3, _memory[frame + _RESULTS] >> 3
    arrays = [views[_memory[(_memory[at + i] >> 3) + _DATA]] for i, views in enumerate(arrays)]
    results = [views[_memory[(_memory[to + i] >> 3) + _DATA]] for i, views in enumerate(results)]
    if large:
        _ask_for_huge_pages(results)
    run(arrays, results)


_advise = ctypes.CDLL(None).madvise if hasattr(mmap, "MADV_HUGEPAGE") else None
if _advise is not None:
    _advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def _ask_for_huge_pages(results):
    """As NumPy does for its own arrays. A new gradient of 128 MB takes 32768 page faults otherwise, longer than its computation."""
    for array in results:
        if array.nbytes > _HUGE_FROM:
            before = array.ctypes.data % mmap.PAGESIZE
            _advise(array.ctypes.data - before, array.nbytes + before, mmap.MADV_HUGEPAGE)


def _describe(frame):
    """Answer XLA's question for the version that the handler is written for: 0, and any minor one, which only adds to the structs."""
    extension = _Extension.from_address(_memory[frame + _EXTENSION])
    theirs = _Version.from_address(_memory[frame + _API] + 8 * _VERSION)
    extension.metadata.contents.version.major = 0
    extension.metadata.contents.version.minor = theirs.minor
    extension.metadata.contents.traits = 0


def _failed(frame, error):
    """An XLA_FFI_Error, which XLA turns into the exception of whoever waits for the result."""
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error))(_memory[(_memory[frame + _API] >> 3) + _ERROR_CREATE])
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 13)
    message = f"{type(error).__name__}: {error}".encode()
    return create(_Error(ctypes.sizeof(_Error), None, message, code))


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def _handler(address):
    frame = address >> 3
    try:
        (_describe if _memory[frame + _EXTENSION] else _execute)(frame)
    except BaseException as error:
        return _failed(frame, error)
    return None


@cache
def registered():
    """Whether XLA has the handler, which is put there by the first call."""
    try:
        jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(_handler), platform="cpu")
    except Exception:  # another version of the interface: jax.pure_callback does the work
        return False
    return True
