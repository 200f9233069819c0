"""Timing contenders against one another so that the comparison survives a noisy machine.

Turns are interleaved: in every round each contender has one turn, in a new random order, so that a slow minute of the
machine falls on all of them. Between turns there is a pause: the workers of OpenMP runtimes (torch, sklearn, Numba's
omp layer) spin for milliseconds after a call, and would be charged to whoever comes next. A turn starts with a call
that is not timed, and its result is a median; so is the final number, over the rounds. Contenders that would take
minutes sit out some of the rounds.
"""

import random
import statistics
import time
from dataclasses import dataclass

from .peers import PEERS, VARIANTS, YARDSTICK, YARDSTICKS, WrongResult, check, cpus

SHORTEST_SAMPLE = 50e-6  # s; shorter calls are timed in batches, or the clock itself would show
LONG_CALL = 0.1  # s; longer ones are timed one by one, and what the pause before them has cooled down does not show
FEWEST_TURNS = 3


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    `turn` seconds bound the calls of one turn, of which there are 3 to 200 (of long calls: one). `budget` seconds bound
    the turns of one contender: the slow ones take part in fewer than `rounds`, evenly spread, but in three at least.
    """

    rounds: int = 7
    pause: float = 0.03
    turn: float = 0.012
    budget: float = 1.0
    seed: int = 0


QUICK = Plan(rounds=3, turn=0.005)


def wall_clock(run, calls):
    """Seconds per call. A device whose calls return before the work is done needs another timer."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def race(operation, problem, peers=None, plan=None, progress=None, timer=wall_clock):
    """Check and time `peers` (default: all but nbloss's variants) and the yardsticks on one operation and one problem.

    Returns a record that JSON can hold: the problem, and `contenders`, a dict by name. A contender that could not be
    timed is {"absent": reason}, {"wrong": reason} or {"failed": reason}; the others have "seconds", "low" and "high"
    (median and quartiles over rounds), "calls", "to_yardstick" (time over the yardstick's) and "to_nbloss" (time
    over nbloss's: above 1 means that nbloss is faster).
    `progress(text)` is told about every step.
    """
    plan, tell = plan or Plan(), progress or (lambda text: None)
    # In the table's order, nbloss first: see peer_nbloss about threading layers.
    names = [peer for peer in PEERS[operation] if (peer not in VARIANTS if peers is None else peer in peers)]
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
    problem.forget_answers()
    runs |= {name: setup(problem) for name, setup in YARDSTICKS.items()}

    contenders |= _interleaved(runs, plan, timer, lambda text: tell(f"{operation} {problem}: {text}"))
    _add_ratios(contenders, YARDSTICK[operation])
    return {
        "operation": operation,
        "shape": problem.shape_text,
        "dtype": problem.dtype,
        "threads": cpus(),
        "yardstick": YARDSTICK[operation],
        "bytes": problem.bytes_moved(operation),
        "rounds": plan.rounds,
        "contenders": contenders,
    }


def _interleaved(runs, plan, timer, tell):
    order, rng = list(runs), random.Random(plan.seed)
    schedule = {}
    for name in order:
        tell(f"how long {name} takes")
        schedule[name] = _turns(runs[name], plan, timer)
    medians = {name: [] for name in order}
    for number in range(plan.rounds):
        rng.shuffle(order)
        for name in order:
            turns, samples, batch = schedule[name]
            if (number + 1) * turns // plan.rounds > number * turns // plan.rounds:
                tell(f"round {number + 1}/{plan.rounds}")
                time.sleep(plan.pause)
                medians[name].append(_turn(runs[name], samples, batch, timer))
    return {name: _summary(medians[name], *schedule[name][1:]) for name in runs}


def _turns(run, plan, timer):
    """(turns, samples per turn, calls per sample) of a contender."""
    time.sleep(plan.pause)
    estimate = max(timer(run, 1), 1e-9)
    if estimate < LONG_CALL:
        estimate = max(min(timer(run, 1) for _ in range(3)), 1e-9)
    batch = max(1, round(SHORTEST_SAMPLE / estimate))
    samples = 1 if estimate >= LONG_CALL else min(200, max(3, int(plan.turn / (batch * estimate))))
    return min(plan.rounds, max(FEWEST_TURNS, int(plan.budget / (samples * batch * estimate)))), samples, batch


def _turn(run, samples, batch, timer):
    if samples > 1:
        run()  # wakes the threads and brings the arrays back into the caches
    return statistics.median(timer(run, batch) for _ in range(samples))


def _summary(medians, samples, batch):
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive") if len(medians) > 1 else medians * 3
    return {"seconds": middle, "low": low, "high": high, "calls": samples * batch * len(medians)}


def _add_ratios(contenders, yardstick):
    bound = contenders[yardstick]["seconds"]
    ours = contenders.get("nbloss", {}).get("seconds")
    for record in contenders.values():
        if "seconds" in record:
            record["to_yardstick"] = record["seconds"] / bound
            record["to_nbloss"] = record["seconds"] / ours if ours else None
