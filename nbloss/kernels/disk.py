"""Floor 1: small files of compiled code that may be truncated, swapped or impossible to write, and never do harm.

They are in the user's cache folder, and in the package: those that were compiled when it was installed (``hatch_build.py``).

A file begins with a digest of its content and of the name that it was written under (which holds all that the code depends on), so a
damaged file and one under another's name are misses; it is written beside its place and moved there at once, so nobody reads half of
one. Whatever goes wrong with the disk is answered by compiling again: slower, never wrong, never an error.
"""

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

CPU, GPU, PART = ".kernel", ".cubin", ".part"  # what there is, and a file that is being written
INSTALLED = Path(__file__).parents[1] / "_compiled"  # laid out as a cache folder, and only read
UNKNOWN = "unknown"  # the stamp of sources that cannot be read: it would be everybody's


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


def stamp(folder, *versions):
    """A name for what compiled code depends on: versions, and every kernel source of a folder and of this one."""
    digest = hashlib.sha256(" ".join([*versions, sys.version]).encode())
    try:
        sources = [*sorted(Path(__file__).parent.glob("*.py")), *sorted(Path(folder).rglob("*.py"))]
        for source in sources:
            digest.update(source.read_bytes())
    except OSError:
        return UNKNOWN
    return digest.hexdigest()[:24] if sources else UNKNOWN


def _digest(path, content):
    return hashlib.sha256(f"{path.parent.name}/{path.name}\n".encode() + content).digest()


def _installed(stamp):
    """The folder of what was compiled for a stamp at the installation; ``NBLOSS_PRECOMPILED=0`` leaves it alone."""
    return INSTALLED / stamp if os.environ.get("NBLOSS_PRECOMPILED") != "0" else Path(os.devnull)


def read(path):
    """The content of a file of the cache, or of its like in the package; None where no whole one was written under this name."""
    for place in (path, _installed(path.parent.name) / path.name):
        try:
            written = place.read_bytes()
        except OSError:
            continue
        if _digest(path, written[32:]) == written[:32]:
            return written[32:]
    return None


def write(path, content):
    if path.parent.name.endswith(UNKNOWN):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART, delete=False) as part:
            try:
                part.write(_digest(path, content) + content)
                part.close()
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
    except OSError:  # a full or read-only disk: the next process compiles again
        return


# ------------------------------ for `python -m nbloss cache` ------------------------------


def kept():
    """The files that nbloss has put into the folder, of this version and of others."""
    hexadecimal = "[0-9a-f]" * 24
    found = [f for name in (hexadecimal, f"cuda-{hexadecimal}") for f in cache_dir().glob(f"{name}/*")]
    return sorted(f for f in found if f.suffix in (CPU, GPU, PART) and f.is_file())


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


def describe(current):
    """Name and text of each line of ``python -m nbloss cache info``; ``current`` is the stamp of the CPU's kernels."""
    files, place = kept(), cache_dir()
    installed = list(_installed(current).glob(f"*{CPU}"))
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (place, *place.parents) if p.exists())):
            note = ""
    except OSError:
        note = " (cannot be written: every process compiles what it needs)"
    cpu, gpu = ([f for f in files if f.suffix == suffix] for suffix in (CPU, GPU))
    ours = sum(f.parent.name == current for f in cpu)
    return {
        "folder": f"{place}{note}",
        "kernels": f"{len(cpu)} for the CPU, {ours} of them of these sources and versions; {len(gpu)} for GPUs",
        "size": f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB",
        "installed": f"{len(installed)} for the CPU came with the package",
    }
