"""Streams, owners of memory, and other libraries: what is ordered behind what, and what lives how long."""

import ctypes
import sys
import types
import weakref

import numpy as np
import pytest
from calls import CALLS, arrays

import nbloss
import nbloss.functional as F

SIDE = 0x2000  # the handle of a stream that is not the default


def device_array(shape=(64, 10), dtype=np.float32):
    return nbloss.to_device(np.zeros(shape, dtype), "cuda")


def order(lines):
    """Pairs of streams: the second waits for what was queued on the first."""
    streams, pairs = {}, []
    for line in lines:
        if line.name == "record":
            streams[line.event] = line.stream
        elif line.name == "wait":
            pairs.append((streams[line.event], line.stream))
    return pairs


# ------------------------------ DLPack ------------------------------


@pytest.mark.parametrize(("stream", "waits"), [(None, []), (1, []), (-1, []), (2, [(1, 2)]), (SIDE, [(1, SIDE)])])
def test_the_stream_of_a_consumer_waits_for_the_work_on_the_array(stream, waits, recorded):
    x = device_array()
    recorded.clear()
    capsule = x.__dlpack__(stream=stream)
    assert order(recorded.lines()) == waits
    del capsule


def test_freed_memory_waits_for_the_stream_that_another_library_used(recorded):
    x = device_array()
    address = x.address
    capsule = x.__dlpack__(stream=SIDE)
    recorded.clear()
    del x
    assert not recorded.lines("free")  # the capsule keeps it
    del capsule
    lines = recorded.lines()
    assert order(lines) == [(SIDE, 1)]
    (freed,) = [k for k, line in enumerate(lines) if line.name == "free"]
    assert lines[freed].address == address and lines[freed].stream == 1
    assert max(k for k, line in enumerate(lines) if line.name == "wait") < freed


def type_of(capsule):
    """``(code, bits)`` of the type in a DLPack capsule."""
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    python.PyCapsule_GetPointer.restype, python.PyCapsule_GetPointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = python.PyCapsule_GetName(capsule)
    at = python.PyCapsule_GetPointer(capsule, name) + (20 if name == b"dltensor" else 52)
    return tuple(ctypes.string_at(at, 2))


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}], ids=["plain", "versioned"])
@pytest.mark.parametrize(("dtype", "kind"), [("float32", (2, 32)), ("float16", (2, 16)), ("bfloat16", (4, 16)), ("int64", (0, 64))])
def test_every_dtype_is_exported(dtype, kind, options, recorded):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    assert type_of(device_array(dtype=dtype).__dlpack__(**options)) == kind


def test_the_interface_of_cuda_arrays_names_the_stream(recorded):
    assert device_array().__cuda_array_interface__["stream"] == 1
    assert F.log_softmax(Foreign(device_array(), stream=SIDE), 1).__cuda_array_interface__["stream"] == SIDE


# ------------------------------ arrays of libraries that nbloss does not know ------------------------------


class Foreign:
    """An array of an unknown library, on a stream of its own."""

    def __init__(self, array, stream=None):
        self.array, self.used_stream = array, stream

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | {"stream": self.used_stream}


def test_memory_of_an_unknown_library_lives_until_the_work_on_it_is_done(recorded):
    x, other, third = Foreign(device_array(), SIDE), device_array(), Foreign(device_array(), SIDE)
    gone = weakref.ref(x)
    recorded.clear()
    recorded["pending_events"] = 1
    result = F.log_softmax(x, 1)
    (launch,) = recorded.lines("launch")
    assert launch.stream == SIDE
    del x, result
    F.log_softmax(other, 1)
    assert gone() is not None
    recorded["pending_events"] = 0
    F.log_softmax(third, 1)  # any later call looks which work is done
    assert gone() is None
    assert not recorded.lines("synchronize")


def test_an_array_of_another_stream_is_waited_for_and_kept(recorded):
    """x is on the default stream, the logits are on a side stream: the side stream waits for x, and x lives until it was read."""
    logits, target = Foreign(device_array(), SIDE), nbloss.to_device(np.zeros(64, np.int64), "cuda")
    F.cross_entropy(logits, target)
    recorded.clear()
    recorded["pending_events"] = 1
    F.cross_entropy(logits, target)
    assert (1, SIDE) in order(recorded.lines())
    address = target.address
    del target
    assert all(line.address != address for line in recorded.lines("free"))
    recorded["pending_events"] = 0
    F.cross_entropy(logits, nbloss.to_device(np.zeros(64, np.int64), "cuda"))
    assert any(line.address == address for line in recorded.lines("free"))


# ------------------------------ PyTorch and JAX, as far as nbloss uses them ------------------------------


class Layout:
    def __str__(self):
        return "torch.strided"


class Tensor:
    requires_grad, is_cuda, layout = False, True, Layout()
    is_nested = is_quantized = False

    def __init__(self, array):
        self.array = array
        self.shape, self.device = array.shape, types.SimpleNamespace(index=array.device)
        self.dtype = f"torch.{array.dtype}"

    def stride(self):
        return tuple(s // self.array.itemsize for s in self.array.strides)

    def data_ptr(self):
        return self.array.address

    def is_conj(self):
        return False

    is_neg = is_conj

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__


Tensor.__module__ = "torch"


class JaxArray(Foreign):
    __cuda_array_interface__ = property(lambda self: (_ for _ in ()).throw(AttributeError()))
    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None, **options):
        assert stream is None or stream > 0, f"JAX takes no stream {stream}"
        return self.array.__dlpack__(stream=stream, **options)


JaxArray.__module__ = "jaxlib._jax"


@pytest.fixture
def torch(monkeypatch):
    """The parts of torch that nbloss calls; its current stream is ``torch.current``."""
    made = types.ModuleType("torch")
    made.current, made.Tensor, made.strided = SIDE, Tensor, Tensor.layout
    made.cuda = types.SimpleNamespace(current_stream=lambda device: types.SimpleNamespace(cuda_stream=made.current))
    made.empty = lambda shape, dtype, device: Tensor(device_array(shape, dtype))
    for name in ("float16", "float32", "float64", "int64", "bool"):
        setattr(made, name, np.dtype(name))
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


@pytest.mark.parametrize("name", CALLS)
def test_work_on_tensors_is_on_the_current_stream_of_torch(name, torch, recorded):
    given = [Tensor(array) for array in arrays()]
    for current in (SIDE, SIDE, 0x3000, 0x3000):
        torch.current = current
        recorded.clear()
        result = CALLS[name](*given)
        lines = recorded.lines()
        assert {line.stream for line in lines if line.name == "launch"} == {current}
        scratch = [line.address for line in lines if line.name == "allocate" and line.stream == current]
        assert sorted(scratch) == sorted(line.address for line in lines if line.name == "free" and line.stream == current)
        results = result if isinstance(result, tuple) else (result,)
        assert all(r is None or isinstance(r, Tensor) for r in results)


def test_a_tensor_that_requires_grad_is_refused_also_after_one_that_does_not(torch, recorded):
    x = Tensor(device_array())
    F.log_softmax(x, 1)
    x.requires_grad = True
    with pytest.raises(TypeError, match=r"detach"):
        F.log_softmax(x, 1)


def test_results_of_jax_arrays_are_jax_arrays(monkeypatch, recorded):
    jax = types.ModuleType("jax")
    jax.dlpack = types.SimpleNamespace(from_dlpack=lambda array: JaxArray(array))
    monkeypatch.setitem(sys.modules, "jax", jax)
    x = JaxArray(device_array(dtype=pytest.importorskip("ml_dtypes").bfloat16))
    gone = weakref.ref(x)
    recorded["pending_events"] = 1
    result = F.log_softmax(x, 1)
    assert isinstance(result, JaxArray) and result.dtype == x.dtype and result.shape == x.shape
    del x
    assert gone() is not None
    loss, gradient = F.cross_entropy_value_and_grad(result, JaxArray(nbloss.to_device(np.zeros(64, np.int64), "cuda")))
    assert isinstance(loss, JaxArray) and isinstance(gradient, JaxArray)
    with pytest.raises(ValueError, match="writeable"):
        F.log_softmax(result, 1, out=result)


# ------------------------------ memory and errors ------------------------------


def test_the_default_pool_is_left_as_it_was(recorded):
    for call in CALLS.values():
        call(*arrays((64, 10)))
    assert recorded["threshold"] == 0
    assert not [line for line in recorded.lines("set") if line.values.get("pool") == "default"]


def test_errors_can_be_polled_without_waiting(recorded):
    from nbloss.backends import cuda

    x, y, *_ = arrays((64, 10))
    F.cross_entropy(x, y)
    (record,) = cuda._records.values()
    serial = next(reversed(cuda._calls))
    recorded.clear()
    nbloss.check_device_errors(wait=False)
    record.host[:5] = serial, 2, 7, 12, 10
    nbloss.check_device_errors(wait=False)  # the kernel is still writing: its last word is not there
    record.host[5] = 1
    with pytest.raises(IndexError, match=r"got 12 at index \(7,\); 2 of 64"):
        nbloss.check_device_errors(wait=False)
    nbloss.check_device_errors(wait=False)
    assert not recorded.lines()
    nbloss.check_device_errors()
    assert [line.name for line in recorded.lines()] == ["synchronize"]
