"""From the source of a kernel to a cubin, through Numba, NVVM, LTO-IR and nvJitLink. This needs no driver and no device.

A factory makes a kernel: it is a plain function of constants (numbers, strings, tuples) that returns the function to compile. It evaluates
everything that depends on the constants once. A compiled kernel is a file in the cache folder, named by a hash of all that it depends on.
"""

import contextlib
import hashlib
import json
import re
import threading
from functools import cache, lru_cache
from importlib.metadata import version

from nbloss.kernels import compile_notice, disk

PACKAGES = ("numba", "numba-cuda", "llvmlite", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink")

_compiling = threading.Lock()


@lru_cache(maxsize=256)
def _kernel_function(make, constants):
    """The kernel as one Python function per process, so that Numba compiles the functions it calls only once."""
    return make(*constants)


@cache
def _stamp():
    return disk.stamp(*(f"{package} {version(package)}" for package in PACKAGES))


def _numba_type(name):
    """The Numba type of a name such as "float32", or "*float32" for a pointer."""
    from numba.cuda import types

    return types.CPointer(getattr(types, name[1:])) if name.startswith("*") else getattr(types, name)


@contextlib.contextmanager
def _target_device(capability):
    """Numba compiles the functions that a kernel calls for the current device. There may be none: this replaces it."""
    from numba.cuda import dispatcher

    class Device:
        compute_capability = capability

    original = dispatcher.get_current_device
    dispatcher.get_current_device = Device
    try:
        yield
    finally:
        dispatcher.get_current_device = original


def compile_kernel(function, signature, capability, threads, min_blocks=1):
    """The cubin of a Python function for a compute capability such as (9, 0) and blocks of at most ``threads`` threads.

    The compiler limits registers so that ``min_blocks`` such blocks fit on a multiprocessor.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda
    from numba.cuda import types

    kinds = types.void(*(_numba_type(name) for name in signature))
    with _compiling, _target_device(capability):
        ir, _ = cuda.compile(function, kinds, device=False, abi="numba", cc=capability, output="ltoir", launch_bounds=(threads, min_blocks))
        options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", link_time_optimization=True)
        return bytes(Linker(ObjectCode.from_ltoir(ir), options=options).link("cubin").code)


def _file_name(make, constants, signature, capability, bounds):
    name = f"{make.__module__}.{make.__qualname__}"
    key = hashlib.sha256(json.dumps([name, constants, signature, capability, bounds], sort_keys=True).encode()).hexdigest()[:20]
    return f"cuda-{_stamp()}/{name}-sm{capability[0]}{capability[1]}-{key}{disk.GPU}"


def cubin(make, constants, signature, capability, threads, min_blocks=1):
    """The cubin of ``make(*constants)``, from the cache folder if it is there."""
    name = _file_name(make, constants, signature, capability, (threads, min_blocks))
    found = disk.read(name)
    if found:
        return found[0]
    with compile_notice.compiling():
        code = compile_kernel(_kernel_function(make, constants), signature, capability, threads, min_blocks)
    why = disk.write(name, code)
    if why:
        disk.complain_of_writing(why)
    disk.warn()
    return code


def entry(code):
    """The name of the kernel in a cubin: the name of its only section of instructions."""
    return re.search(rb"\0\.text\.([\w$.]+)\0", code)[1].decode()
