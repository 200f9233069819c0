"""Races of one peer in a process of its own: a compiler that crashes, hangs or fills the memory ends only its own races.

The process is ``python -m nbloss.bench.gpu.isolated SPEC``, where SPEC is the JSON of a `Spec`. It writes each race at once, as one
line of JSON on stdout.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass

from . import races

COMPILERS = ("torch.compile", "triton")  # the peers that compile for seconds
MARK = '{"operation"'  # how a record begins; a compiler may write other lines


@dataclass
class Spec:
    """What a process races."""

    peer: str
    operations: list
    shape: list
    dtype: str
    device: str = "cuda"
    rounds: int = 15
    seconds: float = 60.0  # after which no further operation is set up
    compared: bool = True


def records(spec, limit):
    """Run a process for at most ``limit`` seconds, and yield its records. An operation without one gets the reason."""
    missing = list(spec.operations)
    if not spec.seconds:
        yield from _without(spec, missing, {"absent": races.NO_TIME})
        return
    for record in _lines(spec, limit):
        if "reason" not in record:
            missing.remove(record["operation"])
            yield record
            continue
        yield from _without(spec, missing, {"failed": record["reason"]})


def _without(spec, operations, reason):
    """Records of operations that were not timed."""
    problem = races.Repeated(tuple(spec.shape), spec.dtype)
    for operation in operations:
        yield races.record(operation, problem, {spec.peer: reason})


def _lines(spec, limit):
    """The records of a process, and last the reason why there are no more: ``{"reason": ...}``."""
    words = [sys.executable, "-m", "nbloss.bench.gpu.isolated", json.dumps(asdict(spec))]
    with tempfile.TemporaryFile("w+") as said:
        # a session of its own, so that the workers of a compiler are stopped, too
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True)
        killed = threading.Event()

        def kill():
            killed.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith(MARK):
                    yield json.loads(line)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                kill()
                process.wait()
        said.seek(0)
        last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
    yield {"reason": f"its process was stopped after {limit:.0f} s" if killed.is_set() else f"its process ended with {status}: {last}"}


def main(text):
    """The process."""
    from .device import Clock
    from .peers import PEERS

    spec, started = Spec(**json.loads(text)), time.monotonic()
    problem = races.Repeated(tuple(spec.shape), spec.dtype)
    clock = Clock(spec.device)
    arrays = clock.arrays(problem)
    for operation in spec.operations:
        record = races.race(
            operation, problem, arrays, {spec.peer: PEERS[spec.peer]}, clock, spec.rounds,
            lambda: time.monotonic() - started > spec.seconds, spec.compared,
        )  # fmt: skip
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
