"""`python -m nbloss bench`: nbloss against NumPy, SciPy, torch, JAX, scikit-learn and a naive kernel, on this machine.

Importing this package imports none of them: each is loaded when it is set up, and skipped where it is not installed.
"""

import argparse
import os
import sys
from functools import partial

SHAPES = ("32x10", "65536x10", "4096x1000", "256x50257")
QUICK_SHAPES = ("32x10", "4096x1000")
DEFAULT_OPERATIONS = ("log_softmax", "cross_entropy", "cross_entropy_value_and_grad")


class _BadArguments(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _BadArguments(message)


def main(argv=None):
    """Run the command; returns the exit status (2: bad arguments, 1: a contender gave wrong numbers or none)."""
    argv = sys.argv[1:] if argv is None else argv
    if _on_gpu(argv):
        from .gpu import main as on_gpu

        return on_gpu(argv)
    from .problem import DTYPES, OPERATIONS

    try:
        options = _parser(DTYPES, OPERATIONS).parse_args(argv)
        _check_files(options)
        problems = _problems(options)
    except (_BadArguments, ValueError, NotImplementedError) as error:
        print(f"nbloss bench: error: {error}", file=sys.stderr)
        return 2
    except SystemExit as leaving:  # --help
        return leaving.code or 0

    from . import report

    meter = report.BusyMeter()
    records, status = _run(options, problems)
    if not records:
        return status
    facts = report.machine() | {"others_cpus": meter.others()}
    print(report.table(records), report.about(facts), sep="\n\n")
    if options.json:
        report.write_json(options.json, records, facts)
    if options.png:
        try:
            report.write_png(options.png, records, facts)
        except NotImplementedError as error:
            print(f"nbloss bench: no picture: {error}", file=sys.stderr)
    bad = any({"wrong", "failed"} & set(c) for record in records for c in record["contenders"].values())
    return status or int(bad)


def _on_gpu(argv):
    """Whether ``--device`` names a GPU: that benchmark has options of its own."""
    device = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    device.add_argument("--device", nargs="?", default="cpu")
    return str(device.parse_known_args(argv)[0].device).partition(":")[0] == "cuda"


def _parser(dtypes, operations):
    from .peers import PEERS

    peers = list(dict.fromkeys(peer for table in PEERS.values() for peer in table))
    parser = _Parser(prog="python -m nbloss bench", description=__doc__.splitlines()[0], allow_abbrev=False)
    option = partial(parser.add_argument, nargs="+")

    def choice(name, metavar, choices, default):
        known = f"{', '.join(choices)} (default: {', '.join(default) if default else 'all that are installed'})"
        option(name, metavar=metavar, choices=choices, default=default, help=f"one or more of {known}")

    choice("--op", "OP", [*operations, "all"], DEFAULT_OPERATIONS)
    option("--shape", metavar="NxC", help=f"one or more of NxC or NxCxHxW (default: {' '.join(SHAPES)})")
    choice("--dtype", "DTYPE", dtypes, ["float32"])
    choice("--peers", "PEER", peers, None)
    parser.add_argument("--device", choices=["cpu"], help="cpu; for cuda see `--device cuda --help`")
    parser.add_argument("--json", metavar="FILE", help="write every number, with the machine and the versions")
    parser.add_argument("--png", metavar="FILE", help="draw the medians (needs matplotlib)")
    quick = "a look, not a result: two shapes, three short rounds, no torch.compile unless named"
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def _check_files(options):
    """Refuse now what would otherwise be refused after minutes of measuring."""
    for path in filter(None, (options.json, options.png)):
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise _BadArguments(f"cannot write {path}")


def _problems(options):
    from .problem import Problem

    shapes = options.shape or (QUICK_SHAPES if options.quick else SHAPES)
    problems = [Problem(_shape(text), dtype) for text in shapes for dtype in options.dtype]
    for problem in problems:
        problem.numpy_dtype  # noqa: B018  says now if bfloat16 is not to be had
    return problems


def _shape(text):
    try:
        return tuple(int(n) for n in text.split("x"))
    except ValueError:
        raise _BadArguments(f"a shape is written NxC, as in 4096x1000; got {text!r}") from None


def _run(options, problems):
    """(records, exit status); Ctrl-C keeps what has been measured."""
    from .peers import PEERS
    from .problem import OPERATIONS, Problem
    from .timing import QUICK, Plan, race

    operations = OPERATIONS if "all" in options.op else options.op
    peers = options.peers
    if peers is None and options.quick:
        peers = list(dict.fromkeys(p for table in PEERS.values() for p in table if p != "torch.compile"))
    records, progress = [], _Progress(len(operations) * len(problems))
    try:
        for problem in problems:
            # A fresh one: the arrays and answers of a large problem must not stay while the next is measured.
            problem = Problem(problem.shape, problem.dtype)
            for operation in operations:
                records.append(race(operation, problem, peers, QUICK if options.quick else Plan(), progress.note))
                progress.step()
    except KeyboardInterrupt:
        return records, 130
    finally:
        progress.close()
    return records, 0


class _Progress:
    """tqdm where it is installed, otherwise a line per race; always on stderr."""

    def __init__(self, total):
        self.done, self.total = 0, total
        try:
            from tqdm import tqdm
        except ImportError:
            tqdm = None
        self.bar = tqdm and tqdm(total=total, unit="race", file=sys.stderr, leave=False)

    def note(self, text):
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=True)

    def step(self):
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        else:
            print(f"race {self.done} of {self.total} done", file=sys.stderr)

    def close(self):
        if self.bar is not None:
            self.bar.close()
