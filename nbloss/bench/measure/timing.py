"""Timing the peers of a race in turns, so that the comparison holds on a noisy machine.

In every round each peer has one turn, in a new random order, so that a temporary slowdown of the machine affects all of them.
A pause separates the turns: the workers of OpenMP runtimes (torch, sklearn, Numba's omp layer) spin for milliseconds after a
call and would slow the next peer down. A turn starts with an untimed call, and its result is a median. The final result is
the median over the rounds. Peers that would take minutes skip some of the rounds.
"""

import random
import time

from ..evaluate import PEERS as EVALUATE_PEERS
from ..interop import PEERS as INTEROP_PEERS
from ..linear import PEERS as LINEAR_PEERS
from ..options import PEERS as OPTION_PEERS
from ..peers import ON_REQUEST, PEERS, WrongResult, check
from ..session import cpus
from . import yardsticks
from .clock import Plan, quartiles, schedule, takes_part, turn, wall_clock
from .yardsticks import YARDSTICK


def race(operation, problem, peers=None, plan=None, progress=None, timer=wall_clock):
    """Check and time `peers` (default: all but the variants of nbloss) and the memory baselines on one problem.

    Returns a record for JSON: the problem, and `contenders`, a dict by name. A peer that could not be timed is
    {"absent": reason}, {"wrong": reason} or {"failed": reason}. The others have "seconds", "low" and "high" (median and
    quartiles over the rounds), "calls", "to_yardstick" (time over the memory baseline's) and "to_nbloss" (time over
    nbloss's: above 1 where nbloss is faster). `progress(text)` is called at every step.
    """
    plan, tell = plan or Plan(), progress or (lambda text: None)
    # In the order of the table, with nbloss first: peers/nbloss.py explains why.
    table = (PEERS | OPTION_PEERS | INTEROP_PEERS | LINEAR_PEERS | EVALUATE_PEERS)[operation]
    names = [peer for peer in table if (peer not in ON_REQUEST if peers is None else peer in peers)]
    contenders, runs = {}, {}
    for name in names:
        tell(f"{operation} {problem}: checking {name}")
        try:
            runs[name] = check(operation, name, problem, table[name](problem))
        except NotImplementedError as reason:
            contenders[name] = {"absent": str(reason)}
        except WrongResult as reason:
            contenders[name] = {"wrong": str(reason)}
        except Exception as error:  # an unknown version of a peer must not end the race of the others
            contenders[name] = {"failed": f"{type(error).__name__}: {error}"}
    problem.forget_answers()
    runs |= {name: setup(problem) for name, setup in yardsticks.of(operation).items()}

    contenders |= interleaved(runs, plan, timer, lambda text: tell(f"{operation} {problem}: {text}"))[0]
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


def interleaved(runs, plan, timer=wall_clock, tell=lambda text: None):
    """Time callables in turns.

    Returns ``{name: {"seconds", "low", "high", "calls"}}``, and ``{name: the seconds of its turns}``, None for a round without a turn.
    """
    order, rng = list(runs), random.Random(plan.seed)
    schedules = {}
    for name in order:
        tell(f"estimating the time of {name}")
        schedules[name] = schedule(runs[name], plan, timer)
    medians = {name: [] for name in order}
    for number in range(plan.rounds):
        rng.shuffle(order)
        for name in order:
            turns, samples, batch = schedules[name]
            if not takes_part(number, turns, plan.rounds):
                medians[name].append(None)
                continue
            tell(f"round {number + 1}/{plan.rounds}")
            time.sleep(plan.pause)
            medians[name].append(turn(runs[name], samples, batch, timer))
    return {name: _summary(medians[name], *schedules[name][1:]) for name in runs}, medians


def _summary(medians, samples, batch):
    medians = [seconds for seconds in medians if seconds is not None]
    low, middle, high = quartiles(medians)
    return {"seconds": middle, "low": low, "high": high, "calls": samples * batch * len(medians)}


def _add_ratios(contenders, yardstick):
    bound = contenders[yardstick]["seconds"]
    ours = contenders.get("nbloss", {}).get("seconds")
    for record in contenders.values():
        if "seconds" in record:
            record["to_yardstick"] = record["seconds"] / bound
            record["to_nbloss"] = record["seconds"] / ours if ours else None
