"""nbloss's processor time for loss and gradient over the commits, as a multiple of a copy's and of NumPy's. Lower is better.

From the measured commit it takes `nbloss.functional` alone. The arrays, the clock and the formula in NumPy are those of this
checkout: all commits are measured by the same code, the first one included. `tools/history` runs this suite and builds its pages.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BENCH = Path(__file__).resolve().parents[1] / "nbloss" / "bench"
OPERATION = "cross_entropy_value_and_grad"


def _load(path):
    """Import a module by its path: `import nbloss.bench` would find the measured commit's."""
    spec = importlib.util.spec_from_file_location(f"_history_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


def processor_clock(run, calls):
    """Processor seconds per call. Wall time would count other processes' turns on the processor, most of all in long calls."""
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls


def measure(shape, against, rounds):
    """nbloss's time over that of each of `against`: the median over rounds in which all of them have a turn."""
    import nbloss
    import nbloss.functional as F

    worker, numpy_peer = _load(BENCH / "measure" / "worker.py"), _load(BENCH / "peers" / "numpy.py")
    clock, problems = worker.clock, worker.problems
    nbloss.set_num_threads(1)  # the processor time of several threads has their waiting in it
    problem = problems.Problem.parse(shape)
    runs = {"numpy": getattr(numpy_peer, OPERATION)(problem)}

    def move():
        """Copy the arrays to new memory: which pages the system provides can change the time of a call."""
        x, out = problem.logits.copy(order="K"), problem.empty()
        runs["nbloss"] = worker.call_of(F, OPERATION, x, problem.target)
        runs["copy"] = lambda: np.copyto(out, x)

    move()
    for got, want in zip(runs["nbloss"](), problem.answer(OPERATION), strict=True):
        error = problems.relative_error(np.asarray(got).astype(np.float64), np.asarray(want))
        if not error <= problems.TOLERANCE[problem.dtype]:
            raise ValueError(f"wrong result: off by {error:.1e} of the largest value")
    plan = clock.Plan(rounds=rounds)
    schedules = {name: clock.schedule(run, plan, processor_clock)[1:] for name, run in runs.items()}
    ratios = {name: [] for name in against}
    for _ in range(rounds):
        move()
        seconds = {}
        for name, run in runs.items():
            time.sleep(plan.pause)
            run()  # not timed: with one sample, `clock.turn` makes no call of its own before it
            seconds[name] = clock.turn(run, *schedules[name], processor_clock)
        for name in against:
            ratios[name].append(seconds["nbloss"] / seconds[name])
    return {name: statistics.median(found) for name, found in ratios.items()}


def median_of_processes(found):
    return {shape: {name: statistics.median(one[shape][name] for one in found) for name in found[0][shape]} for shape in found[0]}


class History:
    params = [["32x10", "65536x10", "16384x100", "4096x1000", "256x50257", "2x21x512x512"], ["copy", "numpy"]]
    param_names = ["shape", "against"]
    unit = "x"
    timeout = 60
    version = "1"  # asv drops the results of other versions: a new one only where old points cannot be compared with new ones
    # In one of four processes the same kernel took 1.4 times as long, at (65536, 10) (AMD EPYC, 2026-12-01).
    processes, rounds = 5, 7

    def setup_cache(self):
        shapes, against = self.params
        command = [sys.executable, __file__, json.dumps([shapes, against, self.rounds])]
        printed = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in range(self.processes)]
        return median_of_processes([json.loads(text) for text in printed])

    setup_cache.timeout = 1200

    def track_ratio(self, ratios, shape, against):
        return ratios[shape][against]

    track_ratio.pretty_name = "Loss and gradient"


if __name__ == "__main__":
    given, others, count = json.loads(sys.argv[1])
    print(json.dumps({shape: measure(shape, others, count) for shape in given}))
