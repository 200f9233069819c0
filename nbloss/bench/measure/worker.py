"""The worker of `bench --compare FOLDER`: it imports nbloss from one source tree and times calls of it.

It runs as a script: `python worker.py TREE`. It reads one JSON message per line and answers each with one line. From the tree it
takes only `nbloss.functional`, so that it also runs with older trees. The arrays and the clock come from the files beside
it, so that both workers use the same ones.
"""

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def _load(path):
    """Import a module by its path: the tree may have another module of its name, or none."""
    spec = importlib.util.spec_from_file_location(f"_nbloss_bench_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


problems, clock = _load(HERE.parent / "problem.py"), _load(HERE / "clock.py")


INPUTS = {
    "log_softmax": ("logits",),
    "log_softmax_backward": ("grad_output", "log_probs"),
    "nll_loss": ("log_probs", "target"),
    "nll_loss_backward": ("log_probs", "target"),
    "cross_entropy": ("logits", "target"),
    "cross_entropy_value_and_grad": ("logits", "target"),
}


def call_of(F, operation, x, *rest):
    """The call to time. Results go into existing arrays where the operation allows it."""
    if operation == "nll_loss":
        return lambda y=rest[0]: F.nll_loss(x, y)
    if operation == "cross_entropy":
        return lambda y=rest[0]: F.cross_entropy(x, y)
    out = np.full(x.shape, 0, x.dtype)  # written once, so that the timed calls cause no page faults
    if operation == "log_softmax":
        return lambda: F.log_softmax(x, 1, out=out)
    if operation == "log_softmax_backward":
        return lambda y=rest[0]: F.log_softmax_backward(x, y, 1, out=out)
    if operation == "nll_loss_backward":
        return lambda y=rest[0]: F.nll_loss_backward(1.0, x, y, out=out)
    return lambda y=rest[0]: F.cross_entropy_value_and_grad(x, y, out=out)


class Worker:
    """The state of the process, and one method per message."""

    def __init__(self, tree):
        sys.path.insert(0, tree)
        import nbloss
        import nbloss.functional as F

        found = Path(nbloss.__file__).resolve().parent.parent
        if found != Path(tree).resolve():
            raise ImportError(f"Python imports nbloss from {found}")
        self.F, self.version = F, getattr(nbloss, "__version__", "unknown")

    def hello(self):
        return {"version": self.version}

    def prepare(self, operation, shape, dtype):
        """Make the arrays, make the first call, which compiles, and compare its result with the expected one."""
        self.run = self.arrays = None  # frees the arrays of the last race
        problem = problems.Problem.parse(shape, dtype)
        self.operation, self.arrays = operation, [getattr(problem, name) for name in INPUTS[operation]]
        self.move()
        results = self.run()
        results = results if isinstance(results, tuple) else (results,)
        for got, want in zip(results, problem.answer(operation), strict=True):
            error = problems.relative_error(np.asarray(got).astype(np.float64), np.asarray(want))
            if not error <= problems.TOLERANCE[dtype]:
                raise ValueError(f"wrong result: off by {error:.1e} of the largest value")
        return {}

    def move(self):
        """Copy the arrays to new memory.

        Which pages the system provides can change the time of a call. Without a move before every turn, both processes would
        keep their pages for all rounds, and the effect would look like a difference of the trees.
        """
        self.arrays = [array.copy(order="K") for array in self.arrays]
        self.run = call_of(self.F, self.operation, *self.arrays)

    def schedule(self, plan):
        return {"schedule": clock.schedule(self.run, clock.Plan(**plan))}

    def turn(self, samples, batch):
        self.move()
        self.run()  # not timed: with one sample, `clock.turn` makes no call of its own before it
        return {"seconds": clock.turn(self.run, samples, batch)}


def main(tree):
    """Answer messages until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent ends this one
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    worker = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            worker = worker or Worker(tree)
            answer = getattr(worker, message.pop("do"))(**message)
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer | {"processor_seconds": time.process_time()}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
