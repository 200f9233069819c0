"""Compiled CPU kernels on disk: what a file holds, where it is looked for, and how it becomes a function again.

A kernel's file is ``<stamp>/<target>/<module>.<function>-<variant>.kernel`` in a cache folder. The stamp stands for all sources and
versions, the target for the processor (``processor.targets``), the variant for the arguments' types. It holds machine code and a few
names. Numba's own cache keeps more, which costs a first call half a second: it must import all of Numba's lowering, and every source of the
kernels, before it loads one.
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

# Versions that machine code depends on: of Python the binary interface (in ``disk.stamp``), of Numba and llvmlite the series, as the
# code calls Numba's helpers and shares its structures. Not the patch versions, and not NumPy, which only Numba's helpers touch:
# docs/reliability.md says how that was found.
VERSIONS = [f"{package.__name__} {'.'.join(package.__version__.split('.')[:2])}" for package in (numba, llvmlite)]

STAMP = disk.stamp(*VERSIONS)


class Kernel(NamedTuple):
    """Machine code and what makes it a function."""

    name: str  # of the Python function
    wrapper: str  # symbol of the function that Python calls
    native: str  # symbol of the function that machine code calls
    environment: str  # symbol of its environment's address
    initializers: list  # "module:function" of Numba's, to be called before the code is loaded
    code: bytes


def file_name(kernel, variant, target):
    """Where a kernel lies below a cache folder."""
    return f"{STAMP}/{target}/{kernel}-{variant}{disk.CPU}"


def find(kernel, variant):
    """``(content, folder, target)`` of the best file that this process may run, or None."""
    for target in processor.targets():
        found = disk.read(file_name(kernel, variant, target))
        if found:
            return *found, target
    return None


def _counted(folder):
    """Target -> how many kernels a folder has for it, of these sources and versions, that may be read."""
    found = {}
    for path in sorted(folder.glob(f"{STAMP}/*/*{disk.CPU}")):
        if disk.trusted(folder, path):
            found[path.parent.name] = found.get(path.parent.name, 0) + 1
    return found


def _verdict(target):
    """What this process makes of another processor's kernels."""
    if target in processor.targets():
        return "used"
    return f"not used: this processor does not have {processor.lacking(target)}" if target in LEVELS else "not used: of another processor"


def describe():
    """Name and text of each line of ``python -m nbloss cache info``; ``python -m nbloss info`` has them, too."""
    files, folder = disk.kept(), disk.cache_dir()
    gpu = sum(f.suffix == disk.GPU for f in files)
    cpu = sum(f.suffix == disk.CPU for f in files)
    lines = {"folder": f"{folder}{disk.note(folder)}"}
    if os.environ.get("NBLOSS_PRECOMPILED") == "0":
        lines["package"] = "left alone, as NBLOSS_PRECOMPILED is 0"
    else:
        package = _counted(disk.INSTALLED)
        lines["package"] = ", ".join(f"{n} for {t} ({_verdict(t)})" for t, n in package.items()) or _nothing_fits()
    usable = sum(n for target, n in _counted(folder).items() if target in processor.targets())
    lines["kernels"] = f"{cpu} for the CPU, {usable} of them of these sources and versions and for this processor; {gpu} for GPUs"
    lines["size"] = f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB"
    lines["code for"] = f"{', '.join(processor.targets())}, looked for in this order"
    return lines


def _nothing_fits():
    others = list(disk.INSTALLED.glob(f"*/*/*{disk.CPU}"))
    return f"{len(others)} of other sources or versions (not used)" if others else "no kernels came with it"


def of_compiled(result):
    """What Numba's compilation of a kernel gives."""
    described = result.fndesc
    if result.environment.consts:
        raise ValueError("the kernel has Python objects among its constants")
    initializers = [f"{f.__module__}:{f.__qualname__}" for f in result.reload_init]
    code = result.library._get_compiled_object()
    name, wrapper = described.qualname, described.llvm_cpython_wrapper_name
    return Kernel(name, wrapper, described.llvm_func_name, described.env_name, initializers, code)


def store(kernel, variant, compiled):
    """Keep what ``of_compiled`` gives. Returns why that failed, or None."""
    header = json.dumps(compiled._replace(code=len(compiled.code))._asdict()).encode()
    return disk.write(file_name(kernel, variant, processor.targets()[0]), header + b"\n" + zlib.compress(compiled.code, 9))


def load(kernel, variant):
    """The function that Python calls, and the address that machine code calls; None where no file has them."""
    found = find(kernel, variant)
    if found is None:
        return None
    try:
        header, _, code = found[0].partition(b"\n")
        known = Kernel(**json.loads(header))
        return _linked(known._replace(code=zlib.decompress(code)))
    except Exception:  # whatever the file holds, the answer is to compile
        return None


def offer_numbers():
    """Let compiled code find the numbers of ``tuning`` that depend on the machine."""
    import ctypes

    from llvmlite import binding

    binding.add_symbol(tuning.MACHINE_SYMBOL, ctypes.addressof(tuning.MACHINE_NUMBERS))


def _linked(kernel):
    """Numba's way from an object file to a function, without what only a compiler needs."""
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
        nothing = ir.Module(kernel.name)  # in the place of the code that other functions could inline
        nothing.triple = codegen.magic_tuple()[0]
        bitcode = binding.parse_assembly(str(nothing)).as_bitcode()
        library = codegen.unserialize_library((kernel.name, "object", (kernel.code, bitcode)))
        environment = Environment({"__name__": __name__})
        environment.env_name = kernel.environment
        codegen.set_env(kernel.environment, environment)
        entry, native = (codegen._engine.get_function_address(symbol) for symbol in (kernel.wrapper, kernel.native))
        if not entry or not native:
            raise ValueError("the code has not what its header names")
        return _dynfunc.make_function(disk, kernel.name.rpartition(".")[2], "compiled kernel", entry, environment, (library,)), native
