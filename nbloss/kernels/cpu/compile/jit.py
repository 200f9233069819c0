"""Runs kernels. A kernel is loaded from disk, or compiled, when it is first called, and runs on one thread or on several.

A kernel is a plain function ``body(*arguments, lo, hi)`` that processes the positions [lo, hi). Threads take chunks of positions from a
shared counter, so that a slow core does not delay the others. Kernels are identified by the names of their module and function, so that a
kernel on disk runs without importing its source.
"""

import gc
import warnings
from contextlib import contextmanager

from nbloss import _fork_safety
from nbloss.kernels import compile_notice, disk
from nbloss.kernels.cpu.compile import threads
from nbloss.kernels.cpu.compile.processor import multiplies_and_adds
from nbloss.kernels.cpu.tuning import (
    CHUNK_MIN_ROWS,
    SERIAL_BELOW_ELEMENTS,
)

LOOP = f"{__package__}.parallel_for.loop", ""  # name and variant of the parallel loop


_kernels: dict = {}  # (name, variant) -> function for Python; LOOP -> address of the native function

ready: dict = {}  # what ``nbloss._fast_path`` and ``kernel_set`` keep of small calls that were made (``keep``); empty in a dry run

MAX_READY = 4096  # calls

_owners: list = []  # the owners of the machine code, which must not be freed

SLOW = (
    "this processor has no fused multiply-add (x86-64-v3): nbloss gives the same bits as elsewhere, but takes many times as long, "
    "longer than NumPy (docs/reliability.md)"
)


def variant_text(variant):
    """A variant as part of a file name: names of dtypes, and 0 or 1 for booleans."""
    return "-".join(str(int(v)) if isinstance(v, bool) else v.name for v in variant)


def _compile(name, variant, arguments, written):
    """Compile a kernel and write it to the cache; returns ``(function for Python, address of the native function)``."""
    from nbloss.kernels.cpu.compile import build, cache

    gc_was_enabled = gc.isenabled()
    gc.disable()  # a compilation allocates millions of objects, few of them garbage: the collector takes a fifth of its time
    try:
        with compile_notice.compiling():
            result = build.compile_loop(name) if (name, variant) == LOOP else build.compile_kernel(name, arguments, written)
    finally:
        if gc_was_enabled:
            gc.enable()
    try:
        why = cache.store(name, variant_text(variant), cache.of_compiled(result))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        disk.complain_of_writing(why)
    _owners.append(result)
    return result.entry_point, result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def _load_or_compile(name, variant, arguments, written):
    """Load or compile a kernel, unless another thread has done so meanwhile."""
    key = name, variant
    with _fork_safety.compiling:
        if key not in _kernels:
            from nbloss.kernels.cpu.compile import cache

            if not multiplies_and_adds():
                disk.complain("slow", SLOW)
            found = cache.load(name, variant_text(variant)) or _compile(name, variant, arguments, written)
            _owners.append(found)
            _kernels[key] = found[1] if key == LOOP else found[0]
        return _kernels[key]


def obtain(name, variant, arguments, written, why=""):
    """The kernel for arguments of these types, loaded or compiled. It takes (count, chunk, workers, loop) after the arguments."""
    kernel = _fork_safety.shielded(_load_or_compile, name, variant, arguments, written)
    disk.warn()
    return kernel


@contextmanager
def dry_run():
    """Within this context, calls record the kernels that they need instead of running them.

    Results hold anything, so warnings, which may be about them, are not shown.

    The value is a dictionary ``{(name, variant): (arguments, names of the written ones, reason of the choice)}``.
    """
    global _kernels, obtain, ready
    recorded, saved = {}, (_kernels, obtain, ready)

    def record(name, variant, arguments, written, why=""):
        recorded[name, variant] = arguments, written, why
        return lambda *arguments: True

    _kernels, obtain, ready = {}, record, {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield recorded
    finally:
        _kernels, obtain, ready = saved


def loop(workers):
    """The address of the parallel loop for a kernel that runs on ``workers`` threads; 0 for one thread."""
    if workers == 1:
        return 0
    found = _kernels.get(LOOP)
    if found is None:
        threads.load_tbb()
        found = obtain(*LOOP, (), ())
    return found


def chunk_of(count, grain, workers):
    """The positions of a chunk: at most a quarter of a thread's share, and a multiple of ``grain.multiple``."""
    chunk = min(max(grain.chunk // max(grain.elements, 1), CHUNK_MIN_ROWS), -(-count // (4 * workers)))
    return -(-chunk // grain.multiple) * grain.multiple


def keep(key, value):
    """Keep what a small call needs to be made again."""
    if len(ready) >= MAX_READY:
        ready.clear()
    ready[key] = value


def kernel(choice, variant):
    """The kernel of a choice that has been run; None in a dry run."""
    return _kernels.get((choice.kernel, variant))


def run(choice, variant, arguments, written, count):
    """Run the kernel of a ``choose.Choice`` on ``count`` positions; returns its result.

    ``variant`` determines the types of all arguments: nothing checks them again. ``written`` has the names of the arguments it writes.
    """
    name, grain, _, _ = choice  # faster than attributes, by a tenth of a microsecond
    kernel = _kernels.get((name, variant))
    if kernel is None:
        kernel = obtain(name, variant, arguments, written, choice.why)
    workers = 1 if count * grain[0] < SERIAL_BELOW_ELEMENTS else threads.join()
    if workers == 1:
        return kernel(*arguments, count, count, 1, 0)
    try:
        return kernel(*arguments, count, chunk_of(count, grain, workers), workers, loop(workers))
    finally:
        threads.leave()
