"""Floor 1: compiled kernels on disk. Numba's own cache may serve stale code, fail at import and raise in the user's call.

One file per kernel, signature and processor. Its folder's name is a hash over every kernel source and the versions that made it, so a
changed line anywhere is a new folder; the file begins with a digest of its key and content, so a truncated or swapped one is a miss.
Whatever goes wrong with the disk, the kernel is compiled again: slower, never wrong, never an error.
"""

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

KERNEL, PART = ".kernel", ".part"  # a file, and one that is being written
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # of Numba's: what they change is compiled in


def _homeless():
    """Where a user without a home keeps kernels: below a folder for temporary files, in one that nobody else can have made."""
    home = Path(tempfile.gettempdir()) / f"nbloss-{os.getuid() if hasattr(os, 'getuid') else ''}"
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        made = home.lstat()
        mine = not hasattr(os, "getuid") or (made.st_uid == os.getuid() and not made.st_mode & 0o022 and stat.S_ISDIR(made.st_mode))
    except OSError:
        mine = False
    return home if mine else Path(os.devnull)  # nothing can be kept below it


def cache_dir():
    """The folder of compiled kernels: ``NBLOSS_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("NBLOSS_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    home = Path.home if os.path.expanduser("~") != "~" else _homeless
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home() / "AppData" / "Local") / "nbloss" / "Cache"
    if sys.platform == "darwin":
        return home() / "Library" / "Caches" / "nbloss"
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "nbloss"


def _stamp(folder=Path(__file__).parents[1]):
    """What compiled code depends on beside its signature and the processor; None where the sources cannot be read."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {np.__version__} {sys.version}".encode())
    try:
        sources = sorted(folder.rglob("*.py"))
        for source in sources:
            digest.update(source.read_bytes())
    except OSError:
        return None
    return digest.hexdigest()[:24] if sources else None


# Taken before the kernels' modules are read (see __init__), and again before anything is saved: code is only ever filed under the stamp
# of the very sources that it was compiled from, also where they change while a process runs.
STAMP = _stamp()


class KernelCache:
    """What a Numba dispatcher expects of its ``_cache``; never raises."""

    def __init__(self, name):
        self._name = name

    def _place(self, sig, codegen):
        """The key of a kernel and its file; the key is part of the file's digest, so a file under another's name is a miss."""
        settings = [str(getattr(numba.config, name, None)) for name in SETTINGS]
        key = hashlib.sha256(repr((STAMP, self._name, str(sig), codegen.magic_tuple(), settings)).encode()).digest()
        return key, cache_dir() / STAMP / f"{self._name}-{key.hex()[:16]}{KERNEL}"

    def load_overload(self, sig, target_context):
        target_context.refresh()
        try:
            key, path = self._place(sig, target_context.codegen())
            content = path.read_bytes()
            if hashlib.sha256(key + content[32:]).digest() != content[:32]:
                return None
            return CompileResult._rebuild(target_context, *pickle.loads(content[32:]))
        except Exception:  # whatever the file holds, the answer is to compile
            return None

    def save_overload(self, sig, data):
        try:
            if STAMP is None or _stamp() != STAMP:
                return
            key, path = self._place(sig, data.codegen)
            content = dumps(data._reduce())
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART, delete=False) as part:
                try:
                    part.write(hashlib.sha256(key + content).digest() + content)
                    part.close()
                    os.replace(part.name, path)
                except BaseException:
                    os.unlink(part.name)
                    raise
        except Exception:  # a full or read-only disk: the next process compiles again
            return


def kept():
    """The files that nbloss has put into the folder of compiled kernels, of this version and of others."""
    return [f for s in (KERNEL, PART) for f in sorted(cache_dir().glob(f"{'[0-9a-f]' * 24}/*{s}")) if f.is_file()]


def clear():
    """Remove them, and the folders that this leaves empty; returns what could not be removed."""
    files, stuck = kept(), []
    for path in [*files, *sorted({f.parent for f in files})]:
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except FileNotFoundError:
            continue
        except OSError:
            stuck.append(path)
    return stuck


def describe():
    """Lines for ``python -m nbloss cache info``: name -> text."""
    files = [f for f in kept() if f.suffix == KERNEL]
    ours = sum(f.parent.name == STAMP for f in files)
    place = cache_dir()
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (place, *place.parents) if p.exists())):
            note = ""
    except OSError:
        note = " (cannot be written: every process compiles what it needs)"
    return {
        "folder": f"{place}{note}",
        "kernels": f"{len(files)}, {ours} of them of these sources and versions",
        "size": f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB",
    }
