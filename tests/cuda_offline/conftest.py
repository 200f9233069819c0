"""Kernels compiled for every supported architecture, as on a machine with a GPU. They need numba-cuda's compiler, but no driver."""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # cubins

INSTALLED = all(importlib.util.find_spec(name) for name in ("numba_cuda", "cuda"))
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def pytest_ignore_collect(collection_path, config):
    """There is no compiler without numba-cuda, nor in its simulator."""
    return None if INSTALLED and not SIMULATED else True
