"""Chooses the backend of a call from its arrays and its device. All device names are read here."""

import os
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from nbloss.backends.cpu import CPU

KINDS = ("cpu", "cuda")
INSTALL = 'pip install "nbloss[cuda]"'

_named = os.environ.get("NBLOSS_DEVICE") or None  # read once: reading the environment takes as long as a small kernel
_default = _named
cpu_is_default = _default in (None, "cpu")  # whether calls on NumPy arrays that name no device run on the CPU


class DeviceUnavailableError(RuntimeError):
    """A device was asked for that this machine, or this installation, does not have."""


def _parsed(device):
    """``(kind, index)`` of "cpu", "cuda" or "cuda:1"."""
    kind, _, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in KINDS or (index and not (kind == "cuda" and index.isdecimal())) or device.endswith(":"):
        raise ValueError(f"device should be one of 'cpu', 'cuda', 'cuda:<index>', or None; got {device!r}")
    return kind, int(index or 0)


def missing_package():
    """What is said of a package that calls on a GPU need and that is not installed; None if all are there."""
    for package, module in (("numba-cuda", "numba_cuda"), ("cuda-core", "cuda.core")):
        try:
            spec = find_spec(module)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            return f"looked for the package {package}, which is not installed: {INSTALL}"
    return None


def _gpus():
    """``(how many GPUs nbloss can use, why there are not more)``."""
    memory = sys.modules.get("nbloss.kernels.cuda.runtime.memory")
    return (1, "this is a dry run") if memory is not None and memory.pretended else _found_gpus()


@cache
def _found_gpus():
    """As `_gpus`, without dry runs."""
    reason = missing_package()
    if reason:
        return 0, reason
    from nbloss.kernels.cuda.runtime import devices, memory

    if memory.SIMULATED:
        from numba.cuda.simulator import kernel

        # tests/cuda_sim replaces how the simulator calls a kernel.
        if kernel.FakeCUDAKernel.__call__.__module__ == kernel.__name__:
            reason = "NUMBA_ENABLE_CUDASIM is set, and Numba's simulator has no warps and no clusters: unset it"
            return 0, f"{reason} (nbloss's own tests have another simulator: tests/cuda_sim)"
        return 1, "the simulator has one device"
    return devices.count()


def gpus():
    """One line of text for each GPU that nbloss can use, or one with the reason why there is none."""
    number, reason = _gpus()
    if not number:
        return ["none: " + reason]
    from nbloss.kernels.cuda.runtime import devices

    return [f"cuda:{i} {devices.describe(i)}" for i in range(number)]


def checked_device(device):
    """The name of an available device; None stays None."""
    if device is not None:
        kind, index = _parsed(device)
        if kind == "cuda" and index >= _gpus()[0]:
            raise DeviceUnavailableError(f'device {device!r} is not available: {_gpus()[1]}. Without it, use device="cpu"')
    return device


def set_default_device(device: str | None) -> None:
    """Set the device for calls on NumPy arrays that name no device.

    Parameters
    ----------
    device : str or None
        "cpu", "cuda" or "cuda:<index>". None restores the default: the environment variable ``NBLOSS_DEVICE``, or else the CPU.

    Raises
    ------
    ValueError
        If there is no such kind of device.
    DeviceUnavailableError
        If this machine or installation does not have it.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.set_default_device("cpu")
    """
    global _default, cpu_is_default
    _default = _named if device is None else checked_device(device)
    cpu_is_default = _default in (None, "cpu")


def _on_gpu(array):
    """Whether an argument is an array on a GPU. The first test is for speed: most arguments are NumPy arrays or numbers."""
    if array is None or isinstance(array, (np.ndarray, float, int, list, tuple, np.generic)):
        return False
    kind = type(array)  # the properties of the array itself may be slow, or raise
    if not (hasattr(kind, "__cuda_array_interface__") or hasattr(kind, "__dlpack_device__")):
        return False
    from nbloss.backends import array_interop

    return array_interop.on_gpu(array)


def select(device, *arrays, call=None):
    """The backend of a call: that of the named device, else of the device of its arrays, else of the default device.

    Results are of the kind of the first array that is on a GPU. ``call`` records what a call on arrays of a GPU does (`gpu_calls`).
    """
    on_gpu = [a for a in arrays if _on_gpu(a)]
    if not on_gpu:
        name = _default if device is None else device
        if name is None or name == "cpu":
            return CPU
        kind, index = _parsed(checked_device(name))
        if kind == "cpu":
            return CPU
        return _cuda().CudaBackend(index)
    from nbloss.backends import array_interop

    index = array_interop.device_of(on_gpu[0])
    checked_device(f"cuda:{index}")
    if device is not None and _parsed(device) != ("cuda", index) and device != "cuda":
        raise ValueError(f"device should be where the arrays are, 'cuda:{index}', or None; got {device!r}: see nbloss.to_host, to_device")
    return _cuda().CudaBackend(index, on_gpu[0], call)


def _cuda():
    from nbloss.backends import cuda, gpu_calls  # noqa: F401 - ``_general_path`` looks for gpu_calls when a call may be on a GPU

    return cuda


def to_device(array: Any, device: str) -> Any:
    """Copy ``array`` to a device. This needs no other library for GPU arrays.

    Parameters
    ----------
    array : array_like
    device : str
        "cpu", "cuda" or "cuda:<index>".

    Returns
    -------
    ndarray or DeviceArray
        An array that is already on the device is returned as it is, not copied.

    Raises
    ------
    ValueError, DeviceUnavailableError
        As `set_default_device`.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.to_device([1.0, 2.0], "cpu")
    array([1., 2.])
    """
    if device is None:
        raise ValueError("device should be one of 'cpu', 'cuda', 'cuda:<index>'; got None")
    kind, index = _parsed(checked_device(device))
    if kind == "cpu":
        return to_host(array)
    with _cuda().CudaBackend(index) as backend:
        return array if _on_gpu(array) and backend.device_array(array) is not None else backend.upload(to_host(array))


def to_host(array: Any) -> np.ndarray:
    """``array`` as a NumPy array; a NumPy array is returned as it is. Waits for the device's work on the array.

    Parameters
    ----------
    array : array_like
        Also an array on a GPU: of nbloss, CuPy, PyTorch, Numba, or any with ``__dlpack__`` or ``__cuda_array_interface__``.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> import nbloss
    >>> nbloss.to_host([1.0, 2.0])
    array([1., 2.])
    """
    if not _on_gpu(array):
        return np.asarray(array)
    with select(None, array) as backend:
        return backend.download(array)


def check_device_errors(wait: bool = True) -> None:
    """Raise the error of a bad target in an earlier call on GPU arrays, and clear it.

    Calls on GPU arrays do not wait for the GPU, so they cannot raise for a target that is out of range. Its row counts as ignored, a summed
    loss is nan, and the first such error of each device is kept for this function. Calls on NumPy arrays raise at once.

    Parameters
    ----------
    wait : bool
        True waits for the devices, so that all earlier calls are checked. False waits for nothing: it reports what the devices have found
        so far, and costs less than a microsecond.

    Raises
    ------
    IndexError
        For the first bad target since the last check: its value, its index, C, and how many there are.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.check_device_errors()
    """
    if "nbloss.backends.cuda" in sys.modules:
        _cuda().check(wait)
