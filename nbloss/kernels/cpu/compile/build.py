"""From a kernel's source to machine code, by Numba.

Signatures are explicit (any strides, read-only allowed), so no layout or constness of a user's array starts a compilation, and one
dispatcher holds one signature. This module and the kernels' sources are imported only where something has to be compiled.
"""

import inspect
from importlib import import_module

import numpy as np
from numba import njit, types
from numba.np import numpy_support

from nbloss.kernels.cpu.compile.cache import offer_numbers
from nbloss.kernels.cpu.compile.parallel_for import run_parallel
from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, KERNEL, LOOP, OPTIONS
from nbloss.kernels.cpu.simd.load_store import put
from nbloss.kernels.cpu.simd.pointers import fetch_add, integers, min_int
from nbloss.kernels.cpu.simd.workspace import stack_alloc
from nbloss.kernels.math.epilogue import RowOptions

offer_numbers()


def _argument_type(name, value, written):
    """The Numba type of an argument: arrays with any strides, read-only unless the kernel writes them; class numbers of any size."""
    if value is None:
        return types.none
    if name == "target":
        return integers
    if isinstance(value, np.ndarray):
        layout = "C" if value.ndim == 1 else "A"
        return types.Array(numpy_support.from_dtype(value.dtype), value.ndim, layout, readonly=name not in written)
    if isinstance(value, RowOptions):
        return types.NamedTuple([numpy_support.from_dtype(field.dtype) for field in value], RowOptions)
    return {bool: types.boolean, int: types.int64, float: types.float64}[type(value)]


def parallel_kernel(body):
    """``body`` for so many positions, in chunks of so many, by so many threads of the loop at an address.

    The source is made here because Numba's functions take no ``*args`` of arrays and None; its own names are none of a body's. Its file
    name is none: Python 3.13 fails to look for lines of one source in another's file.
    """
    given = ", ".join(list(inspect.signature(body).parameters)[:-2])
    source = (
        f"def _part({given}, _count, _chunk, _ticket):\n"
        "    _lo = _fetch_add(_ticket, _chunk)\n"
        "    while _lo < _count:\n"
        f"        _body({given}, _lo, _min_int(_lo + _chunk, _count))\n"
        "        _lo = _fetch_add(_ticket, _chunk)\n"
        f"def {body.__name__}({given}, _count, _chunk, _workers, _loop):\n"
        "    _ticket = _stack_alloc(_int64, 8)\n"
        "    _put(_ticket, 0, 0)\n"
        f"    _run_parallel(_loop, _workers, _part, ({given}, _count, _chunk, _ticket))\n"
    )
    tools = {
        "_fetch_add": fetch_add,
        "_min_int": min_int,
        "_run_parallel": run_parallel,
        "_stack_alloc": stack_alloc,
        "_put": put,
        "_int64": np.int64,
    }
    space = {"__name__": body.__module__, "_body": njit(**OPTIONS, **INLINE_ONLY)(body), **tools}
    exec(compile(source, f"<nbloss {body.__module__}.{body.__qualname__}>", "exec"), space)
    space["_part"] = njit(**OPTIONS, **INLINE_ONLY)(space["_part"])
    return space[body.__name__]


def compile_kernel(name, arguments, written):
    """What Numba makes of the function of this name ("<module>.<function>" below this package) for such arguments."""
    module, _, function = name.rpartition(".")
    body = getattr(import_module(module), function)
    names = list(inspect.signature(body).parameters)
    whole_call = names[-2:] == ["workers", "loop"]
    signature = [_argument_type(n, a, written) for n, a in zip(names[: -4 if whole_call else -2], arguments, strict=True)]
    dispatcher = njit(**OPTIONS, **KERNEL)(body if whole_call else parallel_kernel(body))
    return _compiled(dispatcher, (*signature, types.int64, types.int64, types.int64, types.int64))


def compile_loop(name):
    """What Numba makes of the parallel loop."""
    module, _, function = name.rpartition(".")
    dispatcher = njit(**OPTIONS, **LOOP)(getattr(import_module(module), function))
    return _compiled(dispatcher, (types.int64, types.int64, types.int64))


def _compiled(dispatcher, signature):
    dispatcher.compile(signature)
    (result,) = dispatcher.overloads.values()
    return result
