"""Timing contenders against one another so that the comparison survives a noisy machine.

Turns are interleaved: in every round each contender has one turn, in a new random order, so that a slow minute of the
machine falls on all of them. Between turns there is a pause: the workers of OpenMP runtimes (torch, sklearn, Numba's
omp layer) spin for milliseconds after a call, and would be charged to whoever comes next. A turn starts with a call
that is not timed, and its result is a median; so is the final number, over the rounds.
"""

import random
import statistics
import time
from dataclasses import dataclass

from .peers import PEERS, YARDSTICK, YARDSTICKS, WrongResult, check

SHORTEST_SAMPLE = 50e-6  # s; shorter calls are timed in batches, or the clock itself would show


@dataclass(frozen=True)
class Plan:
    """How much to measure. `turn` seconds bound the calls of one turn, of which there are 3 to 200."""

    rounds: int = 9
    pause: float = 0.03
    turn: float = 0.02
    seed: int = 0


QUICK = Plan(rounds=3, turn=0.005)


def race(operation, problem, peers=None, plan=None, progress=None):
    """Check and time `peers` (default: all) and the yardsticks on one operation and one problem.

    Returns a record that JSON can hold: the problem, and `contenders`, a dict by name. A contender that could not be
    timed is {"absent": reason}, {"wrong": reason} or {"failed": reason}; the others have "seconds", "low" and "high"
    (median and quartiles over rounds), "calls", "to_yardstick" (time over the yardstick's) and "to_nbloss" (time
    over nbloss's: above 1 means that nbloss is faster).
    `progress(text)` is told about every step.
    """
    plan, tell = plan or Plan(), progress or (lambda text: None)
    # In the table's order, nbloss first: see peer_nbloss about threading layers.
    names = [peer for peer in PEERS[operation] if peers is None or peer in peers]
    contenders, runs = {}, {}
    for name in names:
        tell(f"{operation} {problem}: checking {name}")
        try:
            runs[name] = check(operation, name, problem)
        except NotImplementedError as reason:
            contenders[name] = {"absent": str(reason)}
        except WrongResult as reason:
            contenders[name] = {"wrong": str(reason)}
        except Exception as error:  # a peer of a version that we do not know must not end the others' race
            contenders[name] = {"failed": f"{type(error).__name__}: {error}"}
    runs |= {name: setup(problem) for name, setup in YARDSTICKS.items()}

    contenders |= _interleaved(runs, plan, lambda text: tell(f"{operation} {problem}: {text}"))
    _add_ratios(contenders, YARDSTICK[operation])
    return {
        "operation": operation,
        "shape": list(problem.shape),
        "dtype": problem.dtype,
        "yardstick": YARDSTICK[operation],
        "bytes": problem.bytes_moved(operation),
        "rounds": plan.rounds,
        "contenders": contenders,
    }


def ratio_to_yardstick(operation, peer, problem, plan=QUICK):
    """How many times longer `peer` takes than the memory alone would; raises NotImplementedError if it is absent."""
    PEERS[operation][peer](problem)
    return race(operation, problem, [peer], plan)["contenders"][peer]["to_yardstick"]


def _interleaved(runs, plan, tell):
    order, rng = list(runs), random.Random(plan.seed)
    calls = {name: _calls_per_turn(runs[name], plan) for name in order}
    medians = {name: [] for name in order}
    for number in range(plan.rounds):
        rng.shuffle(order)
        for name in order:
            tell(f"round {number + 1}/{plan.rounds}")
            time.sleep(plan.pause)
            medians[name].append(_turn(runs[name], *calls[name]))
    return {name: _summary(medians[name], calls[name]) for name in runs}


def _calls_per_turn(run, plan):
    """(samples, calls per sample) that fill a turn."""
    time.sleep(plan.pause)
    run()
    estimate = min(_timed(run, 1) for _ in range(3))
    batch = max(1, round(SHORTEST_SAMPLE / max(estimate, 1e-9)))
    return min(200, max(3, int(plan.turn / (batch * max(estimate, 1e-9))))), batch


def _turn(run, samples, batch):
    run()  # wakes the threads and brings the arrays back into the caches
    return statistics.median(_timed(run, batch) for _ in range(samples))


def _timed(run, batch):
    start = time.perf_counter()
    for _ in range(batch):
        run()
    return (time.perf_counter() - start) / batch


def _summary(medians, calls):
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive") if len(medians) > 1 else medians * 3
    return {"seconds": middle, "low": low, "high": high, "calls": calls[0] * calls[1] * len(medians)}


def _add_ratios(contenders, yardstick):
    bound = contenders[yardstick]["seconds"]
    ours = contenders.get("nbloss", {}).get("seconds")
    for record in contenders.values():
        if "seconds" in record:
            record["to_yardstick"] = record["seconds"] / bound
            record["to_nbloss"] = record["seconds"] / ours if ours else None
