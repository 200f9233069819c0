"""From the source of a kernel to a cubin, through Numba, NVVM, LTO-IR and nvJitLink. This needs no driver and no device.

A factory makes a kernel: it is a plain function of constants (numbers, strings, tuples) that returns the function to compile. It evaluates
everything that depends on the constants once. A compiled kernel is a file in the cache folder, named by a hash of all that it depends on:
the sources, the constants, the types of the arguments, the compute capability, and the versions of the compiler's packages. It depends
neither on Python nor on the machine, so a cache folder can be carried to a machine with a GPU and without a compiler.
"""

import contextlib
import hashlib
import json
import re
import threading
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version

from nbloss.kernels import compile_notice, disk

COMPILERS = ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink")

_compiling = threading.Lock()


@lru_cache(maxsize=256)
def _kernel_function(make, constants):
    """The kernel as one Python function per process, so that Numba compiles the functions it calls only once."""
    return make(*constants)


@cache
def _version(package):
    """The version of a package; "none" where it is not installed, as on a machine whose kernels were compiled elsewhere."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@cache
def _folders():
    """``(prefix, name)``: what all folders of cubins of these sources begin with, and the folder of the compilers that are installed."""
    if disk.SOURCES is None:
        return disk.UNKNOWN, disk.UNKNOWN
    prefix = f"cuda-{disk.SOURCES[:16]}"
    versions = "\n".join(f"{package} {_version(package)}" for package in COMPILERS)
    return prefix, f"{prefix}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}"


def _can_compile():
    return all(_version(package) != "none" for package in COMPILERS)


def _numba_type(name):
    """The Numba type of a name such as "float32", or "*float32" for a pointer."""
    from numba.cuda import types

    return types.CPointer(getattr(types, name[1:])) if name.startswith("*") else getattr(types, name)


@contextlib.contextmanager
def _numpy_2_4():
    """numba-cuda 0.30 looks for ``numpy.row_stack`` when it first compiles. NumPy 2.5 has removed it."""
    import numpy as np

    missing = not hasattr(np, "row_stack")
    if missing:
        np.row_stack = np.vstack
    try:
        yield
    finally:
        if missing:
            del np.row_stack


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

    with _compiling, _numpy_2_4():
        from numba import cuda
        from numba.cuda import types

        kinds = types.void(*(_numba_type(name) for name in signature))
    with _compiling, _numpy_2_4(), _target_device(capability):
        ir, _ = cuda.compile(function, kinds, device=False, abi="numba", cc=capability, output="ltoir", launch_bounds=(threads, min_blocks))
        options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", link_time_optimization=True)
        return bytes(Linker(ObjectCode.from_ltoir(ir), options=options).link("cubin").code)


def _file_name(make, constants, signature, capability, bounds):
    """The file of a kernel in a folder of cubins."""
    name = f"{make.__module__}.{make.__qualname__}"
    key = hashlib.sha256(json.dumps([name, constants, signature, capability, bounds], sort_keys=True).encode()).hexdigest()[:20]
    return f"{name}-sm{capability[0]}{capability[1]}-{key}{disk.GPU}"


def find(make, constants, signature, capability, threads, min_blocks=1):
    """A kept cubin, or None. Where no compiler is installed, one of any compiler's version will do."""
    prefix, folder = _folders()
    name = _file_name(make, constants, signature, capability, (threads, min_blocks))
    found = disk.read(f"{folder}/{name}")
    if found is None and not _can_compile():
        found = next(filter(None, (disk.read(f"{other}/{name}") for other in disk.children(prefix))), None)
    return found and found[0]


def cubin(make, constants, signature, capability, threads, min_blocks=1):
    """The cubin of ``make(*constants)``, from the cache folder if it is there."""
    code = find(make, constants, signature, capability, threads, min_blocks)
    if code is None:
        if not _can_compile():
            absent, needed = ", ".join(p for p in COMPILERS if _version(p) == "none"), f"{capability[0]}.{capability[1]}"
            raise RuntimeError(
                f"the kernel {make.__qualname__} for compute capability {needed} is not in {disk.cache_dir()}, and it cannot be compiled, "
                f'because {absent} is not installed: pip install "nbloss[cuda]", or run `python -m nbloss warmup --device cuda '
                f"--capability {needed}` where it is, and carry the cache folder"
            )
        with compile_notice.compiling():
            code = compile_kernel(_kernel_function(make, constants), signature, capability, threads, min_blocks)
        why = disk.write(f"{_folders()[1]}/{_file_name(make, constants, signature, capability, (threads, min_blocks))}", code)
        if why:
            disk.complain_of_writing(why)
        disk.warn()
    return code


def entry(code):
    """The name of the kernel in a cubin: the name of its only section of instructions."""
    return re.search(rb"\0\.text\.([\w$.]+)\0", code)[1].decode()
