"""The command line of the GPU benchmark."""

import argparse
import os
import sys
import time

from nbloss import DeviceUnavailableError

from ..problem import DTYPES
from . import isolated, report
from .isolated import COMPILERS, Spec
from .races import OPERATIONS, QUICK_SHAPES, SHAPES, Repeated, merged, race

ABOUT = "Time nbloss on an NVIDIA GPU against torch, torch.compile, Triton and the GPU's own copy."
MINUTES = 7.0  # after which no further peer is set up
GRACE = 60.0  # s; for a compiler that was set up before the time was up
ROUNDS, QUICK_ROUNDS = 15, 5


def parser():
    """The options of the GPU benchmark."""
    options = argparse.ArgumentParser("python -m nbloss bench --device cuda", description=ABOUT, allow_abbrev=False)
    options.add_argument("--device", default="cuda", help="cuda or cuda:<index>")
    written = "the folder for races.jsonl (a line per race, at once), results.json, results.txt and results.png"
    options.add_argument("--out", required=True, metavar="FOLDER", help=written)
    options.add_argument("--op", nargs="+", choices=OPERATIONS, default=list(OPERATIONS), help="the operations (default: all)")
    options.add_argument("--shape", nargs="+", type=shape, metavar="NxC", help=f"NxC or NxCxHxW (default: {' '.join(SHAPES)})")
    options.add_argument(
        "--dtype", nargs="+", choices=DTYPES, default=["float32", "bfloat16"], help="the dtypes (default: float32 bfloat16)"
    )
    options.add_argument("--peers", nargs="+", default=None, metavar="PEER", help="nbloss, torch, torch.compile, triton (default: all)")
    options.add_argument("--minutes", type=float, default=MINUTES, help=f"set no peer up after so many minutes (default: {MINUTES:g})")
    quick = "small shapes and few rounds, without torch.compile unless --peers names it; the results are less reliable"
    options.add_argument("--quick", action="store_true", help=quick)
    return options


def shape(text):
    """(N, C, ...) of "NxCx..."."""
    try:
        sizes = tuple(int(n) for n in text.split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) < 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"shape should be NxC, such as 4096x1000; got {text!r}")
    return sizes


def _writable(folder):
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OSError(f"cannot write into {folder}")


def main(argv):
    """Run the command. Returns the exit status: 2 for bad arguments or no device, 1 if a peer failed or gave wrong results."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as leaving:
        return leaving.code or 0
    try:
        _writable(options.out)
        # Inside the function, because these import Numba, which --help and bad arguments do not need.
        from .device import Clock
        from .peers import PEERS

        unknown = set(options.peers or ()) - set(PEERS)
        if unknown:
            raise ValueError(f"--peers takes {', '.join(PEERS)}; got {', '.join(sorted(unknown))}")
        clock = Clock(options.device)
    except (DeviceUnavailableError, ValueError, OSError) as error:
        print(f"nbloss bench: error: {error}", file=sys.stderr)
        return 2
    chosen = options.peers or [name for name in PEERS if not (options.quick and name == "torch.compile")]
    lines = report.Lines(options.out)
    try:
        for record in _races(options, chosen, PEERS, clock):
            lines.add(record)
            print(report.race_table(record), flush=True)
    except KeyboardInterrupt:
        print("stopped; the finished races are kept", file=sys.stderr)
    records = merged(lines.read(), clock.bandwidth)
    report.write(options.out, records, clock.facts())
    bad = any({"wrong", "failed"} & set(c) for record in records for c in record["contenders"].values())
    return int(bad or not records)


def _races(options, chosen, peers, clock):
    """The races: first the peers that need no compilation on all shapes, then the compilers, which may use all the time that is left."""
    deadline = time.monotonic() + 60 * options.minutes
    shapes = options.shape or [shape(text) for text in (QUICK_SHAPES if options.quick else SHAPES)]
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    at_once = {name: peers[name] for name in chosen if name not in COMPILERS}
    for problem in _problems(shapes, options.dtype) if at_once else ():
        arrays = clock.arrays(problem)
        for operation in options.op:
            yield race(operation, problem, arrays, at_once, clock, rounds, lambda: time.monotonic() > deadline)
    for problem in _problems(shapes, options.dtype):
        for name in COMPILERS:
            if name in chosen:
                seconds = max(0.0, deadline - time.monotonic())
                spec = Spec([name], options.op, list(problem.shape), [problem.dtype], options.device, rounds, seconds)
                yield from isolated.records(spec, seconds + GRACE)


def _problems(shapes, dtypes):
    return (Repeated(sizes, dtype) for sizes in shapes for dtype in dtypes)
