"""The cache of compiled CPU kernels on disk: the content of a file, the search for a file, and loading a kernel from it.

The file of a kernel is ``<stamp>/<target>/<module>.<function>-<variant>.kernel`` in a cache folder. The stamp is a hash of all sources and
versions, the target identifies the processor (``processor.targets``), and the variant the types of the arguments. A file has a header, with
the names of a few symbols, and an object file. Numba's own cache stores more, and takes half a second longer on a first call: it has to
import Numba's whole lowering, and the sources of all kernels, before it loads one.
"""

import json
import os
import zlib
from typing import NamedTuple

import llvmlite
import numba

from nbloss.kernels import disk
from nbloss.kernels.cpu import tuning
from nbloss.kernels.cpu.compile import processor
from nbloss.kernels.levels import LEVELS

# The versions that machine code depends on: Python's ABI (in ``disk.stamp``), and the minor versions of Numba and llvmlite, because the
# code calls Numba's helper functions and uses its structures. It depends neither on patch versions nor on NumPy, which only Numba's
# helpers access; docs/reliability.md describes the tests.
VERSIONS = [f"{package.__name__} {'.'.join(package.__version__.split('.')[:2])}" for package in (numba, llvmlite)]

STAMP = disk.stamp(*VERSIONS)


class Kernel(NamedTuple):
    """The object code of a kernel, and the symbols that are needed to call it."""

    name: str  # name of the Python function
    wrapper: str  # symbol of the CPython wrapper
    native: str  # symbol of the native function, which machine code calls
    environment: str  # symbol of the variable that holds the address of Numba's environment object
    initializers: list  # "module:function": functions of Numba to call before the code is loaded
    code: bytes


def file_name(kernel, variant, target):
    """The path of a kernel's file, relative to a cache folder."""
    return f"{STAMP}/{target}/{kernel}-{variant}{disk.CPU}"


def find(kernel, variant):
    """``(content, folder, target)`` of the best file that this process can run, or None."""
    for target in processor.targets():
        found = disk.read(file_name(kernel, variant, target))
        if found:
            return *found, target
    return None


def _count_kernels(folder):
    """``{target: number of kernels}`` in a folder, for these sources and versions; files that are not trusted do not count."""
    found = {}
    for path in sorted(folder.glob(f"{STAMP}/*/*{disk.CPU}")):
        if disk.trusted(folder, path):
            found[path.parent.name] = found.get(path.parent.name, 0) + 1
    return found


def _usage(target):
    """Whether this process uses kernels for a target, as text."""
    if target in processor.targets():
        return "used"
    return f"not used: this processor does not have {processor.lacking(target)}" if target in LEVELS else "not used: for another processor"


def describe():
    """The lines of ``python -m nbloss cache info``, which ``python -m nbloss info`` also prints: ``{name: text}``."""
    files, folder = disk.kept(), disk.cache_dir()
    gpu = sum(f.suffix == disk.GPU for f in files)
    cpu = sum(f.suffix == disk.CPU for f in files)
    lines = {"folder": f"{folder}{disk.note(folder)}"}
    if os.environ.get("NBLOSS_PRECOMPILED") == "0":
        lines["package"] = "not used, because NBLOSS_PRECOMPILED is 0"
    else:
        package = _count_kernels(disk.INSTALLED)
        lines["package"] = ", ".join(f"{n} for {t} ({_usage(t)})" for t, n in package.items()) or _unusable_kernels()
    usable = sum(n for target, n in _count_kernels(folder).items() if target in processor.targets())
    lines["kernels"] = f"{cpu} for the CPU, {usable} of them of these sources and versions and for this processor; {gpu} for GPUs"
    lines["size"] = f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB"
    lines["code for"] = f"{', '.join(processor.targets())}, searched in this order"
    return lines


def _unusable_kernels():
    others = list(disk.INSTALLED.glob(f"*/*/*{disk.CPU}"))
    return f"{len(others)} for other sources or versions (not used)" if others else "contains no kernels"


def of_compiled(result):
    """The ``Kernel`` of Numba's compile result."""
    description = result.fndesc
    if result.environment.consts:
        raise ValueError("the kernel has constants that are Python objects")
    initializers = [f"{f.__module__}:{f.__qualname__}" for f in result.reload_init]
    code = result.library._get_compiled_object()
    name, wrapper = description.qualname, description.llvm_cpython_wrapper_name
    return Kernel(name, wrapper, description.llvm_func_name, description.env_name, initializers, code)


def store(kernel, variant, compiled):
    """Write a ``Kernel`` to the cache folder. Returns the reason of a failure, or None."""
    header = json.dumps(compiled._replace(code=len(compiled.code))._asdict()).encode()
    return disk.write(file_name(kernel, variant, processor.targets()[0]), header + b"\n" + zlib.compress(compiled.code, 9))


def load(kernel, variant):
    """``(function for Python, address of the native function)`` from a file, or None if there is no usable file."""
    found = find(kernel, variant)
    if found is None:
        return None
    try:
        header, _, code = found[0].partition(b"\n")
        stored = Kernel(**json.loads(header))
        return _link(stored._replace(code=zlib.decompress(code)))
    except Exception:  # the caller compiles the kernel, whatever is wrong with the file
        return None


def offer_numbers():
    """Register the symbol under which compiled code finds the machine-dependent numbers of ``tuning``."""
    import ctypes

    from llvmlite import binding

    binding.add_symbol(tuning.MACHINE_SYMBOL, ctypes.addressof(tuning.MACHINE_NUMBERS))


def _link(kernel):
    """Link an object file and make it a Python function, with the parts of Numba that do not need its compiler."""
    from importlib import import_module

    from llvmlite import binding, ir
    from numba import _dynfunc
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.environment import Environment
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    with global_compiler_lock:
        context = cpu_target.target_context
        codegen = context.codegen()
        rtsys.initialize(context)
        offer_numbers()
        for initializer in kernel.initializers:
            module, _, function = initializer.partition(":")
            getattr(import_module(module), function)()
        empty = ir.Module(kernel.name)  # an empty module instead of the IR that other functions could link in
        empty.triple = codegen.magic_tuple()[0]
        bitcode = binding.parse_assembly(str(empty)).as_bitcode()
        library = codegen.unserialize_library((kernel.name, "object", (kernel.code, bitcode)))
        environment = Environment({"__name__": __name__})
        environment.env_name = kernel.environment
        codegen.set_env(kernel.environment, environment)
        entry, native = (codegen._engine.get_function_address(symbol) for symbol in (kernel.wrapper, kernel.native))
        if not entry or not native:
            raise ValueError("the object file lacks a symbol that its header names")
        return _dynfunc.make_function(disk, kernel.name.rpartition(".")[2], "compiled kernel", entry, environment, (library,)), native
