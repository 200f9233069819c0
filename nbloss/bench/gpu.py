"""`python -m nbloss bench --device cuda`: nbloss on an NVIDIA GPU against torch, torch.compile and Triton, and against the GPU's own copy.

The arrays live on the device. Time is the device's, between two events; results and logits rotate through more memory than the second
cache holds. Each contender's numbers are compared with float64 before it is timed.
"""

import argparse
import os
import sys
import time
from math import gcd, prod

import numpy as np

from .problem import DTYPES, TOLERANCE, Problem

SHAPES = ("65536x10", "32768x1024", "8192x32768", "4096x50257", "4096x128256", "16x21x512x512")
QUICK_SHAPES = ("65536x10", "4096x1024", "2x21x128x128")
OPERATIONS = ("log_softmax", "cross_entropy", "cross_entropy_value_and_grad")
BLOCK = 64  # rows that are drawn; a batch repeats them, so that its right answer is theirs
MINUTES = 7.0  # after which no further contender is set up


class Repeated:
    """A batch that repeats a small problem along its first axis: the right answer costs what the small one's costs."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        rows = gcd(shape[0], BLOCK) if len(shape) == 2 else 1
        self.part = Problem((rows, *shape[1:]), dtype)
        self.times = shape[0] // rows

    def logits(self):
        return np.tile(self.part.logits, (self.times,) + (1,) * (len(self.shape) - 1))

    def target(self):
        return np.tile(self.part.target, (self.times,) + (1,) * (len(self.shape) - 2))

    def nbytes(self):
        return prod(self.shape) * self.part.numpy_dtype.itemsize

    def bytes_moved(self, operation):
        """What must cross the memory bus: every input once, every output once."""
        positions = prod(self.shape) // self.shape[1]
        losses = 0 if operation == "log_softmax" else positions * self.part.target.itemsize
        return self.nbytes() * (1 if operation == "cross_entropy" else 2) + losses

    def expected(self, operation):
        """The right results, with only the first ``part`` of an array."""
        answers = self.part.answer(operation)
        return [a if np.ndim(a) == 0 else a / (self.times if operation != "log_softmax" else 1) for a in answers]

    def error(self, operation, results):
        """The largest distance from the right answer, over its largest value: of the first and of the last part of each result."""
        worst = 0.0
        expected = self.expected(operation)
        if len(results) != len(expected):
            return np.inf
        for result, want in zip(results, expected, strict=True):
            ends = [result] if np.ndim(want) == 0 else [result[: want.shape[0]], result[-want.shape[0] :]]
            scale = max(float(np.abs(want).max()), np.finfo(np.float64).tiny)
            for got in ends:
                got = np.asarray(got, np.float64)
                if got.shape != np.shape(want):
                    return np.inf
                distance = float(np.abs(got - want).max()) / scale
                worst = distance if not distance <= worst else worst  # nan stays
        return worst

    def __str__(self):
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"


def race(operation, problem, arrays, peers, clock, rounds, spent):
    """Check and time the peers on one operation. ``arrays`` are (logits, target) of the rotation; ``spent()`` says that time is up.

    Returns a record for JSON; a contender has "seconds" with its quartiles, or says why it was not timed.
    """
    contenders, runs = {}, {}
    for name, peer in peers.items():
        if spent():
            contenders[name] = {"absent": "no time was left to set it up"}
            continue
        try:
            run = peer(operation, arrays)
            error = problem.error(operation, run.checked(problem.part.shape[0]))
        except NotImplementedError as reason:
            contenders[name] = {"absent": str(reason)}
        except Exception as failure:  # a peer of a version that we do not know must not end the others' race
            contenders[name] = {"failed": f"{type(failure).__name__}: {failure}"}
        else:
            if error <= TOLERANCE[problem.dtype]:
                runs[name] = run
            else:
                contenders[name] = {"wrong": f"off by {error:.1e} of the largest value"}
    contenders |= _timed(runs, clock, rounds)
    moved = problem.bytes_moved(operation)
    ours = contenders.get("nbloss", {}).get("seconds")
    for c in contenders.values():
        if "seconds" in c:
            c["share"] = moved / c["seconds"] / clock.bandwidth
            c["to_nbloss"] = c["seconds"] / ours if ours else None
    return {"operation": operation, "shape": list(problem.shape), "dtype": problem.dtype, "bytes": moved, "contenders": contenders}


def _timed(runs, clock, rounds):
    """Medians and quartiles over rounds in which every contender has one turn."""
    plans = {name: clock.plan(run) for name, run in runs.items()}
    samples = {name: [] for name in runs}
    for k in range(rounds):
        order = list(runs)
        for name in order[k % len(order) :] + order[: k % len(order)] if order else []:
            samples[name].append(clock.turn(runs[name], *plans[name]))
    found = {}
    for name, pairs in samples.items():
        device, host = np.array(pairs).T
        low, middle, high = np.quantile(device, [0.25, 0.5, 0.75]).tolist()
        found[name] = {"seconds": middle, "low": low, "high": high, "host_seconds": float(np.median(host))}
    return found


# ------------------------------ the command ------------------------------


def parser():
    """The options of the GPU benchmark."""
    options = argparse.ArgumentParser("python -m nbloss bench --device cuda", description=__doc__.splitlines()[0], allow_abbrev=False)
    options.add_argument("--device", default="cuda", help="cuda or cuda:<index>")
    options.add_argument("--out", required=True, metavar="FOLDER", help="where results.json, results.txt and results.png go")
    options.add_argument("--op", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    options.add_argument("--shape", nargs="+", type=shape, metavar="NxC", help=f"NxC or NxCxHxW (default: {' '.join(SHAPES)})")
    options.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    options.add_argument("--peers", nargs="+", default=None, metavar="PEER", help="nbloss, torch, torch.compile, triton (default: all)")
    options.add_argument("--minutes", type=float, default=MINUTES, help=f"set no contender up after these (default: {MINUTES:g})")
    options.add_argument(
        "--quick", action="store_true", help="a look, not a result: small shapes, few rounds, no torch.compile unless named"
    )
    return options


def shape(text):
    """(N, C, ...) of "NxCx..."."""
    try:
        sizes = tuple(int(n) for n in text.split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) < 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"a shape is written NxC, as in 4096x1000; got {text!r}")
    return sizes


def _writable(folder):
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OSError(f"cannot write into {folder}")


def main(argv):
    """Run the command; returns the exit status (2: no such device or folder, 1: a contender gave wrong numbers or none)."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as leaving:
        return leaving.code or 0
    from nbloss import DeviceUnavailableError

    from . import gpu_report

    try:
        _writable(options.out)
        from .gpu_device import Clock
        from .gpu_peers import PEERS

        unknown = set(options.peers or ()) - set(PEERS)
        if unknown:
            raise ValueError(f"--peers takes {', '.join(PEERS)}; got {', '.join(sorted(unknown))}")
        clock = Clock(options.device)
    except (DeviceUnavailableError, ValueError, OSError) as error:
        print(f"nbloss bench: error: {error}", file=sys.stderr)
        return 2
    chosen = options.peers or [name for name in PEERS if not (options.quick and name == "torch.compile")]
    peers = {name: peer for name, peer in PEERS.items() if name in chosen}
    records = []
    try:
        for record in _races(options, peers, clock):
            records.append(record)
            print(gpu_report.race_table(record), flush=True)
    except KeyboardInterrupt:
        print("stopped: what was measured is kept", file=sys.stderr)
    gpu_report.write(options.out, records, clock.facts())
    bad = any({"wrong", "failed"} & set(c) for record in records for c in record["contenders"].values())
    return int(bad or not records)


def _races(options, peers, clock):
    started = time.monotonic()
    shapes = options.shape or [shape(text) for text in (QUICK_SHAPES if options.quick else SHAPES)]
    for sizes in shapes:
        for dtype in options.dtype:
            problem = Repeated(sizes, dtype)
            arrays = clock.arrays(problem)
            for operation in options.op:
                yield race(
                    operation, problem, arrays, peers, clock, 5 if options.quick else 15,
                    lambda: time.monotonic() - started > 60 * options.minutes,
                )  # fmt: skip
