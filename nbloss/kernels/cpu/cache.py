"""Floor 1: compiled kernels on disk. Numba's own cache may serve stale code, fail at import and raise in the user's call.

One file per kernel, signature and processor. Its folder's name is a hash over every kernel source and the versions that made it, so a
changed line anywhere is a new folder; the file begins with a digest of its content, so a truncated or swapped one is a miss. Whatever
goes wrong with the disk, the kernel is compiled again: slower, never wrong, never an error.
"""

import hashlib
import os
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps


def cache_dir():
    """The folder of compiled kernels: ``NBLOSS_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("NBLOSS_CACHE_DIR")
    if chosen:
        return Path(chosen)
    home = Path.home if os.path.expanduser("~") != "~" else (lambda: Path(tempfile.gettempdir()))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home() / "AppData" / "Local") / "nbloss" / "Cache"
    if sys.platform == "darwin":
        return home() / "Library" / "Caches" / "nbloss"
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "nbloss"


@cache
def _stamp():
    """What compiled code depends on beside its signature and the processor."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {np.__version__} {sys.version}".encode())
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


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
            content = self._path(sig, target_context.codegen()).read_bytes()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                return None
            stored, payload = pickle.loads(content[32:])
            if stored != (self._name, str(sig)):
                return None
            return CompileResult._rebuild(target_context, *payload)
        except Exception:  # whatever the file holds, the answer is to compile
            return None

    def save_overload(self, sig, data):
        try:
            path = self._path(sig, data.codegen)
            content = dumps(((self._name, str(sig)), data._reduce()))
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
                try:
                    part.write(hashlib.sha256(content).digest() + content)
                    part.close()
                    os.replace(part.name, path)
                except BaseException:
                    os.unlink(part.name)
                    raise
        except Exception:  # a full or read-only disk: the next process compiles again
            return
