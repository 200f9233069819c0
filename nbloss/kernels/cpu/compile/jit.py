"""Calling kernels: each is loaded from disk, or compiled, when first needed, and run by one thread or several.

A kernel is a plain function ``body(*arguments, lo, hi)`` that works on the positions [lo, hi). Several threads take chunks of positions
from a common counter, so that one slow core does not hold the others. Kernels are named here by their module and function, as text: those
that are on disk run without their sources being imported.
"""

import gc
from contextlib import contextmanager

from nbloss import _fork_safety
from nbloss.kernels import compile_notice, disk
from nbloss.kernels.cpu.compile import threads
from nbloss.kernels.cpu.compile.processor import multiplies_and_adds
from nbloss.kernels.cpu.tuning import (
    CHUNK_MIN_ROWS,
    SERIAL_BELOW_ELEMENTS,
)

LOOP = f"{__package__}.parallel_for.loop", ""  # the parallel loop: name and variant


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
    from nbloss.kernels.cpu.compile import build, cache

    collects = gc.isenabled()
    gc.disable()  # a compilation makes millions of objects and few of them garbage: a fifth of its time
    try:
        with compile_notice.compiling():
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
    with _fork_safety.compiling:
        if key not in _kernels:
            from nbloss.kernels.cpu.compile import cache

            if not multiplies_and_adds():
                disk.complain("slow", SLOW)
            found = cache.load(name, variant_text(variant)) or _compiled(name, variant, arguments, written)
            _keep.append(found)
            _kernels[key] = found[1] if key == LOOP else found[0]
        return _kernels[key]


def obtain(name, variant, arguments, written, why=""):
    """A kernel for arguments of these types, loaded or compiled. It takes (count, chunk, workers, loop) after the arguments."""
    kernel = _fork_safety.shielded(_once, name, variant, arguments, written)
    disk.warn()
    return kernel


@contextmanager
def dry_run():
    """Let calls go through without running a kernel.

    Gives a dictionary of what they would run: (name, variant) -> (arguments, which are written, why it was chosen).
    """
    global _kernels, obtain
    wanted, usual = {}, (_kernels, obtain)

    def record(name, variant, arguments, written, why=""):
        wanted[name, variant] = arguments, written, why
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


def chunk_of(count, grain, workers):
    """How many positions a thread takes at a time."""
    chunk = min(max(grain.chunk // max(grain.elements, 1), CHUNK_MIN_ROWS), -(-count // (4 * workers)))
    return -(-chunk // grain.multiple) * grain.multiple


def run(choice, variant, arguments, written, count):
    """Run a kernel (``choose.Choice``) over ``count`` positions; returns what it returns.

    ``variant`` is all that the types of its arguments depend on: nothing looks at them again. ``written`` names the arguments it writes.
    """
    name, grain, _, _ = choice  # attributes would take a tenth of a microsecond
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
