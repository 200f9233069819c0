"""Floor 1: compiled kernels on disk. Numba's own cache may serve stale code, fail at import and raise in the user's call.

One file per kernel, signature and processor. Its folder's name is a hash over every kernel source and the versions that made it, so a
changed line anywhere is a new folder.
"""

import hashlib
import pickle
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from nbloss.kernels import disk
from nbloss.kernels.disk import cache_dir

__all__ = ["KernelCache", "cache_dir"]


@cache
def _stamp():
    """What compiled code depends on beside its signature and the processor."""
    return disk.stamp(Path(__file__).parent, numba.__version__, llvmlite.__version__, np.__version__)


class KernelCache:
    """What a Numba dispatcher expects of its ``_cache``; never raises."""

    def __init__(self, name):
        self._name = name

    def _path(self, sig, codegen):
        key = hashlib.sha256(repr((self._name, str(sig), codegen.magic_tuple())).encode()).hexdigest()[:16]
        return cache_dir() / _stamp() / f"{self._name}-{key}.kernel"

    def load_overload(self, sig, target_context):
        target_context.refresh()
        try:
            content = disk.read(self._path(sig, target_context.codegen()))
            if content is None:
                return None
            stored, payload = pickle.loads(content)
            if stored != (self._name, str(sig)):
                return None
            return CompileResult._rebuild(target_context, *payload)
        except Exception:  # whatever the file holds, the answer is to compile
            return None

    def save_overload(self, sig, data):
        try:
            disk.write(self._path(sig, data.codegen), dumps(((self._name, str(sig)), data._reduce())))
        except Exception:  # what cannot be stored is compiled again by the next process
            return
