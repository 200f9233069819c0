"""`python -m nbloss bench`: nbloss against NumPy, SciPy, torch, JAX, scikit-learn, autograd and a naive kernel, on this machine.

Importing this package imports none of them: each is loaded when it is set up, and skipped where it is not installed.
"""

import argparse
import sys


def main(argv=None):
    """Run the command; returns the exit status (2: bad arguments, 1: a contender gave wrong numbers or none, 130: Ctrl-C)."""
    from . import scaling
    from .session import BadArguments, processors, writable

    argv = sys.argv[2:] if argv is None else argv
    if _on_gpu(argv):
        from .gpu import main as on_gpu

        return on_gpu(argv)
    scales = argv[:1] == ["scaling"]
    try:
        options = (scaling.parser() if scales else _parser()).parse_args(argv[scales:])
        writable(options.json, options.png)
        with processors(options.threads):
            return scaling.run(options) if scales else _run(options)
    except (BadArguments, ValueError, NotImplementedError) as error:
        print(f"nbloss bench: error: {error}", file=sys.stderr)
        return 2
    except SystemExit as leaving:  # --help
        return leaving.code or 0


def _on_gpu(argv):
    """Whether ``--device`` names a GPU: that benchmark has options of its own."""
    device = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    device.add_argument("--device", nargs="?", default="cpu")
    return str(device.parse_known_args(argv)[0].device).partition(":")[0] == "cuda"


def _parser():
    from .peers import PEERS, VARIANTS
    from .problem import DTYPES, OPERATIONS
    from .races import CORE, USUAL
    from .session import Parser

    peers = list(dict.fromkeys(peer for table in PEERS.values() for peer in table))
    parser = Parser(
        "bench",
        f"{__doc__.splitlines()[0]} How the cost grows with rows, classes and threads: bench scaling --help.",
        "Without --op, --shape and --dtype: loss and gradient at ten shapes, and some other races; a few minutes. "
        "With any of them: every combination of the three.",
    )

    def choice(name, metavar, choices, default):
        shown = f"one or more of {', '.join(choices)} (default: {default})"
        parser.add_argument(name, nargs="+", metavar=metavar, choices=choices, help=shown)

    choice("--op", "OP", [*OPERATIONS, "all"], " ".join(USUAL))
    shapes = f"NxC, NxCxHxW, CxN.T for a transposed array, or all for ten (default: {' '.join(CORE)})"
    parser.add_argument("--shape", nargs="+", metavar="NxC", help=shapes)
    choice("--dtype", "DTYPE", [*DTYPES, "all"], "float32")
    choice("--peers", "PEER", peers, f"all that are installed, but for {', '.join(VARIANTS)}")
    parser.add_argument("--compare", metavar="FILE", help="say what has become faster or slower since an earlier --json file")
    parser.add_argument("--fill", nargs="+", default=[], metavar="PAGE", help="write the tables into pages that have marks for them")
    parser.add_argument("--device", choices=["cpu"], help="cpu; for cuda see `--device cuda --help`")
    return parser


def _run(options):
    from . import files, machine, pages, picture, report, timing
    from .peers import PEERS, VARIANTS
    from .problem import Problem
    from .races import chosen
    from .session import measured

    for page in options.fill:
        pages.read(page)
    old = options.compare and files.read([options.compare])[0]
    races = [] if options.earlier else chosen(options.op, options.shape, options.dtype, options.quick)
    peers = options.peers
    if peers is None and options.quick:  # torch.compile compiles for seconds
        peers = list(dict.fromkeys(p for table in PEERS.values() for p in table if p not in ("torch.compile", *VARIANTS)))
    plan = timing.QUICK if options.quick else timing.Plan()

    def job(operation, shape, dtype):
        return lambda tell: timing.race(operation, Problem.parse(shape, dtype), peers, plan, tell)

    records, facts, status = measured([job(*race) for race in races], lambda record: report.race_table(record) + "\n", options)
    if records:
        print(report.summary(records), report.verdict(records), machine.about(facts), sep="\n\n")
        if old:
            print("", files.compare(old, records), sep="\n")
        picture.try_write(options.png, records, facts, picture.races)
        for page in options.fill:
            pages.fill(page, records, facts)
    return status
