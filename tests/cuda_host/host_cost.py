"""The time of the host for calls on GPU arrays, with a driver that does nothing: `python tests/cuda_host/host_cost.py`.

Prints microseconds, and multiples of one bare launch of a kernel with 8 arguments through cuda-core in the same run.
"""

import sys
import tempfile
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import recorder

ROUNDS, CALLS_OF_A_ROUND = 25, 100


def microseconds(run, after=lambda: None):
    """The least time of a call over some rounds, with the record emptied between them."""
    times = []
    for _ in range(ROUNDS):
        times.append(timeit.timeit(run, number=CALLS_OF_A_ROUND) / CALLS_OF_A_ROUND * 1e6)
        after()
    return min(times)


def main():
    with tempfile.TemporaryDirectory() as folder:
        driver = recorder.Recorder(recorder.build(folder))
        import calls
        from cuda.core import LEGACY_DEFAULT_STREAM, LaunchConfig, ObjectCode, launch

        from nbloss.kernels.cuda.runtime import build

        build.cubin = recorder.name_only
        given = calls.arrays()
        config = LaunchConfig(grid=1, block=128)
        kernel = ObjectCode.from_cubin(b"\0.text.bare.88888888\0").get_kernel("bare.88888888")
        bare = microseconds(lambda: launch(LEGACY_DEFAULT_STREAM, config, kernel, *range(8)), driver.clear)
        print(f"{'a bare launch of 8 arguments':45}{bare:8.1f} us")
        for name, call in calls.CALLS.items():
            call(*given)
            time = microseconds(lambda call=call: call(*given), driver.clear)
            driver.clear()
            call(*given)
            launches, allocations = len(driver.lines("launch")), len(driver.lines("allocate"))
            print(f"{name:45}{time:8.1f} us {time / bare:6.1f} bare, {launches} launches, {allocations} allocations")


if __name__ == "__main__":
    main()
