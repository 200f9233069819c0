"""From a kernel's source to a cubin, with no driver and no device at hand: Numba, NVVM, LTO-IR, nvJitLink.

A kernel is made by a factory, a plain function of constants (numbers and strings) that returns the function to compile; what depends on
the constants is decided there, once. A compiled kernel is a file in the cache folder, named by all that it depends on.
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
def _made(make, constants):
    """One function for all that is compiled of it: what it calls is compiled once in a process."""
    return make(*constants)


@cache
def _stamp():
    return disk.stamp(*(f"{package} {version(package)}" for package in PACKAGES))


def _numba_type(name):
    """The Numba type of "float32", or of "*float32" for a pointer."""
    from numba.cuda import types

    return types.CPointer(getattr(types, name[1:])) if name.startswith("*") else getattr(types, name)


@contextlib.contextmanager
def _pretending(capability):
    """Functions that a kernel calls are compiled for the current device; here there may be none, or another one."""
    from numba.cuda import dispatcher

    class Device:
        compute_capability = capability

    real = dispatcher.get_current_device
    dispatcher.get_current_device = Device
    try:
        yield
    finally:
        dispatcher.get_current_device = real


def compile_kernel(function, signature, capability, threads, at_once=1):
    """The cubin of a Python function for a compute capability, (9, 0) say, and blocks of at most ``threads`` threads.

    Registers are given out so that ``at_once`` such blocks fit on a multiprocessor.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda
    from numba.cuda import types

    kinds = types.void(*(_numba_type(name) for name in signature))
    with _compiling, _pretending(capability):
        ir, _ = cuda.compile(function, kinds, device=False, abi="numba", cc=capability, output="ltoir", launch_bounds=(threads, at_once))
        options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", link_time_optimization=True)
        return bytes(Linker(ObjectCode.from_ltoir(ir), options=options).link("cubin").code)


def _file_name(make, constants, signature, capability, bounds):
    name = f"{make.__module__}.{make.__qualname__}"
    key = hashlib.sha256(json.dumps([name, constants, signature, capability, bounds], sort_keys=True).encode()).hexdigest()[:20]
    return f"cuda-{_stamp()}/{name}-sm{capability[0]}{capability[1]}-{key}{disk.GPU}"


def cubin(make, constants, signature, capability, threads, at_once=1):
    """The cubin of ``make(*constants)``, from disk if it was ever built here."""
    name = _file_name(make, constants, signature, capability, (threads, at_once))
    found = disk.read(name)
    if found:
        return found[0]
    with compile_notice.compiling():
        code = compile_kernel(_made(make, constants), signature, capability, threads, at_once)
    why = disk.write(name, code)
    if why:
        disk.complain_of_writing(why)
    disk.warn()
    return code


def entry(code):
    """The kernel's name in a cubin: that of its one section of instructions."""
    return re.search(rb"\0\.text\.([\w$.]+)\0", code)[1].decode()
