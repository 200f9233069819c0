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


def call_of(F, operation, p):
    """The call to time. Results go into existing arrays where the operation allows it."""
    if operation == "nll_loss":
        x, y = p.log_probs, p.target
        return lambda: F.nll_loss(x, y)
    if operation == "cross_entropy":
        x, y = p.logits, p.target
        return lambda: F.cross_entropy(x, y)
    out = p.empty()
    if operation == "log_softmax":
        x = p.logits
        return lambda: F.log_softmax(x, 1, out=out)
    if operation == "log_softmax_backward":
        g, y = p.grad_output, p.log_probs
        return lambda: F.log_softmax_backward(g, y, 1, out=out)
    if operation == "nll_loss_backward":
        x, y = p.log_probs, p.target
        return lambda: F.nll_loss_backward(1.0, x, y, out=out)
    x, y = p.logits, p.target  # cross_entropy_value_and_grad
    return lambda: F.cross_entropy_value_and_grad(x, y, out=out)


class Worker:
    """The state of the process, and one method per message."""

    def __init__(self, tree):
        sys.path.insert(0, tree)
        import nbloss
        import nbloss.functional as F

        found = Path(nbloss.__file__).resolve().parent.parent
        if found != Path(tree).resolve():
            raise ImportError(f"Python imports nbloss from {found}")
        self.F, self.version, self.run = F, getattr(nbloss, "__version__", "unknown"), None

    def hello(self):
        return {"version": self.version}

    def prepare(self, operation, shape, dtype):
        """Make the arrays, make the first call, which compiles, and compare its result with the expected one."""
        self.run = None  # frees the arrays of the last race
        problem = problems.Problem.parse(shape, dtype)
        run = call_of(self.F, operation, problem)
        results = run()
        results = results if isinstance(results, tuple) else (results,)
        for got, want in zip(results, problem.answer(operation), strict=True):
            error = problems.relative_error(np.asarray(got).astype(np.float64), np.asarray(want))
            if not error <= problems.TOLERANCE[dtype]:
                raise ValueError(f"wrong result: off by {error:.1e} of the largest value")
        problem.forget_answers()
        self.run = run
        return {}

    def schedule(self, plan):
        return {"schedule": clock.schedule(self.run, clock.Plan(**plan))}

    def turn(self, samples, batch):
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
