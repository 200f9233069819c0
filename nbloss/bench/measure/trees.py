"""Comparing two source trees of nbloss: every race runs in turns, old and new, in two worker processes.

The processes stay alive during the run. In every round both have one turn: untimed calls and then timed calls, on newly
allocated arrays. A temporary slowdown of the machine affects both. The ratio new/old is taken within each round, and its
quartiles over the rounds show how reliable it is.
"""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import nbloss

from ..problem import Problem
from ..session import BadArguments, cpus
from .clock import Plan, quartiles, takes_part

MARGIN = 0.03  # a race is slower or faster where both quartiles of the ratio differ from 1 by more than this
PLAN, QUICK = Plan(rounds=15, turn=0.02, budget=2.0), Plan(rounds=5)
HERE = str(Path(nbloss.__file__).resolve().parent.parent)
_SCRIPT = str(Path(__file__).resolve().parent / "worker.py")


class Failed(Exception):
    """A worker could not do what a message asked for."""


class Worker:
    """A process that imports nbloss from one tree. It starts with the first message, and again after a crash."""

    def __init__(self, tree):
        self.tree, self.process, self.processor_seconds = tree, None, 0.0

    def send(self, do, **values):
        if self.process is None or self.process.poll() is not None:
            self.close()
            # -P: the folder of the script has modules with common names, which must not be importable
            command = [sys.executable, "-P", _SCRIPT, self.tree]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with suppress(BrokenPipeError):  # `receive` reports how the process ended
            print(json.dumps({"do": do} | values), file=self.process.stdin, flush=True)

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.close()
            raise Failed(f"the worker process ended with status {status}")
        answer = json.loads(line)
        self.processor_seconds = answer.pop("processor_seconds")
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def ask(self, do, **values):
        self.send(do, **values)
        return self.receive()

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process, self.processor_seconds = None, 0.0


class Pair:
    """The workers of the old tree and of this one."""

    def __init__(self, old):
        if not (Path(old) / "nbloss" / "__init__.py").is_file():
            raise BadArguments(f"--compare {old}: there is no nbloss package in this folder")
        self.workers = {"old": Worker(str(Path(old).resolve())), "new": Worker(HERE)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers.values():
            worker.close()

    def about(self):
        """Path and version of both trees. Raises BadArguments for a tree that cannot be imported."""
        found = {}
        for name, worker in self.workers.items():
            try:
                found[name] = {"path": worker.tree, **worker.ask("hello")}
            except Failed as error:
                raise BadArguments(f"--compare: nbloss in {worker.tree} cannot be imported: {error}") from None
        return found

    def processor_seconds(self):
        """The processor time of both workers."""
        return sum(worker.processor_seconds for worker in self.workers.values())

    def race(self, operation, shape, dtype, plan, tell=lambda text: None):
        """The record of one race: old and new with median and quartiles, and their ratio in every round.

        A race that one of the trees cannot run is {"failed": reason}.
        """
        problem = Problem.parse(shape, dtype)
        record = {"operation": operation, "shape": problem.shape_text, "dtype": dtype, "threads": cpus()}
        try:
            tell(f"{operation} {problem}: compiling and checking")
            self._prepare(operation, shape, dtype)
            seconds = self._rounds(plan, lambda text: tell(f"{operation} {problem}: {text}"))
        except Failed as error:
            return record | {"failed": " ".join(str(error).split())}
        return record | summary(**seconds)

    def _prepare(self, operation, shape, dtype):
        """In both processes at once: nothing is timed here, and compiling takes seconds."""
        for worker in self.workers.values():
            worker.send("prepare", operation=operation, shape=shape, dtype=dtype)
        reasons = []
        for name, worker in self.workers.items():
            try:
                worker.receive()
            except Failed as error:
                reasons.append(f"{name}: {error}")
        if reasons:
            raise Failed("; ".join(reasons))

    def _rounds(self, plan, tell):
        tell("estimating")
        turns, samples, batches = zip(*(w.ask("schedule", plan=asdict(plan))["schedule"] for w in self.workers.values()), strict=True)
        seconds = {name: [] for name in self.workers}
        for number in range(plan.rounds):
            if takes_part(number, min(turns), plan.rounds):
                tell(f"round {number + 1}/{plan.rounds}")
                for name, worker in self.workers.items():
                    time.sleep(plan.pause)
                    seconds[name].append(worker.ask("turn", samples=min(samples), batch=max(batches))["seconds"])
        return seconds


def summary(old, new):
    """Medians and quartiles of two lists of seconds per round, their ratios, and the verdict."""
    ratios = [n / o for n, o in zip(new, old, strict=True)]
    found = {"rounds": len(ratios)}
    for name, values in (("old", old), ("new", new)):
        low, middle, high = quartiles(values)
        found[name] = {"seconds": middle, "low": low, "high": high}
    low, middle, high = quartiles(ratios)
    verdict = "slower" if low > 1 + MARGIN else "faster" if high < 1 / (1 + MARGIN) else "same"
    return found | {"ratio": {"median": middle, "low": low, "high": high}, "ratios": ratios, "verdict": verdict}
