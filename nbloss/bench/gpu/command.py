"""The command line of the GPU benchmark."""

import argparse
import os
import sys
import time

from nbloss import DeviceUnavailableError

from ..problem import DTYPES
from . import report
from .races import OPERATIONS, QUICK_SHAPES, SHAPES, Repeated, race

ABOUT = "Time nbloss on an NVIDIA GPU against torch, torch.compile, Triton and the GPU's own copy."
MINUTES = 7.0  # after which no further peer is set up


def parser():
    """The options of the GPU benchmark."""
    options = argparse.ArgumentParser("python -m nbloss bench --device cuda", description=ABOUT, allow_abbrev=False)
    options.add_argument("--device", default="cuda", help="cuda or cuda:<index>")
    options.add_argument("--out", required=True, metavar="FOLDER", help="the folder for results.json, results.txt and results.png")
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
    peers = {name: peer for name, peer in PEERS.items() if name in chosen}
    records = []
    try:
        for record in _races(options, peers, clock):
            records.append(record)
            print(report.race_table(record), flush=True)
    except KeyboardInterrupt:
        print("stopped; the finished races are kept", file=sys.stderr)
    report.write(options.out, records, clock.facts())
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
