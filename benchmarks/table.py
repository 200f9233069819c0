"""The table of `python -m nbloss bench` over the commits: nbloss's time over the memory baselines' and over every peer's.

The peers of a race take turns in one process, so that a temporary slowdown of the machine affects all of them. These ratios hold on
a noisy machine, and times do not. Lower is better: a commit that makes nbloss slower increases them.
"""

from nbloss.bench.measure.clock import Plan
from nbloss.bench.measure.timing import race
from nbloss.bench.measure.yardsticks import YARDSTICKS
from nbloss.bench.peers import PEERS
from nbloss.bench.problem import Problem
from nbloss.bench.races import DEFAULT

from .common import peers

AGAINST = [*YARDSTICKS, *(peer for peer in peers("cross_entropy_value_and_grad") if peer != "nbloss")]
PLAN = Plan(rounds=5)


class Table:
    params = [[" ".join(names) for names in DEFAULT], AGAINST]
    param_names = ["race", "against"]
    unit = "x"
    timeout = 60

    def setup_cache(self):
        """nbloss's time over the time of every peer and memory baseline, by race."""
        return {name: self._ratios(*name.split()) for name in self.params[0]}

    setup_cache.timeout = 3600

    def _ratios(self, operation, shape, dtype):
        try:
            problem = Problem.parse(shape, dtype)
            problem.numpy_dtype  # noqa: B018  raises where bfloat16 needs a missing ml_dtypes
        except NotImplementedError:
            return {}
        found = race(operation, problem, [p for p in ("nbloss", *AGAINST) if p in PEERS[operation]], PLAN)["contenders"]
        return {name: 1 / result["to_nbloss"] for name, result in found.items() if result.get("to_nbloss")}

    def setup(self, ratios, race, against):
        if against not in ratios[race]:
            raise NotImplementedError(f"{against} did not run {race}")

    def track_ratio(self, ratios, race, against):
        return ratios[race][against]
