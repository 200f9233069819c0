"""The races on a GPU.

The arrays are in device memory. The times are device times between two events. Results and logits rotate through more memory
than the L2 cache holds. The results of each peer are compared with float64 before it is timed.
"""

from math import gcd, prod

import numpy as np

from ..problem import TOLERANCE, Problem, relative_error

SHAPES = ("65536x10", "32768x1024", "8192x32768", "4096x50257", "4096x128256", "16x21x512x512")
QUICK_SHAPES = ("65536x10", "4096x1024", "2x21x128x128")
OPERATIONS = ("log_softmax", "cross_entropy", "cross_entropy_value_and_grad")
NO_TIME = "no time was left to set it up"
BLOCK = 64  # random rows; a batch repeats them, so that the expected results need only these rows


class Repeated:
    """A batch that repeats a small problem along its first axis, so that the expected results are cheap to compute."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        rows = gcd(shape[0], BLOCK) if len(shape) == 2 else 1
        self.part = Problem((rows, *shape[1:]), dtype)
        self.times = shape[0] // rows

    def nbytes(self):
        return prod(self.shape) * self.part.numpy_dtype.itemsize

    def bytes_moved(self, operation):
        """The least memory traffic in bytes: every input is read once, every output is written once."""
        positions = prod(self.shape) // self.shape[1]
        losses = 0 if operation == "log_softmax" else positions * self.part.target.itemsize
        return self.nbytes() * (1 if operation == "cross_entropy" else 2) + losses

    def expected(self, operation):
        """The expected results. Of an array, only the rows of ``part``."""
        answers = self.part.answer(operation)
        return [a if np.ndim(a) == 0 else a / (self.times if operation != "log_softmax" else 1) for a in answers]

    def error(self, operation, results):
        """The largest relative error of the results. Of an array, the first and the last rows are compared."""
        worst = 0.0
        expected = self.expected(operation)
        if len(results) != len(expected):
            return np.inf
        for result, want in zip(results, expected, strict=True):
            ends = [result] if np.ndim(want) == 0 else [result[: want.shape[0]], result[-want.shape[0] :]]
            for got in ends:
                got = np.asarray(got, np.float64)
                if got.shape != np.shape(want):
                    return np.inf
                error = relative_error(got, want)
                worst = error if not error <= worst else worst  # written so that nan stays
        return worst

    def __str__(self):
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"


def race(operation, problem, arrays, peers, clock, rounds, spent, compared=True):
    """Check and time the peers on one operation.

    ``arrays`` are the (logits, target) pairs of the rotation. ``spent()`` is true when the time is up. Returns a record for JSON,
    in which a peer has "seconds" with its quartiles, or the reason why it was not timed. ``compared`` is False for a driver that
    computes nothing: the peers are timed, and marked.
    """
    contenders, runs = {}, {}
    for name, peer in peers.items():
        if spent():
            contenders[name] = {"absent": NO_TIME}
            continue
        try:
            run = peer(operation, arrays)
            results = run.checked(problem.part.shape[0])
            error = problem.error(operation, results) if compared else 0.0
        except NotImplementedError as reason:
            contenders[name] = {"absent": str(reason)}
        except Exception as failure:  # an unknown version of a peer must not end the race of the others
            contenders[name] = {"failed": f"{type(failure).__name__}: {failure}"}
        else:
            if error <= TOLERANCE[problem.dtype]:
                runs[name] = run
            else:
                contenders[name] = {"wrong": f"off by {error:.1e} of the largest value"}
    for name, times in _timed(runs, clock, rounds).items():
        contenders[name] = times if compared else times | {"not_compared": "the driver computes nothing"}
    return with_ratios(record(operation, problem, contenders), clock.bandwidth)


def record(operation, problem, contenders):
    """The record of a race, without ratios."""
    shape, moved = list(problem.shape), problem.bytes_moved(operation)
    return {"operation": operation, "shape": shape, "dtype": problem.dtype, "bytes": moved, "contenders": contenders}


def with_ratios(record, bandwidth):
    """The record with each peer's share of the copy bandwidth, and its time over that of nbloss."""
    ours = record["contenders"].get("nbloss", {}).get("seconds")
    for c in record["contenders"].values():
        if "seconds" in c:
            c["share"] = record["bytes"] / c["seconds"] / bandwidth
            c["to_nbloss"] = c["seconds"] / ours if ours else None
    return record


def merged(records, bandwidth):
    """One record for each operation, shape and dtype. Peers of one race may come in several records: compilers run on their own."""
    races = {}
    for record in records:
        key = record["operation"], tuple(record["shape"]), record["dtype"]
        race = races.setdefault(key, record | {"contenders": {}})
        race["contenders"] |= {name: dict(c) for name, c in record["contenders"].items()}
    return [with_ratios(race, bandwidth) for race in races.values()]


def _timed(runs, clock, rounds):
    """Medians and quartiles over the rounds. Every peer has one turn in each round."""
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
