"""Files of compiled code: which folders they lie in, who may have written them, and what happens where they cannot be kept.

They are in the user's cache folder and in the package (a wheel, or an installation from the sources, brings some along). A file begins
with a digest of its content and of the name that it was written under, so that a damaged file and one under another's name are not
found. It is written beside its place and moved there at once, so nobody reads half of one. Whatever goes wrong with the disk is answered
by compiling again: slower, never wrong, never an error. It is said once per process (``complain``).

Compiled code is run as it is. So a file or a folder that another user owns or may write is not read: see ``_refusal``.
"""

import hashlib
import os
import stat
import sys
import warnings
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# tempfile, which costs more than all else here, is imported where something is written

CPU, GPU, PART = ".kernel", ".cubin", ".part"  # what there is, and a file that is being written
KERNELS = Path(__file__).parent
INSTALLED = KERNELS.parent / "_compiled"  # laid out as a cache folder, and only read
UNKNOWN = "unknown"  # the stamp of sources that cannot be read: it would be everybody's
OTHERS = stat.S_IWGRP | stat.S_IWOTH


# ------------------------------ which folders ------------------------------


def _temporary():
    """Where a user without a home keeps kernels: a folder for temporary files, in one of our own that nobody else can have made."""
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"nbloss-{os.getuid() if hasattr(os, 'getuid') else ''}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        made = folder.lstat()
        mine = stat.S_ISDIR(made.st_mode) and (not hasattr(os, "getuid") or (made.st_uid == os.getuid() and not made.st_mode & OTHERS))
    except OSError:
        mine = False
    return folder if mine else Path(os.devnull)  # nothing can be kept below it


def _home():
    """The user's home; None where there is none: not known, not there, or the root of all folders, as in many containers."""
    home = os.path.expanduser("~")
    return Path(home) if home not in ("~", os.path.abspath(os.sep)) and os.path.isdir(home) else None


def _usual():
    """The folder that the system's custom says, or None."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base) / "nbloss" / "Cache" if base else None
    home = _home()
    if sys.platform == "darwin":
        return home and home / "Library" / "Caches" / "nbloss"
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification has relative ones ignored
        base = home and home / ".cache"
    return base and Path(base) / "nbloss"


def _can_be_written(folder):
    """Whether files can be made in a folder, or the folder itself."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def cache_dir():
    """The folder that kernels are written to: ``NBLOSS_CACHE_DIR``, the user's cache folder, or one for temporary files of this user."""
    chosen = os.environ.get("NBLOSS_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    usual = _usual()
    return usual if usual is not None and _can_be_written(usual) else _temporary()


def folders():
    """The folders that kernels are looked for in, in this order. ``NBLOSS_PRECOMPILED=0`` leaves the package's alone."""
    found = [cache_dir()]
    usual = None if os.environ.get("NBLOSS_CACHE_DIR") else _usual()
    if usual not in (None, found[0]) and usual.is_dir():
        found.append(usual)  # filled when an image was made, say, and only readable now
    return found if os.environ.get("NBLOSS_PRECOMPILED") == "0" else [*found, INSTALLED]


# ------------------------------ what compiled code depends on ------------------------------


def digest_of_sources(folder=KERNELS):
    """A digest over every source below a folder, by path and content; None where they cannot be read."""
    digest = hashlib.sha256()
    try:
        sources = sorted(folder.rglob("*.py"))
        for source in sources:
            content = source.read_bytes()
            digest.update(f"\n{source.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    except OSError:
        return None
    return digest.hexdigest() if sources else None


# Taken when the first module below ``kernels`` is imported, before any other is read: see ``unchanged``.
SOURCES = digest_of_sources()


def unchanged():
    """Whether the sources are still those that this process has read: code is only ever filed under the very sources it came from."""
    return SOURCES is not None and digest_of_sources() == SOURCES


def stamp(*versions):
    """A name for what all compiled code of this process depends on: every source, Python's binary interface, versions."""
    if SOURCES is None:
        return UNKNOWN
    return hashlib.sha256("\n".join([SOURCES, EXTENSION_SUFFIXES[0], sys.platform, *versions]).encode()).hexdigest()[:24]


def _digest(name, content):
    return hashlib.sha256(f"{name}\n".encode() + content).digest()


# ------------------------------ trust ------------------------------


@cache
def _of_the_package():
    """Owner and mode of the package's own sources: kernels beside them are trusted as far as they are."""
    info = os.stat(__file__)
    return info.st_uid, info.st_mode & OTHERS


def _refusal(info, installed):
    """Why a file or folder is not to be trusted, or None. The administrator may do anything anyway."""
    if not hasattr(os, "getuid"):
        return None
    owners, writers = {0, os.getuid()}, info.st_mode & OTHERS
    if installed:
        owner, allowed = _of_the_package()
        owners.add(owner)
        writers &= ~allowed
    if info.st_uid not in owners:
        return f"belongs to another user (uid {info.st_uid})"
    return "other users can write" if writers else None


def _trusted(path, info, installed):
    why = _refusal(info, installed)
    if why:
        cure = "set NBLOSS_CACHE_DIR to a folder of your own" + (f", or run chmod go-w {path}" if "write" in why else "")
        complain("trust", f"nbloss neither loads nor keeps compiled kernels below {path}, which {why}: {cure}")
    return not why


# ------------------------------ complaints ------------------------------

_kinds: set[str] = set()
said: list[str] = []  # every complaint of this process
_waiting: list[str] = []  # those that ``warn`` has not given to Python's warnings yet


def complain(kind, text):
    """Have something to say, once per process and kind. ``warn`` says it later: this may be in the middle of Numba's work."""
    if kind not in _kinds:
        _kinds.add(kind)
        said.append(text)
        _waiting.append(text)


def complain_of_writing(why):
    cure = "set NBLOSS_CACHE_DIR to a folder that can be written"
    complain("write", f"nbloss cannot keep compiled kernels in {cache_dir()}, so each process compiles them again: {why}; {cure}")


def warn():
    """Give what has been complained of to Python's warnings."""
    while _waiting:
        warnings.warn(_waiting.pop(0), UserWarning, stacklevel=2)


# ------------------------------ reading and writing ------------------------------


def trusted(folder, path):
    """Whether a file in a folder that kernels are looked for in may be read, for people: ``read`` itself complains."""
    return not any(_refusal(p.stat(), folder == INSTALLED) for p in (path, *_below(folder, path)))


def _below(folder, path):
    """The folders on the way to a file, ``folder`` included."""
    return [p for p in path.parents if p == folder or folder in p.parents]


def _make(folder):
    """Make a folder that nobody else can write, whatever the umask."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)


def read(name):
    """``(content, folder)`` of a file, named by its path in a cache folder; None where there is no whole and trusted one."""
    for folder in folders():
        path, installed = folder / name, folder == INSTALLED
        try:
            with open(path, "rb") as file:
                info = os.fstat(file.fileno())
                if not _trusted(path, info, installed) or not all(_trusted(p, p.stat(), installed) for p in _below(folder, path)):
                    continue
                written = file.read()
        except OSError:
            continue
        if _digest(name, written[32:]) == written[:32]:
            return written[32:], folder
    return None


def write(name, content):
    """Keep a file under its path in the cache folder. Returns why that failed, or None."""
    import tempfile

    if not unchanged():
        return "the package's sources cannot be read, or have changed since they were imported"
    path = cache_dir() / name
    try:
        _make(path.parent)
        if not all(_trusted(p, p.stat(), False) for p in _below(cache_dir(), path)):
            return None  # said already
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART, delete=False) as part:
            try:
                part.write(_digest(name, content) + content)
                part.close()
                os.chmod(part.name, 0o644)
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
    except OSError as error:  # a full or read-only disk
        return str(error)
    return None


# ------------------------------ for `python -m nbloss cache` ------------------------------

_HEXADECIMAL = "[0-9a-f]" * 24


def kept():
    """The files that nbloss has put into the cache folder, of this version and of others."""
    patterns = (f"{_HEXADECIMAL}/*", f"{_HEXADECIMAL}/*/*", f"cuda-{_HEXADECIMAL}/*")
    found = {f for pattern in patterns for f in cache_dir().glob(pattern)}
    return sorted(f for f in found if f.suffix in (CPU, GPU, PART) and f.is_file())


def clear():
    """Remove them, and the folders that this leaves empty; returns what could not be removed."""
    files, stuck = kept(), []
    inside = {p for f in files for p in f.parents if cache_dir() in p.parents}
    for path in [*files, *sorted(inside, reverse=True)]:
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except FileNotFoundError:
            continue
        except OSError:
            stuck.append(path)
    return stuck


def note(folder):
    """What there is to say of a cache folder, for people: whether kernels can be kept there, and are used from there."""
    import tempfile

    there = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError:
        return " (cannot be written: every process compiles what it needs)"
    why = _refusal(folder.stat(), False) if folder.is_dir() else None
    return f" (neither read nor written: a folder that {why})" if why else ""
