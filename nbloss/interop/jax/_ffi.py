"""A handler of XLA's foreign function interface on the CPU, in ctypes. The structs are those of ``xla/ffi/api/c_api.h``.

XLA calls it with the addresses of its buffers. NumPy views of these are what `nbloss.functional` reads and writes: nothing is copied.
"""

import ctypes
from ast import literal_eval
from functools import cache

import jax
import ml_dtypes  # noqa: F401 (np.dtype("bfloat16"))
import numpy as np

from nbloss.interop.jax._host import Spec, runner

TARGET = "nbloss"
_WORD = ctypes.sizeof(ctypes.c_void_p)
_VIEWS = 64  # views of one array of a call that are kept: XLA uses the same memory again and again

# XLA_FFI_CallFrame in words of 8 bytes, and what of it is read
_Frame = ctypes.c_int64 * 22
_EXTENSION, _API, _ARGUMENTS, _RESULTS, _ATTRIBUTES = 1, 2, 9, 14, 20
_DATA = 3  # the word of XLA_FFI_Buffer
_VERSION, _ERROR_CREATE = 2, 6  # the words of XLA_FFI_Api
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


def _word(address):
    return ctypes.c_int64.from_address(address).value


class _Array:
    """Makes views of the memory of one array of a call."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.bytes = ctypes.c_char * (int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize)
        self.views = {}

    def at(self, address):
        if address not in self.views:
            if len(self.views) >= _VIEWS:
                self.views.clear()
            memory = self.bytes.from_address(address) if ctypes.sizeof(self.bytes) else None
            self.views[address] = np.ndarray(self.shape, self.dtype, memory)
        return self.views[address]


@cache
def _call(text):
    """What an attribute stands for: a function, its arrays, and its results."""
    spec, arrays, results = literal_eval(text.decode())
    return runner(Spec(*spec)), [_Array(*each) for each in arrays], [_Array(*each) for each in results]


def _execute(frame):
    attribute = _word(frame[_ATTRIBUTES])  # an XLA_FFI_ByteSpan
    run, arrays, results = _call(ctypes.string_at(_word(attribute), _word(attribute + _WORD)))
    at, to = frame[_ARGUMENTS], frame[_RESULTS]
    arrays = [array.at(_word(_word(at + _WORD * i) + _WORD * _DATA)) for i, array in enumerate(arrays)]
    results = [result.at(_word(_word(to + _WORD * i) + _WORD * _DATA)) for i, result in enumerate(results)]
    run(arrays, results)


def _describe(frame):
    """Answer XLA's question for the version of its interface that the handler is written for: any that has these structs."""
    extension = _Extension.from_address(frame[_EXTENSION])
    theirs = _Version.from_address(frame[_API] + _WORD * _VERSION)
    extension.metadata.contents.version.major = theirs.major
    extension.metadata.contents.version.minor = theirs.minor
    extension.metadata.contents.traits = 0


def _failed(frame, error):
    """An XLA_FFI_Error, which XLA turns into the exception of whoever waits for the result."""
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error))(_word(frame[_API] + _WORD * _ERROR_CREATE))
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 13)
    message = f"{type(error).__name__}: {error}".encode()
    return create(_Error(ctypes.sizeof(_Error), None, message, code))


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def _handler(address):
    frame = _Frame.from_address(address)
    try:
        (_describe if frame[_EXTENSION] else _execute)(frame)
    except BaseException as error:
        return _failed(frame, error)
    return None


@cache
def registered():
    """Whether XLA has the handler, which is put there by the first call."""
    if _WORD != 8:
        return False
    try:
        jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(_handler), platform="cpu")
    except Exception:  # another version of the interface: jax.pure_callback does the work
        return False
    return True
