"""The program that step 4 profiles: one call on a shape, between two marks for the profiler.

python -m gpu_steps.profiled OPERATION SHAPE DTYPE
"""

import sys

from nbloss.bench.gpu import peers, races
from nbloss.bench.gpu.device import Clock


def main(operation, shape, dtype):
    clock = Clock("cuda")
    run = peers.nbloss(operation, clock.arrays(races.Repeated(tuple(map(int, shape.split("x"))), dtype))[:1])
    driver = clock.memory.driver()
    run()
    clock.stream.sync()
    driver.cuProfilerStart()
    run()
    clock.stream.sync()
    driver.cuProfilerStop()


if __name__ == "__main__":
    main(*sys.argv[1:])
