"""The CUDA kernels in the simulator. The choice is made for a whole process, before Numba is imported: run this folder by itself."""

import os
import sys
import zlib
from pathlib import Path

import folders
import pytest
import tiers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the simulator


def pytest_configure(config):
    if folders.is_alone(config, HERE):
        missing = folders.missing("numba_cuda", "cuda.core", "greenlet")
        if missing:
            pytest.exit(f"skipped: {', '.join(missing)} not installed", returncode=0)
        if "numba" in sys.modules and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
            raise pytest.UsageError("numba was imported before the simulator could be chosen")
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"


def pytest_ignore_collect(collection_path, config):
    return None if folders.is_alone(config, HERE) else True


CASES = 5  # cases of one test that run; a simulated thread takes a millisecond, and all cases would take an hour
ALL_CASES = (  # tests of which all cases run
    "test_the_node_gives_what_onnx_expects",
    "test_pytorch_s_own_samples_give_its_values_and_gradients",
    "test_statistics_of_each_kernel",
    "test_the_square_of_the_log_sum_exp",
)


# Cases with thousands of simulated threads never run, except with NBLOSS_SLOW=1.
LARGE = ("in_many_rows", "-2000-", "[2000-")


def pytest_collection_modifyitems(config, items):
    """Keep CASES pseudo-random cases of each test, the same in every run. With NBLOSS_SLOW=1 all run."""
    if tiers.is_slow() or not folders.is_alone(config, HERE):
        return
    tiers.drop(config, items, {item.nodeid for item in items if any(name in item.name for name in LARGE)})
    tiers.keep_cases(config, items, CASES, lambda item: item.originalname not in ALL_CASES)


@pytest.fixture(autouse=True)
def schedule(request):
    """Seed the order of threads: each test has its own, the same in every run."""
    import simulator

    simulator.install()
    simulator.seed(zlib.crc32(request.node.nodeid.encode()))
