"""Floor 1: from a kernel's source to a compiled call.

A kernel is a plain function ``body(*arguments, lo, hi)`` that works on the positions [lo, hi). It is compiled twice, each when first
needed: as it stands, for small work, and inside a parallel loop whose threads take chunks of positions from a common counter, so that
one slow core does not hold the others. Signatures are explicit (any strides, read-only allowed), so no layout or constness of a
user's array starts a compilation, and one dispatcher holds one signature.
"""

import gc
import inspect

import numpy as np
from numba import njit, prange, types
from numba.np import numpy_support

from nbloss import _forks
from nbloss.kernels.cpu import threads
from nbloss.kernels.cpu.cache import KernelCache, cache_dir
from nbloss.kernels.cpu.memory import fetch_add, smaller
from nbloss.kernels.cpu.parts import ALONE, PART

__all__ = ["cache_dir", "compiled", "run"]

OPTIONS = {"error_model": "numpy", "fastmath": False, "nogil": True}
ALONG, SHORT_ROWS, PIXELS = 65536, 16384, 262144  # numbers per chunk: at least 20 us of work, a thousand times the price of a ticket
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


def _parallel_body(body, names):
    """The same work, by several threads; the source is made here because Numba's parallel loops take no ``*args``."""
    given = ", ".join(names)
    source = (
        f"def {body.__name__}({given}, count, chunk, workers, ticket):\n"
        "    for worker in prange(workers):\n"
        "        lo = fetch_add(ticket, chunk)\n"
        "        while lo < count:\n"
        f"            body({given}, lo, smaller(lo + chunk, count))\n"
        "            lo = fetch_add(ticket, chunk)\n"
    )
    space = {"__name__": __name__, "prange": prange, "fetch_add": fetch_add, "smaller": smaller, "body": njit(**OPTIONS, **PART)(body)}
    exec(compile(source, body.__code__.co_filename, "exec"), space)
    return space[body.__name__]


def _compile(body, arguments, written, parallel, shares):
    names = list(inspect.signature(body).parameters)[:-2]
    signature = [_argument_type(n, a, written) for n, a in zip(names, arguments, strict=True)]
    signature += [types.int64, types.int64]
    name = f"{body.__module__.rpartition('.')[2]}.{body.__qualname__}.{'parallel' if parallel else 'serial'}"
    if parallel:
        threads.load_tbb()
    if parallel and not shares:
        body = _parallel_body(body, names)
        signature += [types.int64, types.Array(types.int64, 1, "C")]
    dispatcher = njit(parallel=parallel, **OPTIONS, **ALONE)(body)
    dispatcher._cache = KernelCache(name)
    dispatcher.compile(tuple(signature))
    dispatcher.disable_compile()
    return dispatcher


def _compile_once(key, arguments, written, shares):
    with _forks.compiling:
        if key not in _compiled:
            body, _, parallel = key
            collects = gc.isenabled()
            gc.disable()  # a compilation makes millions of objects and few of them garbage: a fifth of its time
            try:
                _compiled[key] = _compile(body, arguments, written, parallel, shares)
            finally:
                if collects:
                    gc.enable()
        return _compiled[key]


def compiled(body, variant, arguments, written, parallel=False, shares=False):
    """The dispatcher of a kernel for arguments of these types; compiled, or read from disk, when first needed.

    A body that ``shares`` its work has a parallel loop of its own, and takes (chunk, workers) in place of (lo, hi).
    """
    key = body, variant, parallel
    kernel = _compiled.get(key)
    if kernel is None:
        kernel = _forks.shielded(_compile_once, key, arguments, written, shares)
    return kernel


def chunk_numbers(along, inner):
    """How many numbers make a chunk: of rows that are walked along their classes; of short rows, whose numbers take longer while the last
    chunk is waited for; of pixels, where a chunk begins in as many places as there are classes."""
    if along:
        return ALONG
    return PIXELS if inner > 1 else SHORT_ROWS


def chunk_of(count, numbers, workers, multiple, most):
    """How many positions a thread takes at a time: a whole ``multiple``, of ``numbers`` each, about ``most`` together."""
    chunk = min(max(most // max(numbers, 1), RUN), -(-count // (4 * workers)))
    return -(-chunk // multiple) * multiple


def run(body, variant, arguments, written, count, numbers, multiple=1, most=ALONG):
    """Run a kernel over ``count`` positions.

    ``variant`` is what its arguments' types depend on; ``numbers`` what a position costs, in numbers touched; chunks are whole
    ``multiple``\\ s of positions, of about ``most`` numbers.
    """
    if count * numbers < threads.SERIAL_BELOW:
        compiled(body, variant, arguments, written)(*arguments, 0, count)
        return
    with threads.team() as workers:
        kernel = compiled(body, variant, arguments, written, workers > 1)
        if workers == 1:
            kernel(*arguments, 0, count)
            return
        kernel(*arguments, count, chunk_of(count, numbers, workers, multiple, most), workers, np.zeros(8, np.int64))
