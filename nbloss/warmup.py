"""Floor 6: `python -m nbloss warmup`, which compiles the usual kernels into the cache before anybody waits for them.

What to compile is said by public calls alone: how many kernels a call needs, and which, is the kernels' own affair. A call on its
own data decides between one thread and several and between short and long rows, so the shapes below have each of these.
"""

import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np

import nbloss
import nbloss.functional as F
from nbloss import _plain
from nbloss.progress import Progress

# Short rows, long ones and very long ones, pixels of few and of many classes; few positions, and more than the short way takes.
MANY = _plain.MOST + 1
SHAPES = ((32, 10), (32, 1000), (MANY, 10), (1024, 1000), (16, 50257), (1, 10, 16, 16), (1, 100, 16, 16), (1, 10, MANY))


# ------------------------------ what is usual ------------------------------


def _weighted(x, y):
    w = np.ones(x.shape[1], np.float64 if x.dtype == np.float64 else np.float32)
    F.cross_entropy(x, y, w)
    F.cross_entropy_value_and_grad(x, y, w)


def _smoothed(x, y):
    F.cross_entropy(x, y, label_smoothing=0.1)
    F.cross_entropy_value_and_grad(x, y, label_smoothing=0.1)


def _log_softmax(x, y):
    F.log_softmax_backward(x, F.log_softmax(x, 1), 1)


def _none(x, y):
    F.cross_entropy(x, y, reduction="none")
    F.nll_loss(x, y, reduction="none")


def _nll(x, y):
    F.nll_loss(x, y)
    F.nll_loss_backward(1.0, x, y)


CALLS = {  # what a user does -> the public calls that it comes to, on logits and int64 targets
    "cross_entropy": F.cross_entropy,
    "cross_entropy_value_and_grad": F.cross_entropy_value_and_grad,
    "cross_entropy_backward": lambda x, y: F.cross_entropy_backward(1.0, x, y),
    "reduction=none": _none,
    "weight": _weighted,
    "label_smoothing": _smoothed,
    "log_softmax": _log_softmax,
    "nll_loss": _nll,
}


def steps(dtypes):
    """(dtype, name in CALLS, shape) of every call."""
    return [(dtype, name, shape) for dtype in dtypes for name in CALLS for shape in SHAPES]


def title(step):
    dtype, name, shape = step
    return f"{dtype} {name} {'x'.join(map(str, shape))}"


def make(step):
    """Make the calls of one step, on the CPU; their kernels are in the cache after it."""
    dtype, name, shape = step
    nbloss.set_default_device("cpu")
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    CALLS[name](np.zeros(shape, dtype), np.zeros(shape[:1] + shape[2:], np.int64))


# ------------------------------ the cache ------------------------------


class _Missing(Exception):
    """Names the kernel that would have been compiled."""


@contextmanager
def _compiling_refused():
    """Raise _Missing wherever Numba would compile. It tells its listeners before it does; what is in the cache is loaded without."""
    from numba.core import event

    class Refusal(event.Listener):
        def on_start(self, event):
            kernel = event.data["dispatcher"].py_func
            raise _Missing(f"{kernel.__module__.rpartition('.')[2]}.{kernel.__qualname__}")

        def on_end(self, event):
            pass

    with event.install_listener("numba:compile", Refusal()):
        yield


def missing(some, progress=None):
    """(step, first kernel that is not in the cache) of the steps that would compile; the others' kernels are loaded."""
    found = []
    with _compiling_refused():
        for step in some:
            try:
                make(step)
            except _Missing as kernel:
                found.append((step, str(kernel)))
            if progress is not None:
                progress.step(title(step))
    return found


def _fill(some, jobs):
    """Make the calls of these steps in processes of their own; Ctrl-C keeps what has been compiled."""
    # Fresh interpreters: a fork of a process with threads may hang. They end at Ctrl-C without a word each.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL))
    with Progress(len(some), "call") as progress:
        try:
            running = {pool.submit(make, step): step for step in some}
            for done in as_completed(running):
                done.result()
                progress.step(title(running[done]))
        finally:
            pool.shutdown(cancel_futures=True)


def main(args):
    """Run the command: `args.dtypes`, `args.jobs` (None: one per thread of nbloss), `args.check`. Returns the exit status."""
    import numba

    from nbloss.kernels.cpu import jit

    if numba.config.DISABLE_JIT:
        print("nbloss warmup: NUMBA_DISABLE_JIT is set, so nothing is ever compiled", file=sys.stderr)
        return 1
    if "bfloat16" in args.dtypes and find_spec("ml_dtypes") is None:
        print("nbloss warmup: bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes", file=sys.stderr)
        return 1
    wanted, folder = steps(dict.fromkeys(args.dtypes)), jit.cache_dir()
    absent = missing(wanted)
    if args.check or not absent:
        return _told(wanted, absent, folder)
    jobs, before = args.jobs or nbloss.get_num_threads(), []
    while absent and absent != before:  # until nothing is missing, or nothing helps, as where nothing can be written
        some = _different(absent)
        try:
            _fill(some, min(jobs, len(some)))
        except BrokenProcessPool:
            print("nbloss warmup: a process ended before its work was done; is there memory enough for so many jobs?", file=sys.stderr)
            return 1
        before, absent = absent, missing([step for step, _ in absent])
    return _told(wanted, absent, folder)


def _different(absent):
    """The steps of which no two want the same kernel first: two processes would compile it at once."""
    return list({(step[:2], kernel): step for step, kernel in reversed(absent)}.values())[::-1]


def _told(wanted, absent, folder):
    for step, kernel in absent:
        print(f"missing: {title(step)} (first: {kernel})")
    print(f"{len(wanted) - len(absent)} of {len(wanted)} usual calls find their kernels in {folder}")
    return int(bool(absent))
