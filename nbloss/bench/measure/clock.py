"""Timing one callable: how many calls make a turn, and the median time of a call.

This module imports nothing from nbloss: `measure.worker` loads it by its path.
"""

import statistics
import time
from dataclasses import dataclass

SHORTEST_SAMPLE = 50e-6  # s; shorter calls are timed in batches, so that the cost of reading the clock does not matter
LONG_CALL = 0.1  # s; longer calls are timed one by one, because cold caches after a pause do not matter for them
FEWEST_TURNS = 3


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    `turn` limits the seconds of one turn, which has 3 to 200 samples, or one sample of a long call. `budget` limits the
    seconds of all turns of one peer: slow peers take part in fewer than `rounds`, evenly spread, but in at least three.
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


def schedule(run, plan, timer=wall_clock):
    """(turns, samples per turn, calls per sample) for a callable."""
    time.sleep(plan.pause)
    estimate = max(timer(run, 1), 1e-9)
    if estimate < LONG_CALL:
        estimate = max(min(timer(run, 1) for _ in range(3)), 1e-9)
    batch = max(1, round(SHORTEST_SAMPLE / estimate))
    samples = 1 if estimate >= LONG_CALL else min(200, max(3, int(plan.turn / (batch * estimate))))
    return min(plan.rounds, max(FEWEST_TURNS, int(plan.budget / (samples * batch * estimate)))), samples, batch


def turn(run, samples, batch, timer=wall_clock):
    """The median seconds per call over the samples of one turn."""
    if samples > 1:
        run()  # not timed: it wakes the threads and loads the arrays into the caches
    return statistics.median(timer(run, batch) for _ in range(samples))


def quartiles(values):
    """(lower quartile, median, upper quartile)."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3


def takes_part(number, turns, rounds):
    """Whether a peer with so many turns has one in this round: the turns are spread evenly over the rounds."""
    return (number + 1) * turns // rounds > number * turns // rounds
