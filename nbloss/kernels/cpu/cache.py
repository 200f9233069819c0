"""Floor 1: compiled kernels on disk. Numba's own cache may serve stale code, fail at import and raise in the user's call.

One file per kernel, signature and processor. Its folder's name is a hash over every kernel source and the versions that made it, so a
changed line anywhere is a new folder.
"""

import hashlib
import pickle
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from nbloss.kernels import disk
from nbloss.kernels.disk import cache_dir

__all__ = ["STAMP", "KernelCache", "cache_dir"]

SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # of Numba's: what they change is compiled in


def _stamp():
    """What compiled code depends on beside its signature and the processor."""
    return disk.stamp(Path(__file__).parent, numba.__version__, llvmlite.__version__, np.__version__)


# Taken before the kernels' modules are read (see __init__), and again before anything is saved: code is only ever filed under the stamp
# of the very sources that it was compiled from, also where they change while a process runs.
STAMP = _stamp()


class KernelCache:
    """What a Numba dispatcher expects of its ``_cache``; never raises."""

    def __init__(self, name):
        self._name = name

    def _path(self, sig, codegen):
        settings = [str(getattr(numba.config, name, None)) for name in SETTINGS]
        key = hashlib.sha256(repr((self._name, str(sig), codegen.magic_tuple(), settings)).encode()).hexdigest()[:24]
        return cache_dir() / STAMP / f"{self._name}-{key}{disk.CPU}"

    def load_overload(self, sig, target_context):
        target_context.refresh()
        try:
            content = disk.read(self._path(sig, target_context.codegen()))
            return None if content is None else CompileResult._rebuild(target_context, *pickle.loads(content))
        except Exception:  # whatever the file holds, the answer is to compile
            return None

    def save_overload(self, sig, data):
        try:
            if _stamp() == STAMP:
                disk.write(self._path(sig, data.codegen), dumps(data._reduce()))
        except Exception:  # what cannot be stored is compiled again by the next process
            return
