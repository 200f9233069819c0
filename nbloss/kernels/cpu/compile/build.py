"""Compiles kernels with Numba.

Signatures are explicit: arrays may have any strides, and arrays that a kernel does not write may be read-only. So the layout or the
writeable flag of a user's array never causes a compilation, and each dispatcher has one signature. This module and the sources of the
kernels are imported only if a kernel has to be compiled.
"""

import inspect
from importlib import import_module

import numpy as np
from numba import njit, types
from numba.np import numpy_support

from nbloss.kernels.cpu.compile.cache import offer_numbers
from nbloss.kernels.cpu.compile.parallel_for import run_parallel
from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, KERNEL, LOOP, OPTIONS
from nbloss.kernels.cpu.simd.arguments import Borrowed, integers
from nbloss.kernels.cpu.simd.load_store import put
from nbloss.kernels.cpu.simd.pointers import fetch_add, min_int
from nbloss.kernels.cpu.simd.workspace import stack_alloc
from nbloss.kernels.math.epilogue import RowOptions

offer_numbers()


def _argument_type(name, value, written):
    """The Numba type of an argument: arrays of any strides, read-only unless they are ``written``; class numbers of any item size."""
    if value is None:
        return types.none
    if name == "target":
        return integers
    if isinstance(value, np.ndarray):
        layout = "C" if value.ndim == 1 else "A"
        axes = 1 if value.ndim == 1 else 3
        return Borrowed(numpy_support.from_dtype(value.dtype), axes, layout, readonly=name not in written)
    if isinstance(value, RowOptions):
        return types.NamedTuple([types.none if field is None else numpy_support.from_dtype(field.dtype) for field in value], RowOptions)
    return {bool: types.boolean, int: types.int64, float: types.float64}[type(value)]


def parallel_kernel(body):
    """A kernel that calls ``body`` on chunks of the positions, in parallel: ``kernel(*arguments, count, chunk, workers, loop)``.

    ``loop`` is the address of the parallel loop (``parallel_for``), or 0 for one thread. Each thread takes chunks of ``chunk`` positions
    from an atomic counter (a ticket) until all ``count`` positions are done.

    The source is generated, because functions compiled by Numba cannot pass on ``*args`` that contain arrays and None. Its names begin
    with an underscore, so they do not collide with the parameters of a body. Its file name is no existing file: given a body's file,
    Python 3.13 fails when it looks for the generated lines there.
    """
    parameters = ", ".join(list(inspect.signature(body).parameters)[:-2])
    source = (
        f"def _part({parameters}, _count, _chunk, _ticket):\n"
        "    _lo = _fetch_add(_ticket, _chunk)\n"
        "    while _lo < _count:\n"
        f"        _body({parameters}, _lo, _min_int(_lo + _chunk, _count))\n"
        "        _lo = _fetch_add(_ticket, _chunk)\n"
        f"def {body.__name__}({parameters}, _count, _chunk, _workers, _loop):\n"
        "    _ticket = _stack_alloc(_int64, 8)\n"
        "    _put(_ticket, 0, 0)\n"
        f"    _run_parallel(_loop, _workers, _part, ({parameters}, _count, _chunk, _ticket))\n"
    )
    helpers = {
        "_fetch_add": fetch_add,
        "_min_int": min_int,
        "_run_parallel": run_parallel,
        "_stack_alloc": stack_alloc,
        "_put": put,
        "_int64": np.int64,
    }
    namespace = {"__name__": body.__module__, "_body": njit(**OPTIONS, **INLINE_ONLY)(body), **helpers}
    exec(compile(source, f"<nbloss {body.__module__}.{body.__qualname__}>", "exec"), namespace)
    namespace["_part"] = njit(**OPTIONS, **INLINE_ONLY)(namespace["_part"])
    return namespace[body.__name__]


def compile_kernel(name, arguments, written):
    """Numba's compile result for the kernel ``name`` ("<module>.<function>") and arguments of these types."""
    module, _, function = name.rpartition(".")
    body = getattr(import_module(module), function)
    names = list(inspect.signature(body).parameters)
    has_own_loop = names[-2:] == ["workers", "loop"]
    signature = [_argument_type(n, a, written) for n, a in zip(names[: -4 if has_own_loop else -2], arguments, strict=True)]
    dispatcher = njit(**OPTIONS, **KERNEL)(body if has_own_loop else parallel_kernel(body))
    return _compile(dispatcher, (*signature, types.int64, types.int64, types.int64, types.int64))


def compile_loop(name):
    """Numba's compile result for the parallel loop ``name``."""
    module, _, function = name.rpartition(".")
    dispatcher = njit(**OPTIONS, **LOOP)(getattr(import_module(module), function))
    return _compile(dispatcher, (types.int64, types.int64, types.int64))


def _compile(dispatcher, signature):
    dispatcher.compile(signature)
    (result,) = dispatcher.overloads.values()
    return result
