"""`python -m nbloss warmup`: compiles the usual kernels into the cache, so that no call waits for a compilation.

A list of public calls defines what is usual. A dry run of the calls finds the kernels that they need, without running any. So kernels can
also be compiled for processors that this machine is not.
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
from nbloss.backends.array_interop import numpy_dtype
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS
from nbloss.progress import Progress

# Short rows and long rows; images of few classes and of many; few positions, and more than the fast path takes.
MANY = FUSED_MAX_ROWS + 1
SHAPES = ((32, 10), (32, 1000), (MANY, 10), (MANY, 100), (1, 10, 16, 16), (1, 100, 16, 16), (1, 10, MANY))


# ------------------------------ the usual calls ------------------------------


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


def _distillation(x, y):
    F.distillation_loss(x, x)
    F.distillation_loss_backward(1.0, x, x)
    F.distillation_loss_value_and_grad(x, x)


def _log_softmax(x, y):
    F.log_softmax_backward(x, F.log_softmax(x, 1), 1)


def _softmax(x, y):
    F.softmax_backward(x, F.softmax(x, 1), 1)


def _none(x, y):
    F.cross_entropy(x, y, reduction="none")
    F.nll_loss(x, y, reduction="none")


def _focal(x, y):
    F.focal_loss(x, y)
    F.focal_loss_backward(1.0, x, y)
    F.focal_loss_value_and_grad(x, y)


def _stats(x, y):
    F.cross_entropy_stats(x, y)
    F.cross_entropy_stats(x)


def _evaluate(x, y):
    nbloss.evaluate(np.moveaxis(x, 1, -1), y)


def _second_order(x, y):
    F.cross_entropy_hvp(x, x, y)
    F.cross_entropy_hessian_diag(x, y)


def _nll(x, y):
    F.nll_loss(x, y)
    F.nll_loss_backward(1.0, x, y)


CALLS = {  # name of a use -> its public calls, on logits and class numbers
    "cross_entropy": F.cross_entropy,
    "cross_entropy_value_and_grad": F.cross_entropy_value_and_grad,
    "cross_entropy_backward": lambda x, y: F.cross_entropy_backward(1.0, x, y),
    "reduction=none": _none,
    "weight": _weighted,
    "label_smoothing": _smoothed,
    "probabilities": _probabilities,
    "distillation": _distillation,
    "log_softmax": _log_softmax,
    "softmax": _softmax,
    "nll_loss": _nll,
    "focal_loss": _focal,
    "cross_entropy_stats": _stats,
    "evaluate": _evaluate,
    "second_order": _second_order,
}
GPU_CALLS = {name: call for name, call in CALLS.items() if name != "evaluate"}  # which has no kernel for GPUs


def steps(dtypes):
    """Every ``(dtype, name in CALLS, shape)``."""
    return [(dtype, name, shape) for dtype in dtypes for name in CALLS for shape in SHAPES]


def title(step):
    dtype, name, shape = step
    return f"{dtype} {name} {'x'.join(map(str, shape))}"


def _kernels_of(step):
    """The kernels of one step's calls on the CPU: key -> the arguments of `jit.obtain`."""
    from nbloss.kernels.cpu.compile import jit

    dtype, name, shape = step
    nbloss.set_default_device("cpu")
    nbloss.set_num_threads(1)
    with jit.dry_run() as wanted:
        CALLS[name](np.zeros(shape, numpy_dtype(dtype)), np.zeros(shape[:1] + shape[2:], np.int64))
    return wanted | {jit.LOOP: ((), (), "")}


# ------------------------------ the cache ------------------------------


def where(wanted):
    """The files that a new process would load: step -> {kernel: ``(folder, target)`` of its file, or None}."""
    from nbloss.kernels.cpu.compile import cache, jit

    known = {}
    for step in wanted:
        for key in _kernels_of(step):
            if key not in known:
                found = cache.find(key[0], jit.variant_text(key[1]))
                known[key] = found and found[1:]
    return {step: {key: known[key] for key in _kernels_of(step)} for step in wanted}


def _missing(files):
    """``(step, its first kernel without a file)`` of the steps that would compile."""
    return [(step, key) for step, kernels in files.items() for key in [next((k for k in kernels if not kernels[k]), None)] if key]


def _make(step, key):
    """Compile one kernel of a step, in a worker process; returns the errors of the disk."""
    from nbloss.kernels import disk
    from nbloss.kernels.cpu.compile import jit

    jit.obtain(*key, *_kernels_of(step)[key])
    return list(disk.said)


def compile_all(tasks, jobs):
    """Compile kernels in ``jobs`` processes; Ctrl-C keeps what has been compiled. Returns the errors of the disk, None if a process died.

    A task is ``(title, function, *arguments)``; the function compiles one kernel and returns the errors of the disk.
    """
    os.environ["NBLOSS_QUIET"] = "1"  # no notices about compilations
    # The processes are spawned, because a fork of a process with threads may hang. At Ctrl-C they end without a traceback.
    pool, errors = ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL)), {}
    with Progress(len(tasks), "kernel") as progress:
        try:
            running = {pool.submit(*work): title for title, *work in tasks}
            for done in as_completed(running):
                errors |= dict.fromkeys(done.result())
                progress.step(running[done])
        except BrokenProcessPool:
            print("nbloss warmup: a worker process ended early; perhaps there is too little memory for so many jobs", file=sys.stderr)
            return None
        finally:
            pool.shutdown(cancel_futures=True)
    return list(errors)


def _for_level(args):
    """Run the same command in a process that compiles for another level of processors."""
    from nbloss.kernels.cpu.compile import processor

    command = [sys.executable, "-m", "nbloss", "warmup", "--dtypes", *args.dtypes]
    command += ["--jobs", str(args.jobs)] if args.jobs else []
    command += ["--check"] if args.check else []
    return subprocess.run(command, env=os.environ | processor.environment(args.level)).returncode


def main(args):
    """Run the command: `args.dtypes`, `args.jobs` (None: one per thread of nbloss), `args.check`, `args.level`. Returns the exit status."""
    import numba

    from nbloss.kernels import disk

    if args.capability or args.shapes:
        print("nbloss warmup: --capability and --shapes go with --device cuda", file=sys.stderr)
        return 2
    if numba.config.DISABLE_JIT:
        print("nbloss warmup: NUMBA_DISABLE_JIT is set, so nothing is compiled", file=sys.stderr)
        return 1
    if "bfloat16" in args.dtypes and find_spec("ml_dtypes") is None:
        print("nbloss warmup: bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes", file=sys.stderr)
        return 1
    if args.level:
        return _for_level(args)
    jobs = args.jobs or nbloss.get_num_threads()
    wanted = steps(dict.fromkeys(args.dtypes))
    files, errors = where(wanted), []
    missing = {key: step for step, kernels in reversed(files.items()) for key, file in kernels.items() if not file}
    if missing and not args.check:
        tasks = [(f"{_short(key)} ({title(step)})", _make, step, key) for key, step in missing.items()]
        errors = compile_all(tasks, min(jobs, len(missing)))
        if errors is None:
            return 1
        files = where(wanted)
    for text in [*errors, *disk.said]:
        print(f"nbloss warmup: {text}", file=sys.stderr)
    return _report(files)


def _short(key):
    return key[0].removeprefix("nbloss.kernels.cpu.")


def _report(files):
    """Print which calls find their kernels, and where; returns the exit status."""
    from nbloss.kernels import disk

    missing = _missing(files)
    for step, key in missing:
        print(f"missing: {title(step)} (first: {_short(key)})")
    found = {key: file for kernels in files.values() for key, file in kernels.items() if file}
    names = {folder: "the package" if folder == disk.INSTALLED else str(folder) for folder, _ in found.values()} or {
        None: str(disk.cache_dir())
    }
    print(f"{len(files) - len(missing)} of {len(files)} usual calls find their kernels in {' and '.join(sorted(names.values()))}")
    for folder, target in sorted(set(found.values())):
        count = sum(file == (folder, target) for file in found.values())
        print(f"  {count} kernels for {target} in {names[folder]}")
    return int(bool(missing))
