"""The CUDA kernels in the simulator. It is chosen before Numba is imported, for a whole process: run this folder by itself."""

import os
import sys
import zlib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the simulator


def _alone(config):
    """Whether pytest was asked for this folder and nothing else."""
    paths = [Path(str(arg).split("::")[0]).resolve() for arg in config.args]
    return bool(paths) and all(path.is_relative_to(HERE) for path in paths)


def pytest_configure(config):
    if _alone(config):
        if "numba" in sys.modules and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
            raise pytest.UsageError("numba was imported before the simulator could be chosen")
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"


def pytest_ignore_collect(collection_path, config):
    return None if _alone(config) else True


@pytest.fixture(autouse=True)
def schedule(request):
    """Every test has an order of threads of its own, the same in every run."""
    import simulator

    simulator.install()
    simulator.seed(zlib.crc32(request.node.nodeid.encode()))
