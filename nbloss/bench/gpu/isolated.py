"""Races on one shape in a process of their own: a compiler that crashes, hangs or fills the memory ends only these.

The process gets the JSON of a `Spec`. It writes each race at once, as one line of JSON on stdout.
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
PROGRAM = "import sys; from nbloss.bench.gpu import isolated; isolated.main(sys.argv[1])"


@dataclass
class Spec:
    """What a process races: these peers in every operation and dtype on one shape."""

    peers: list
    operations: list
    shape: list
    dtypes: list
    device: str = "cuda"
    rounds: int = 15
    seconds: float = 60.0  # after which no further race is begun
    compared: bool = True


def records(spec, limit):
    """Run a process for at most ``limit`` seconds, and yield its records. A race without one gets the reason."""
    missing = [(dtype, operation) for dtype in spec.dtypes for operation in spec.operations]
    if not spec.seconds:
        yield from _without(spec, missing, {"absent": races.NO_TIME})
        return
    for record in _lines(spec, limit):
        if "reason" in record:
            yield from _without(spec, missing, {"failed": record["reason"]})
        else:
            missing.remove((record["dtype"], record["operation"]))
            yield record


def _without(spec, missing, reason):
    """Records of races that were not run."""
    for dtype, operation in missing:
        yield races.record(operation, races.Repeated(tuple(spec.shape), dtype), {peer: dict(reason) for peer in spec.peers})


def _lines(spec, limit):
    """The records of a process, and last the reason why there are no more: ``{"reason": ...}``."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(asdict(spec))]
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
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from .device import Clock
    from .peers import PEERS

    spec, started = Spec(**json.loads(text)), time.monotonic()
    peers = {name: PEERS[name] for name in spec.peers}
    clock = Clock(spec.device)
    for dtype in spec.dtypes:
        problem = races.Repeated(tuple(spec.shape), dtype)
        arrays = clock.arrays(problem)
        for operation in spec.operations:
            record = races.race(
                operation, problem, arrays, peers, clock, spec.rounds, lambda: time.monotonic() - started > spec.seconds, spec.compared
            )
            print(json.dumps(record), flush=True)


def _end_with(parent):
    """End this process and all that it started once its parent is gone: nobody else would stop it at its limit."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
