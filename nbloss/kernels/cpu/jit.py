"""Floor 1: from a kernel's source to a compiled call.

A kernel is a plain function ``body(*arguments, lo, hi)`` that works on the positions [lo, hi). It is compiled when first needed, for one
thread or several, which take chunks of positions from a common counter, so that one slow core does not hold the others. Signatures are
explicit (any strides, read-only allowed), so no layout or constness of a user's array starts a compilation, and one dispatcher holds
one signature.
"""

import gc
import inspect

import numpy as np
from numba import njit, types
from numba.np import numpy_support

from nbloss import _forks
from nbloss.kernels.cpu import threads
from nbloss.kernels.cpu.cache import KernelCache, cache_dir
from nbloss.kernels.cpu.memory import fetch_add, put, smaller
from nbloss.kernels.cpu.parts import ALONE, PART
from nbloss.kernels.cpu.rooms import local
from nbloss.kernels.cpu.shares import OPTIONS, compile_loop, share

__all__ = ["cache_dir", "compiled", "run"]

# Numbers per chunk, at least 20 us of work, a thousand times the price of a ticket: of rows that are walked along their classes; of
# short rows, whose numbers take longer while the last chunk is waited for; of pixels, where a chunk begins in as many places as classes.
ALONG, SHORT_ROWS, PIXELS = 65536, 16384, 262144
RUN = 8  # rows per chunk, however long: what a thread fetches ahead is its own next row

_compiled = {}


def _argument_type(name, value, written):
    """The Numba type of an argument: arrays with any strides, read-only unless the kernel writes them."""
    if value is None:
        return types.none
    if isinstance(value, np.ndarray):
        layout = "C" if value.ndim == 1 else "A"
        return types.Array(numpy_support.from_dtype(value.dtype), value.ndim, layout, readonly=name not in written)
    return {bool: types.boolean, int: types.int64, float: types.float64}[type(value)]


def shared(body):
    """``body`` for so many positions, in chunks of so many, by so many threads of the loop at an address.

    The source is made here because Numba's functions take no ``*args`` of arrays and None; its own names are none of a body's.
    """
    given = ", ".join(list(inspect.signature(body).parameters)[:-2])
    source = (
        f"def _part({given}, _count, _chunk, _ticket):\n"
        "    _lo = _fetch_add(_ticket, _chunk)\n"
        "    while _lo < _count:\n"
        f"        _body({given}, _lo, _smaller(_lo + _chunk, _count))\n"
        "        _lo = _fetch_add(_ticket, _chunk)\n"
        f"def {body.__name__}({given}, _count, _chunk, _workers, _loop):\n"
        "    _ticket = _local(_int64, 8)\n"
        "    _put(_ticket, 0, 0)\n"
        f"    _share(_loop, _workers, _part, ({given}, _count, _chunk, _ticket))\n"
    )
    tools = {"_fetch_add": fetch_add, "_smaller": smaller, "_share": share, "_local": local, "_put": put, "_int64": np.int64}
    space = {"__name__": body.__module__, "_body": njit(**OPTIONS, **PART)(body), **tools}
    exec(compile(source, body.__code__.co_filename, "exec"), space)
    space["_part"] = njit(**OPTIONS, **PART)(space["_part"])
    return space[body.__name__]


def _compile(body, arguments, written):
    names = list(inspect.signature(body).parameters)
    shares = names[-2:] == ["workers", "loop"]
    signature = [_argument_type(n, a, written) for n, a in zip(names[: -4 if shares else -2], arguments, strict=True)]
    dispatcher = njit(**OPTIONS, **ALONE)(body if shares else shared(body))
    dispatcher._cache = KernelCache(f"{body.__module__.rpartition('.')[2]}.{body.__qualname__}")
    dispatcher.compile((*signature, types.int64, types.int64, types.int64, types.int64))
    dispatcher.disable_compile()
    if not shares:
        return dispatcher
    (code,) = dispatcher.overloads.values()
    return code.entry_point  # the dispatcher would look at every argument's type again (0.6 us); the short way has done so


def _compile_loop():
    threads.load_tbb()
    return compile_loop(KernelCache("shares.loop"))


def _once(key, make, *arguments):
    with _forks.compiling:
        if key not in _compiled:
            collects = gc.isenabled()
            gc.disable()  # a compilation makes millions of objects and few of them garbage: a fifth of its time
            try:
                _compiled[key] = make(*arguments)
            finally:
                if collects:
                    gc.enable()
        return _compiled[key]


def compiled(body, variant, arguments, written):
    """A kernel for arguments of these types; compiled, or read from disk, when first needed.

    It takes (count, chunk, workers, loop) after the arguments, as a body may itself: one that ``shares`` its work.
    """
    key = body, variant
    kernel = _compiled.get(key)
    if kernel is None:
        kernel = _forks.shielded(_once, key, _compile, body, arguments, written)
    return kernel


def loop(workers):
    """What a kernel is given for so many threads: the address of the loop that runs them, 0 for one alone."""
    if workers == 1:
        return 0
    found = _compiled.get("loop") or _forks.shielded(_once, "loop", _compile_loop)
    return found[1]


def chunk_of(count, numbers, workers, multiple, along, inner):
    """How many positions a thread takes at a time: a whole ``multiple``, of ``numbers`` each."""
    most = ALONG if along else PIXELS if inner > 1 else SHORT_ROWS
    chunk = min(max(most // max(numbers, 1), RUN), -(-count // (4 * workers)))
    return -(-chunk // multiple) * multiple


def run(body, variant, arguments, written, count, numbers, multiple=1, along=True, inner=1):
    """Run a kernel over ``count`` positions; what it returns.

    ``variant`` is what its arguments' types depend on; ``numbers`` what a position costs, in numbers touched; chunks are whole
    ``multiple``\\ s of positions, which are walked ``along`` their numbers or side by side, ``inner`` of them next to each other in memory.
    """
    kernel = compiled(body, variant, arguments, written)
    workers = 1 if count * numbers < threads.SERIAL_BELOW else threads.join()
    if workers == 1:
        return kernel(*arguments, count, count, 1, 0)
    try:
        return kernel(*arguments, count, chunk_of(count, numbers, workers, multiple, along, inner), workers, loop(workers))
    finally:
        threads.leave()
