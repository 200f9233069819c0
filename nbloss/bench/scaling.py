"""`python -m nbloss bench scaling`: what one number of the logits costs as the classes, the rows and the threads become more.

Loss and gradient in float32. Over the classes the size stays the same, so that only the shape of the work changes.
"""

from .peers import cpus
from .problem import Problem
from .races import VALUE_AND_GRAD
from .report import duration
from .session import Parser, measured, processors
from .timing import QUICK, Plan, race

SIZE, QUICK_SIZE = 1 << 22, 1 << 18  # numbers
MOST_CLASSES = 1 << 18
NARROW, WIDE = 10, 1000  # classes of the sweeps over rows: short rows and long ones
PEERS = ("torch", "jax")
OBEDIENT = ("nbloss", "torch")  # what takes a new number of threads in the middle of a process


def parser():
    """The parser of `bench scaling`."""
    known = Parser("bench scaling", __doc__.splitlines()[0].partition(": ")[2])
    peers = f"beside nbloss and the yardsticks; any of bench's (default: {' '.join(PEERS)}, where installed)"
    known.add_argument("--peers", nargs="+", metavar="PEER", default=PEERS, help=peers)
    return known


def sweeps(quick):
    """(sweep, shape, threads) of every point: powers of two, every third one for a quick look."""
    step, size, every = (3, QUICK_SIZE, cpus()) if quick else (1, SIZE, cpus())
    powers = [1 << k for k in range(1, MOST_CLASSES.bit_length(), step)]
    points = [("classes", (max(1, size // c), c), every) for c in powers]
    for classes in (NARROW, WIDE):
        powers = [1 << k for k in range(0, (size // classes).bit_length(), 2 * step)]
        points += [(f"rows of {classes} classes", (n, classes), every) for n in powers]
    # Downwards: a library that starts with one thread never gets more.
    threads = range(every, 0, -1)
    return points + [(f"threads at {n}x{c}", (n, c), t) for n, c in ((size // 64, NARROW), (size // 1024, WIDE)) for t in threads]


def run(options):
    """Measure, print, write and draw; returns the exit status."""
    from . import picture
    from .curves import curves

    plan = QUICK if options.quick else Plan(rounds=5)

    def job(sweep, shape, threads):
        peers = ("nbloss", *options.peers, "nbloss_fresh") if sweep.startswith("rows") else ("nbloss", *options.peers)
        if sweep.startswith("threads"):
            peers = [name for name in peers if name in OBEDIENT]

        def measure(tell):
            with processors(threads if threads < cpus() else None):
                return race(VALUE_AND_GRAD, Problem(shape), peers, plan, tell) | {"sweep": sweep}

        return measure

    points = [] if options.earlier else sweeps(options.quick)
    records, facts, status = measured([job(*point) for point in points], line, options)
    if records:
        picture.try_write(options.png, records, facts, curves)
    return status


def per_number(record, name):
    """Nanoseconds per number of the logits, None where a contender was not timed."""
    seconds = record["contenders"].get(name, {}).get("seconds")
    return seconds and seconds * 1e9 / Problem.parse(record["shape"]).size


def line(record):
    """One point in one line."""
    if "sweep" not in record:
        raise ValueError("these are numbers of bench, not of bench scaling")
    found = [f"{name} {per_number(record, name):.3g}" for name in record["contenders"] if per_number(record, name)]
    ours = record["contenders"]["nbloss"].get("seconds")
    shown = "-" if ours is None else duration(ours)
    return f"{record['sweep']:<24}{record['shape']:>14}  {record['threads']} threads  {shown:>8}  ns per number: {', '.join(found)}"
