"""The command line of `python -m nbloss bench`, `bench scaling`, and `bench --variants` and the other sets of races."""

import argparse
import os
import sys
from functools import partial

from . import evaluate as evaluate_races
from . import gpu
from . import interop as interop_races
from . import linear as linear_races
from . import options as option_races
from .measure import files, machine, memory, run, scaling, timing, trees
from .measure.clock import QUICK, Plan
from .peers import ON_REQUEST, names
from .problem import DTYPES, OPERATIONS, Problem
from .races import CORE, SMALL, USUAL, chosen
from .report import comparison, curves, pages, picture, report
from .report import variants as variant_report
from .session import BadArguments, Parser, processors, writable
from .variants import race as variant_race
from .variants import wanted

ABOUT = "Time nbloss against NumPy, SciPy, torch, JAX, scikit-learn, autograd and a simple Numba kernel on this machine."
ABOUT_VARIANTS = "Time every kind of call against the plain call of the same shape, and against torch doing the same."
ABOUT_OPTIONS = "Time the options of the losses, and the losses beside cross entropy, against the formulas of NumPy, torch, JAX and optax."
ABOUT_INTEROP = "Time nbloss inside PyTorch, JAX, autograd, XGBoost and LightGBM against what these libraries do themselves."
ABOUT_LINEAR = "Time the loss of a last layer and its gradients, without an array of all logits, against PyTorch and JAX."
ABOUT_EVALUATE = "Time loss, entropy, accuracy and calibration in one pass against NumPy, PyTorch in batches, and `cross_entropy` alone."
ABOUT_SCALING = "Time one logit as the number of classes, rows and threads grows."


def main(argv=None):
    """Run the command.

    Returns the exit status: 2 for bad arguments, 1 if a peer failed or gave wrong results, 130 after Ctrl-C. A comparison of
    two source trees returns 0.
    """
    argv = sys.argv[2:] if argv is None else argv
    if _on_gpu(argv):
        return gpu.main(argv)
    scales = argv[:1] == ["scaling"]
    kind = "scaling" if scales else next((name for name in ("variants", *SETS) if f"--{name}" in argv), "races")
    parser, command = COMMANDS[kind]
    try:
        options = parser().parse_args(argv[scales:])
        writable(options.json, options.png)
        with processors(options.threads):
            return command(options)
    except (BadArguments, ValueError, NotImplementedError) as error:
        print(f"nbloss bench: error: {error}", file=sys.stderr)
        return 2
    except SystemExit as leaving:  # --help
        return leaving.code or 0


def _on_gpu(argv):
    """Whether ``--device`` names a GPU, whose benchmark has other options."""
    device = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    device.add_argument("--device", nargs="?", default="cpu")
    return str(device.parse_known_args(argv)[0].device).partition(":")[0] == "cuda"


def _parser():
    parser = Parser(
        "bench",
        f"{ABOUT} `bench scaling --help` describes how to time growing problems.",
        "Without --op, --shape and --dtype the benchmark times loss and gradient for ten shapes and some other races. This takes a "
        "few minutes. With any of the three it times every combination of them. --compare FOLDER times no peers: each race runs "
        "in turns with the nbloss of the folder (old) and with this one (new), in two processes. The report has the median of "
        "each, their ratio with its quartiles over the rounds, and the number of slower, faster and unchanged races. Without "
        "--op, --shape and --dtype it also times a small call of every operation.",
    )

    def choice(name, metavar, choices, default):
        shown = f"one or more of {', '.join(choices)} (default: {default})"
        parser.add_argument(name, nargs="+", metavar=metavar, choices=choices, help=shown)

    choice("--op", "OP", [*OPERATIONS, "all"], " ".join(USUAL))
    shapes = f"NxC, NxCxHxW, CxN.T for a transposed array, or all for ten shapes (default: {' '.join(CORE)})"
    parser.add_argument("--shape", nargs="+", metavar="NxC", help=shapes)
    choice("--dtype", "DTYPE", [*DTYPES, "all"], "float32")
    choice("--peers", "PEER", names(), f"all that are installed, except {', '.join(ON_REQUEST)}")
    compared = "FILE: report what became faster or slower since this --json file. FOLDER: time the nbloss package in this folder " \
        "(a checkout) and this one in turns, and report what is slower or faster than in the folder"  # fmt: skip
    parser.add_argument("--compare", metavar="FILE|FOLDER", help=compared)
    _fill(parser)
    parser.add_argument("--variants", action="store_true", help="time kinds of calls instead; `--variants --help` shows the options")
    parser.add_argument("--options", action="store_true", help="time the options of the losses; `--options --help` shows the options")
    parser.add_argument("--interop", action="store_true", help="time nbloss inside other libraries; `--interop --help` shows the options")
    parser.add_argument("--linear", action="store_true", help="time the loss of a last layer; `--linear --help` shows the options")
    parser.add_argument("--evaluate", action="store_true", help="time an evaluation of logits; `--evaluate --help` shows the options")
    parser.add_argument("--device", choices=["cpu"], help="cpu; `--device cuda --help` shows the options for a GPU")
    return parser


def _fill(parser):
    parser.add_argument("--fill", nargs="+", default=[], metavar="PAGE", help="write the tables into pages that have marks for them")


def _run(options):
    if options.compare and os.path.isdir(options.compare):
        return _run_trees(options)
    for page in options.fill:
        pages.read(page)  # reports a bad page before the first race
    old = options.compare and files.read([options.compare])[0]
    races = [] if options.earlier else chosen(options.op, options.shape, options.dtype, options.quick)
    peers = options.peers
    if peers is None and options.quick:  # torch.compile compiles for seconds
        peers = [peer for peer in names() if peer not in ("torch.compile", *ON_REQUEST)]
    plan = QUICK if options.quick else Plan()

    def job(operation, shape, dtype):
        return lambda tell: timing.race(operation, Problem.parse(shape, dtype), peers, plan, tell)

    return _measured([job(*race) for race in races], options, old)


def _measured(jobs, options, old=None):
    """Run the jobs, and show, draw and fill in their races."""
    records, facts, status = run.measured(jobs, lambda record: report.race_table(record) + "\n", options)
    if records:
        print(report.summary(records), report.verdict(records), machine.about(facts), sep="\n\n")
        if old:
            print("", comparison.compare(old, records), sep="\n")
        picture.try_write(options.png, records, facts, picture.races)
        for page in options.fill:
            pages.fill(page, records, facts)
    return status


def _set_parser(kind):
    """The parser of a set of races with peers of its own, such as "options"."""
    races, about, shape, shapes = SETS[kind]
    parser = Parser(f"bench --{kind}", about)
    parser.add_argument(f"--{kind}", action="store_true", help="this benchmark")
    operations = f"any of {', '.join(races.OPERATIONS)} (default: all)"
    parser.add_argument("--op", nargs="+", metavar="OP", choices=races.OPERATIONS, help=operations)
    parser.add_argument("--shape", nargs="+", metavar=shape, help=shapes)
    peers = f"any of {', '.join(races.names())} (default: all that are installed)"
    parser.add_argument("--peers", nargs="+", metavar="PEER", choices=races.names(), help=peers)
    _fill(parser)
    return parser


def _run_set(kind, options):
    for page in options.fill:
        pages.read(page)
    races, plan = SETS[kind][0], QUICK if options.quick else Plan()

    def job(operation, *problem):
        def timed(tell):
            record = timing.race(operation, races.problem_of(operation, *problem), options.peers, plan, tell)
            return memory.add(record, tell) if kind == "linear" else record

        return timed

    chosen_races = [] if options.earlier else races.chosen(options.op, options.shape, options.quick)
    return _measured([job(*race) for race in chosen_races], options)


def _run_trees(options):
    for name in ("peers", "fill", "png", "earlier"):
        if getattr(options, name):
            option = "from" if name == "earlier" else name
            raise BadArguments(f"--{option} cannot be used with --compare FOLDER")
    races = chosen(options.op, options.shape, options.dtype, options.quick, more=SMALL)
    plan = trees.QUICK if options.quick else trees.PLAN
    with trees.Pair(options.compare) as pair:
        about = pair.about()
        print(comparison.head(about), flush=True)

        def job(operation, shape, dtype):
            return lambda tell: pair.race(operation, shape, dtype, plan, tell)

        def write(records, facts):
            if options.json:
                files.dump(options.json, {"machine": facts, "trees": about, "margin": trees.MARGIN, "comparisons": records})

        meter = machine.BusyMeter(pair.processor_seconds)
        records, facts, status = run.each([job(*race) for race in races], comparison.line, meter, write)
    if records:
        print("", machine.about(facts), comparison.tally(records, trees.MARGIN), sep="\n")
    return status


def _scaling_parser():
    parser = Parser("bench scaling", ABOUT_SCALING)
    peers = f"peers beside nbloss and the memory baselines; any peer of bench (default: {' '.join(scaling.PEERS)}, where installed)"
    parser.add_argument("--peers", nargs="+", metavar="PEER", default=scaling.PEERS, help=peers)
    return parser


def _run_scaling(options):
    plan = QUICK if options.quick else Plan(rounds=5)

    def job(sweep, shape, threads):
        return lambda tell: scaling.measure(sweep, shape, threads, options.peers, plan, tell)

    points = [] if options.earlier else scaling.sweeps(options.quick)
    records, facts, status = run.measured([job(*point) for point in points], curves.line, options)
    if records:
        picture.try_write(options.png, records, facts, curves.curves)
    return status


def _variants_parser():
    about = f"{ABOUT_VARIANTS} The report has the ratio of each, the limit that is wanted, and torch's time over nbloss's. " \
        "A ratio above its limit is no error: the exit status is 0."  # fmt: skip
    parser = Parser("bench --variants", about)
    parser.add_argument("--variants", action="store_true", help="this benchmark")
    parser.add_argument(
        "--only", nargs="+", metavar="VARIANT", choices=[*wanted.LIMITS], help=f"any of: {'; '.join(wanted.LIMITS)}".replace("%", "%%")
    )
    parser.add_argument("--op", nargs="+", metavar="OP", choices=[*wanted.OPERATIONS], help=f"any of {', '.join(wanted.OPERATIONS)}")
    parser.add_argument("--shape", nargs="+", metavar="SHAPE", choices=wanted.shapes(), help=f"any of {' '.join(wanted.shapes())}")
    _fill(parser)
    return parser


def _run_variants(options):
    for page in options.fill:
        pages.read(page)
    cells = [] if options.earlier else wanted.cells(options.op, options.shape, options.only, options.quick)
    if not cells and not options.earlier:
        raise BadArguments("no variant of --only fits the shapes and operations")
    plan = variant_race.QUICK if options.quick else variant_race.PLAN

    def job(cell):
        return lambda tell: variant_race.measure(*cell, plan, tell)

    records, facts, status = run.measured([job(cell) for cell in cells], variant_report.line, options)
    if records:
        print("", variant_report.table(records), "", machine.about(facts), "", variant_report.verdict(records), sep="\n")
        picture.try_write(options.png, records, facts, variant_report.heat_map)
        for page in options.fill:
            pages.fill(page, records, facts)
    return status


SETS = {  # kind of races -> their package, what the command is, the shape and its help
    "options": (
        option_races,
        f"{ABOUT_OPTIONS} Most peers have no such function: they run the formula that their users write, with their own differentiation.",
        "NxC",
        f"NxC (default: {' '.join(option_races.SHAPES)})",
    ),
    "interop": (interop_races, ABOUT_INTEROP, "NxC", "NxC, or NxCxHxW for torch and jax (default: those of docs/bench-interop.md)"),
    "linear": (
        linear_races,
        f"{ABOUT_LINEAR} The memory of a call is that of a process of its own.",
        "NxDxC",
        f"NxDxC (default: {' '.join(linear_races.SHAPES)})",
    ),
    "evaluate": (
        evaluate_races,
        f"{ABOUT_EVALUATE} Each shape is timed in {', '.join(evaluate_races.DTYPES)}.",
        "NxC",
        f"NxC (default: {' '.join(evaluate_races.SHAPES)})",
    ),
}
COMMANDS = {  # kind -> its parser, and what runs it
    "races": (_parser, _run),
    "scaling": (_scaling_parser, _run_scaling),
    "variants": (_variants_parser, _run_variants),
    **{kind: (partial(_set_parser, kind), partial(_run_set, kind)) for kind in SETS},
}
