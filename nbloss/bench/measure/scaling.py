"""The points of `bench scaling`: loss and gradient in float32 over classes, rows and threads.

Over the classes the number of logits stays the same, so that only the shape of the work changes.
"""

from ..problem import Problem
from ..races import VALUE_AND_GRAD
from ..session import cpus, processors
from .timing import race

SIZE, QUICK_SIZE = 1 << 22, 1 << 18  # logits
MOST_CLASSES = 1 << 18
NARROW, WIDE = 10, 1000  # classes of the sweeps over rows: short rows and long rows
PEERS = ("torch", "jax")
ADJUSTABLE = ("nbloss", "torch")  # these accept a new number of threads in a running process


def sweeps(quick):
    """(sweep, shape, threads) of every point: powers of two, or every third one if `quick`."""
    step, size, every = (3, QUICK_SIZE, cpus()) if quick else (1, SIZE, cpus())
    powers = [1 << k for k in range(1, MOST_CLASSES.bit_length(), step)]
    points = [("classes", (max(1, size // c), c), every) for c in powers]
    for classes in (NARROW, WIDE):
        powers = [1 << k for k in range(0, (size // classes).bit_length(), 2 * step)]
        points += [(f"rows of {classes} classes", (n, classes), every) for n in powers]
    # In descending order: a library that starts with one thread never gets more.
    threads = range(every, 0, -1)
    return points + [(f"threads at {n}x{c}", (n, c), t) for n, c in ((size // 64, NARROW), (size // 1024, WIDE)) for t in threads]


def measure(sweep, shape, threads, peers, plan, tell):
    """The record of one point."""
    names = ("nbloss", *peers, "nbloss_fresh") if sweep.startswith("rows") else ("nbloss", *peers)
    if sweep.startswith("threads"):
        names = [name for name in names if name in ADJUSTABLE]
    with processors(threads if threads < cpus() else None):
        return race(VALUE_AND_GRAD, Problem(shape), names, plan, tell) | {"sweep": sweep}


def per_number(record, name):
    """Nanoseconds per logit, or None where a peer was not timed."""
    seconds = record["contenders"].get(name, {}).get("seconds")
    return seconds and seconds * 1e9 / Problem.parse(record["shape"]).size
