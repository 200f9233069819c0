"""Calling kernels: each is loaded from disk, or compiled, when first needed, and run by one thread or several.

A kernel is a plain function ``body(*arguments, lo, hi)`` that works on the positions [lo, hi). Several threads take chunks of positions
from a common counter, so that one slow core does not hold the others. Kernels are named here by their module and function, as text: those
that are on disk run without their sources being imported.
"""

import gc
from contextlib import contextmanager

from nbloss import _forks
from nbloss.kernels import disk, notice
from nbloss.kernels.cpu import threads
from nbloss.kernels.cpu.processor import multiplies_and_adds

PACKAGE = __package__
LOOP = f"{PACKAGE}.shares.loop", ""  # the parallel loop: name and variant

# Numbers per chunk, at least 20 us of work, a thousand times the price of a ticket: of rows that are walked along their classes; of
# short rows, whose numbers take longer while the last chunk is waited for; of pixels, where a chunk begins in as many places as classes.
ALONG, SHORT_ROWS, PIXELS = 65536, 16384, 262144
LEAST_ROWS = 8  # rows per chunk, however long: what a thread fetches ahead is its own next row

_kernels: dict = {}  # (name, variant) -> what Python calls; LOOP -> an address
_keep: list = []  # what machine code belongs to

SLOW = (
    "this processor has no fused multiply-add (x86-64-v3): nbloss gives the same bits as elsewhere, but takes many times as long, "
    "longer than NumPy (docs/reliability.md)"
)


def variant_text(variant):
    """A variant as part of a file's name: dtypes by their names, facts as 0 and 1."""
    return "-".join(str(int(v)) if isinstance(v, bool) else v.name for v in variant)


def _compiled(name, variant, arguments, written):
    """Compile a kernel and keep it: ``(what Python calls, address)``."""
    from nbloss.kernels.cpu import build, cache

    collects = gc.isenabled()
    gc.disable()  # a compilation makes millions of objects and few of them garbage: a fifth of its time
    try:
        with notice.compiling():
            result = build.compile_loop(name) if (name, variant) == LOOP else build.compile_kernel(name, arguments, written)
    finally:
        if collects:
            gc.enable()
    try:
        why = cache.store(name, variant_text(variant), cache.of_compiled(result))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        disk.complain_of_writing(why)
    _keep.append(result)
    return result.entry_point, result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def _once(name, variant, arguments, written):
    key = name, variant
    with _forks.compiling:
        if key not in _kernels:
            from nbloss.kernels.cpu import cache

            if not multiplies_and_adds():
                disk.complain("slow", SLOW)
            found = cache.load(name, variant_text(variant)) or _compiled(name, variant, arguments, written)
            _keep.append(found)
            _kernels[key] = found[1] if key == LOOP else found[0]
        return _kernels[key]


def obtain(name, variant, arguments, written):
    """A kernel for arguments of these types, loaded or compiled. It takes (count, chunk, workers, loop) after the arguments."""
    kernel = _forks.shielded(_once, name, variant, arguments, written)
    disk.warn()
    return kernel


@contextmanager
def rehearsal():
    """Let calls go through without running a kernel; what they would run is in the dictionary that this gives: key -> how to compile it."""
    global _kernels, obtain
    wanted, usual = {}, (_kernels, obtain)

    def record(name, variant, arguments, written):
        wanted[name, variant] = arguments, written
        return lambda *arguments: True

    _kernels, obtain = {}, record
    try:
        yield wanted
    finally:
        _kernels, obtain = usual


def loop(workers):
    """What a kernel is given for so many threads: the address of the loop that runs them, 0 for one alone."""
    if workers == 1:
        return 0
    found = _kernels.get(LOOP)
    if found is None:
        threads.load_tbb()
        found = obtain(*LOOP, (), ())
    return found


def chunk_of(count, numbers, workers, multiple, along, inner):
    """How many positions a thread takes at a time: a whole ``multiple``, of ``numbers`` each."""
    most = ALONG if along else PIXELS if inner > 1 else SHORT_ROWS
    chunk = min(max(most // max(numbers, 1), LEAST_ROWS), -(-count // (4 * workers)))
    return -(-chunk // multiple) * multiple


def run(name, variant, arguments, written, count, numbers, multiple=1, along=True, inner=1):
    """Run a kernel over ``count`` positions; what it returns.

    ``variant`` is all that its arguments' types depend on: nothing looks at them again. ``numbers`` is what a position costs, in numbers
    touched; chunks are whole ``multiple``\\ s of positions, which are walked ``along`` their numbers or side by side, ``inner`` of them
    next to each other in memory.
    """
    kernel = _kernels.get((name, variant))
    if kernel is None:
        kernel = obtain(name, variant, arguments, written)
    workers = 1 if count * numbers < threads.SERIAL_BELOW else threads.join()
    if workers == 1:
        return kernel(*arguments, count, count, 1, 0)
    try:
        return kernel(*arguments, count, chunk_of(count, numbers, workers, multiple, along, inner), workers, loop(workers))
    finally:
        threads.leave()
