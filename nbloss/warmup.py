"""`python -m nbloss warmup`: compiles the usual kernels into the cache before anybody waits for them.

What to compile is said by public calls alone: which kernels a call needs is the kernels' own affair. The calls are rehearsed: they go
their way, but run no kernel. So kernels can be compiled for processors that this machine could not run.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np

import nbloss
import nbloss.functional as F
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS
from nbloss.progress import Progress

# Short rows and long ones, pixels of few and of many classes; few positions, and more than the short way takes.
MANY = FUSED_MAX_ROWS + 1
SHAPES = ((32, 10), (32, 1000), (MANY, 10), (MANY, 100), (1, 10, 16, 16), (1, 100, 16, 16), (1, 10, MANY))


# ------------------------------ what is usual ------------------------------


def _weighted(x, y):
    w = np.ones(x.shape[1], np.float64 if x.dtype == np.float64 else np.float32)
    F.cross_entropy(x, y, w)
    F.cross_entropy_value_and_grad(x, y, w)


def _smoothed(x, y):
    F.cross_entropy(x, y, label_smoothing=0.1)
    F.cross_entropy_value_and_grad(x, y, label_smoothing=0.1)


def _probabilities(x, y):
    p = np.zeros(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
    F.cross_entropy(x, p)
    F.cross_entropy_value_and_grad(x, p)
    F.nll_loss(x, p)
    F.nll_loss_backward(1.0, x, p)


def _log_softmax(x, y):
    F.log_softmax_backward(x, F.log_softmax(x, 1), 1)


def _none(x, y):
    F.cross_entropy(x, y, reduction="none")
    F.nll_loss(x, y, reduction="none")


def _nll(x, y):
    F.nll_loss(x, y)
    F.nll_loss_backward(1.0, x, y)


def _unusual(x, y):
    """What a mean over ignored rows, a view with strides, or a wrong target comes to: a device that is named takes this way, too."""
    F.cross_entropy(x, y, device="cpu")
    F.cross_entropy_value_and_grad(x, y, device="cpu")
    F.nll_loss(x, y, device="cpu")
    F.nll_loss_backward(1.0, x, y, device="cpu")


CALLS = {  # what a user does -> the public calls that it comes to, on logits and class numbers of any integer type
    "cross_entropy": F.cross_entropy,
    "cross_entropy_value_and_grad": F.cross_entropy_value_and_grad,
    "cross_entropy_backward": lambda x, y: F.cross_entropy_backward(1.0, x, y),
    "reduction=none": _none,
    "weight": _weighted,
    "label_smoothing": _smoothed,
    "probabilities": _probabilities,
    "log_softmax": _log_softmax,
    "nll_loss": _nll,
    "general": _unusual,
}


def steps(dtypes):
    """(dtype, name in CALLS, shape) of every call."""
    return [(dtype, name, shape) for dtype in dtypes for name in CALLS for shape in SHAPES]


def title(step):
    dtype, name, shape = step
    return f"{dtype} {name} {'x'.join(map(str, shape))}"


def _kernels_of(step):
    """The kernels of one step's calls, on the CPU: key -> how to compile it."""
    from nbloss.kernels.cpu.compile import jit

    dtype, name, shape = step
    nbloss.set_default_device("cpu")
    nbloss.set_num_threads(1)
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    with jit.dry_run() as wanted:
        CALLS[name](np.zeros(shape, dtype), np.zeros(shape[:1] + shape[2:], np.int64))
    return wanted | {jit.LOOP: ((), (), "")}


# ------------------------------ the cache ------------------------------


def where(wanted):
    """What a process would find: step -> {kernel: ``(folder, target)`` of its file, or None}."""
    from nbloss.kernels.cpu.compile import cache, jit

    known = {}
    for step in wanted:
        for key in _kernels_of(step):
            if key not in known:
                found = cache.find(key[0], jit.variant_text(key[1]))
                known[key] = found and found[1:]
    return {step: {key: known[key] for key in _kernels_of(step)} for step in wanted}


def _absent(places):
    """(step, its first kernel that no file has) of the steps that would compile."""
    return [(step, key) for step, kernels in places.items() for key in [next((k for k in kernels if not kernels[k]), None)] if key]


def _make(step, key):
    """Compile one kernel of a step, in a process of its own; returns what went wrong on disk."""
    from nbloss.kernels import disk
    from nbloss.kernels.cpu.compile import jit

    jit.obtain(*key, *_kernels_of(step)[key])
    return list(disk.said)


def _fill(missing, jobs):
    """Compile kernels (key -> step), each in one of so many processes; Ctrl-C keeps what has been compiled. Returns what went wrong."""
    # Fresh interpreters: a fork of a process with threads may hang. They end at Ctrl-C without a word each.
    pool, wrong = ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL)), {}
    with Progress(len(missing), "kernel") as progress:
        try:
            running = {pool.submit(_make, step, key): (step, key) for key, step in missing.items()}
            for done in as_completed(running):
                wrong |= dict.fromkeys(done.result())
                step, key = running[done]
                progress.step(f"{_short(key)} ({title(step)})")
        finally:
            pool.shutdown(cancel_futures=True)
    return list(wrong)


def _for_level(args):
    """The same command in a process that compiles for a level of processors."""
    from nbloss.kernels.cpu.compile import processor

    command = [sys.executable, "-m", "nbloss", "warmup", "--dtypes", *args.dtypes]
    command += ["--jobs", str(args.jobs)] if args.jobs else []
    command += ["--check"] if args.check else []
    return subprocess.run(command, env=os.environ | processor.environment(args.level)).returncode


def main(args):
    """Run the command: `args.dtypes`, `args.jobs` (None: one per thread of nbloss), `args.check`, `args.level`. Returns the exit status."""
    import numba

    from nbloss.kernels import disk

    if numba.config.DISABLE_JIT:
        print("nbloss warmup: NUMBA_DISABLE_JIT is set, so nothing is ever compiled", file=sys.stderr)
        return 1
    if "bfloat16" in args.dtypes and find_spec("ml_dtypes") is None:
        print("nbloss warmup: bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes", file=sys.stderr)
        return 1
    if args.level:
        return _for_level(args)
    jobs = args.jobs or nbloss.get_num_threads()
    wanted = steps(dict.fromkeys(args.dtypes))
    places = where(wanted)
    missing = {key: step for step, kernels in reversed(places.items()) for key, place in kernels.items() if not place}
    if missing and not args.check:
        os.environ["NBLOSS_QUIET"] = "1"  # whoever calls this knows that it compiles
        try:
            wrong = _fill(missing, min(jobs, len(missing)))
        except BrokenProcessPool:
            print("nbloss warmup: a process ended before its work was done; is there memory enough for so many jobs?", file=sys.stderr)
            return 1
        places = where(wanted)
    else:
        wrong = []
    for text in [*wrong, *disk.said]:
        print(f"nbloss warmup: {text}", file=sys.stderr)
    return _told(places)


def _short(key):
    return key[0].removeprefix("nbloss.kernels.cpu.")


def _told(places):
    """Say which calls find their kernels, and where; the exit status."""
    from nbloss.kernels import disk

    absent = _absent(places)
    for step, key in absent:
        print(f"missing: {title(step)} (first: {_short(key)})")
    found = {key: place for kernels in places.values() for key, place in kernels.items() if place}
    names = {folder: "the package" if folder == disk.INSTALLED else str(folder) for folder, _ in found.values()} or {
        None: str(disk.cache_dir())
    }
    print(f"{len(places) - len(absent)} of {len(places)} usual calls find their kernels in {' and '.join(sorted(names.values()))}")
    for folder, target in sorted(set(found.values())):
        count = sum(place == (folder, target) for place in found.values())
        print(f"  {count} kernels for {target} in {names[folder]}")
    return int(bool(absent))
