"""Launches of kernels on a stream: cubins through cuda.core with raw pointers, or the same source on arrays in Numba's simulator.

Numba's own dispatcher would take 10 to 60 us per launch, most of it to convert array arguments.
"""

import contextlib
import threading
from functools import lru_cache

import numpy as np

from nbloss.kernels.cuda.runtime import build, devices, memory

_loaded = {}

_loading = threading.Lock()


@lru_cache(maxsize=1024)
def _config(grid, threads, cluster):
    from cuda.core import LaunchConfig

    if cluster == 1:
        return LaunchConfig(grid=grid, block=threads)
    return LaunchConfig(grid=grid // cluster, cluster=cluster, block=threads)


class Serial(int):
    """The serial number of a call. It and `Divisor` are the only arguments that differ when a recorded call is made again."""


class Divisor(float):
    """The divisor that a call gives for its mean."""


# How a signature names an argument, by its type or by the dtype of its array. NumPy takes 10 us to name a dtype.
_SCALARS = {
    int: "int64",
    Serial: "int64",
    bool: "int64",
    float: "float64",
    Divisor: "float64",
    np.float32: "float32",
    np.float64: "float64",
}

_POINTERS = {code: f"*{np.dtype(code).name}" for code in "?bBhHiIlLqQfd"}


def _type_name(argument):
    return _SCALARS.get(type(argument)) or _POINTERS[argument.dtype.char]


def _load(make, constants, signature, device, threads, min_blocks):
    from cuda.core import ObjectCode

    code = build.cubin(make, constants, signature, devices.capability(device), threads, min_blocks)
    return ObjectCode.from_cubin(code).get_kernel(build.entry(code))


def _simulated(make, constants, cluster):
    from numba import cuda

    kernel = cuda.jit(make(*constants))
    kernel.cluster = cluster
    return kernel


def _simulated_value(argument):
    """The form of an argument in the simulator. NumPy's floats divide by zero as the hardware does; Python's do not."""
    return np.float64(argument) if isinstance(argument, float) else getattr(argument, "pointer", argument)


_wanted: dict | None = None  # during a dry run: arguments of `build.cubin` -> None


@contextlib.contextmanager
def dry_run(capability, multiprocessors):
    """Within it, calls on arrays of `memory.empty` run no kernel and need no driver. Yields the kernels that they would launch.

    They are the keys of a dict, as arguments of `build.cubin`, for a device of this compute capability and size. Memory is the host's, and
    is not written. One thread at a time.
    """
    global _wanted
    simulated, pretended = memory.SIMULATED, memory.pretended
    memory.SIMULATED, memory.pretended, _wanted = True, (capability, multiprocessors), {}
    try:
        yield _wanted
    finally:
        memory.SIMULATED, memory.pretended, _wanted = simulated, pretended, None


def run(kernels, make, constants, grid, threads, *arguments, cluster=1, min_blocks=1):
    """Launch the kernel ``make(*constants)`` asynchronously on the device and stream of a KernelSet.

    ==============  ==================================================================================================
    argument        meaning
    ==============  ==================================================================================================
    arguments       DeviceArrays, passed as pointers to their stored type; Python integers (int64); floats (float64);
                    np.float32 and np.float64. Their types are the signature of the kernel
    grid            blocks of the launch, a multiple of ``cluster``
    threads         threads of a block
    cluster         blocks of a cluster
    min_blocks      blocks that must fit on a multiprocessor; the compiler limits the registers of a thread accordingly
    ==============  ==================================================================================================
    """
    signature = tuple(map(_type_name, arguments))
    if _wanted is not None:
        _wanted[make, constants, signature, kernels.capability, threads, min_blocks] = None
        return
    key = make, constants, signature, kernels.device
    kernel = _loaded.get(key)
    if kernel is None:
        with _loading:
            kernel = _loaded.get(key)
            if kernel is None:
                if memory.SIMULATED:
                    kernel = _simulated(make, constants, cluster)
                else:
                    kernel = _load(make, constants, signature, kernels.device, threads, min_blocks)
                _loaded[key] = kernel
    if memory.SIMULATED:
        kernel[grid, threads](*map(_simulated_value, arguments))
        return
    from cuda.core import launch

    config = _config(grid, threads, cluster)
    launch(kernels.stream, config, kernel, *(getattr(a, "pointer", a) for a in arguments))
    if kernels.call is not None:
        kernels.call.step(launch, kernels.stream, config, kernel, *arguments)
