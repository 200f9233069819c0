"""Kernels on a stream. On hardware cubins through cuda.core, with raw pointers; in Numba's simulator the same source, on arrays.

Numba's own dispatcher would cost 10 to 60 us a launch, most of it in taking arrays apart.
"""

import threading
from functools import lru_cache

import numpy as np

from nbloss.kernels.cuda.runtime import build
from nbloss.kernels.cuda.runtime.memory import SIMULATED

_loaded = {}

_loading = threading.Lock()


@lru_cache(maxsize=1024)
def _config(grid, threads, cluster):
    from cuda.core import LaunchConfig

    if cluster == 1:
        return LaunchConfig(grid=grid, block=threads)
    return LaunchConfig(grid=grid // cluster, cluster=cluster, block=threads)


# An argument's name in a signature, by its type or by the dtype of its array; NumPy takes 10 us to name a dtype.
_NUMBERS = {int: "int64", bool: "int64", float: "float64", np.float32: "float32", np.float64: "float64"}

_POINTERS = {code: f"*{np.dtype(code).name}" for code in "?bBhHiIlLqQfd"}


def _kind(argument):
    return _NUMBERS.get(type(argument)) or _POINTERS[argument.dtype.char]


def _load(make, constants, signature, device, threads, at_once):
    from cuda.core import Device, ObjectCode

    capability = Device(device).compute_capability
    code = build.cubin(make, constants, signature, (capability.major, capability.minor), threads, at_once)
    return ObjectCode.from_cubin(code).get_kernel(build.entry(code))


def _simulated(make, constants, cluster):
    from numba import cuda

    kernel = cuda.jit(make(*constants))
    kernel.cluster = cluster
    return kernel


def _simulated_value(argument):
    """What the simulator passes for an argument: NumPy's floats, which divide by zero as the hardware does."""
    return np.float64(argument) if type(argument) is float else getattr(argument, "pointer", argument)


def run(kernels, make, constants, grid, threads, *arguments, cluster=1, at_once=1):
    """Launch the kernel ``make(*constants)`` asynchronously on the device and stream of ``twin``.

    ``arguments`` are Arrays (passed as pointers to their stored type), Python integers (int64), floats (float64) and np.float32; their
    types make the kernel's signature. ``grid`` counts blocks, ``cluster`` those of a cluster, of which there is a whole number,
    ``at_once`` the blocks that the registers of a multiprocessor shall have room for.
    """
    signature = tuple(map(_kind, arguments))
    key = make, constants, signature, kernels.device
    kernel = _loaded.get(key)
    if kernel is None:
        with _loading:
            kernel = _loaded.get(key)
            if kernel is None:
                if SIMULATED:
                    kernel = _simulated(make, constants, cluster)
                else:
                    kernel = _load(make, constants, signature, kernels.device, threads, at_once)
                _loaded[key] = kernel
    if SIMULATED:
        kernel[grid, threads](*map(_simulated_value, arguments))
    else:
        from cuda.core import launch

        launch(kernels.stream, _config(grid, threads, cluster), kernel, *(getattr(a, "pointer", a) for a in arguments))
