"""Floor 1: small files of compiled code that may be truncated, swapped or impossible to write, and never do harm.

A file begins with a digest of its content, so a damaged one is a miss; it is written beside its place and moved there at once, so nobody
reads half of one. Whatever goes wrong with the disk is answered by compiling again: slower, never wrong, never an error.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path


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


def stamp(folder, *versions):
    """A name for what compiled code depends on: versions, and every kernel source of a folder and of this one."""
    digest = hashlib.sha256(" ".join([*versions, sys.version]).encode())
    for source in [*sorted(Path(__file__).parent.glob("*.py")), *sorted(Path(folder).rglob("*.py"))]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def read(path):
    """The content of a file, or None where there is no whole one."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    return stored[32:] if hashlib.sha256(stored[32:]).digest() == stored[:32] else None


def write(path, content):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
            try:
                part.write(hashlib.sha256(content).digest() + content)
                part.close()
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
    except OSError:  # a full or read-only disk: the next process compiles again
        return
