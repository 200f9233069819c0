"""Kernels compiled for every supported architecture through the real pipeline: no driver and no GPU, but numba-cuda's compiler."""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # cubins

INSTALLED = all(importlib.util.find_spec(name) for name in ("numba_cuda", "cuda"))
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def pytest_ignore_collect(collection_path, config):
    """Without numba-cuda, or in its simulator, there is no compiler."""
    return None if INSTALLED and not SIMULATED else True
