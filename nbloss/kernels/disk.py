"""Files of compiled code: the folders that hold them, which files are trusted, and what happens if a file cannot be read or written.

Files are in the user's cache folder and in the package: a wheel, or an installation from sources, contains some. A file begins with a
digest of its name and content, so a damaged or renamed file is ignored. It is written to a temporary file and then renamed, so no process
reads a partial one. If a file cannot be read or written, nbloss compiles the kernel again. That is slower, but never wrong and never an
error. A warning says so once per process (``complain``).

The machine code in a file runs without further checks. A file or folder that another user owns or may write is therefore not read: see
``_refusal``.
"""

import hashlib
import os
import stat
import sys
import warnings
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# The functions that write import tempfile: it takes longer to import than everything else here.

CPU, GPU, PART = ".kernel", ".cubin", ".part"  # suffixes; .part is a file that is being written
KERNELS = Path(__file__).parent
INSTALLED = KERNELS.parent / "_compiled"  # has the structure of a cache folder, and is only read
UNKNOWN = "unknown"  # the stamp if the sources cannot be read; nothing is written under it, as it would match any sources
OTHERS = stat.S_IWGRP | stat.S_IWOTH


# ------------------------------ which folders ------------------------------


def _temporary():
    """The cache folder of a user without a home: in the folder for temporary files, a folder that this user owns and no other can write."""
    import tempfile

    try:
        folder = Path(tempfile.gettempdir()) / f"nbloss-{os.getuid() if hasattr(os, 'getuid') else ''}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        is_private = stat.S_ISDIR(status.st_mode) and (
            not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & OTHERS)
        )
    except OSError:  # also if there is no folder for temporary files
        is_private = False
    return folder if is_private else Path(os.devnull)  # no file can be written below it


def _home():
    """The user's home; None if it is unknown, does not exist, or is the root folder, as in many containers."""
    home = os.path.expanduser("~")
    return Path(home) if home != "~" and os.path.realpath(home) != os.path.abspath(os.sep) and os.path.isdir(home) else None


def _default_cache_dir():
    """The cache folder by the conventions of the operating system, or None."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base) / "nbloss" / "Cache" if base else None
    home = _home()
    if sys.platform == "darwin":
        return home and home / "Library" / "Caches" / "nbloss"
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
        base = home and home / ".cache"
    return base and Path(base) / "nbloss"


def _existing(folder):
    """The folder, or else the closest one above it that exists and that this user may look into."""
    return next(p for p in (folder, *folder.parents) if os.path.exists(p))  # pathlib's exists() raises PermissionError


def _can_be_written(folder):
    """Whether this user can create files in a folder, or create the folder."""
    existing = _existing(folder)
    return os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)


def _place():
    """``(folder, why)``: the folder for new files and why it is this one."""
    configured = os.environ.get("NBLOSS_CACHE_DIR")
    if configured:
        return Path(configured).absolute(), "set by NBLOSS_CACHE_DIR"
    default = _default_cache_dir()
    if default is None:
        return _temporary(), f"for temporary files, as there is no home: HOME is {os.environ.get('HOME', '')!r}"
    if not _can_be_written(default):
        return _temporary(), f"for temporary files, as {default} cannot be written"
    return default, "the user's cache folder"


def cache_dir():
    """The folder for new files: ``NBLOSS_CACHE_DIR``, or else the user's cache folder, or else one below the folder for temporary files."""
    return _place()[0]


def folders():
    """The folders to search, in this order. ``NBLOSS_PRECOMPILED=0`` excludes the folder in the package."""
    found = [cache_dir()]
    default = None if os.environ.get("NBLOSS_CACHE_DIR") else _default_cache_dir()
    if default not in (None, found[0]) and os.path.isdir(default):
        found.append(default)  # for example, filled when a container image was built, and read-only now
    return found if os.environ.get("NBLOSS_PRECOMPILED") == "0" else [*found, INSTALLED]


# ------------------------------ what compiled code depends on ------------------------------


def digest_of_sources(folder=KERNELS):
    """A digest of the paths and contents of all sources below a folder; None if they cannot be read."""
    digest = hashlib.sha256()
    try:
        sources = sorted(folder.rglob("*.py"))
        for source in sources:
            content = source.read_bytes()
            digest.update(f"\n{source.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    except OSError:
        return None
    return digest.hexdigest() if sources else None


# Computed when the first module of ``kernels`` is imported, before Python reads any other: see ``unchanged``.
SOURCES = digest_of_sources()


def unchanged():
    """Whether the sources are still those that this process imported. Otherwise compiled code would get the stamp of other sources."""
    return SOURCES is not None and digest_of_sources() == SOURCES


def stamp(*versions):
    """A hash of everything that the compiled code of this process depends on: all sources, Python's ABI, the platform, ``versions``."""
    if SOURCES is None:
        return UNKNOWN
    return hashlib.sha256("\n".join([SOURCES, EXTENSION_SUFFIXES[0], sys.platform, *versions]).encode()).hexdigest()[:24]


def _digest(name, content):
    return hashlib.sha256(f"{name}\n".encode() + content).digest()


# ------------------------------ trust ------------------------------


@cache
def _package_permissions():
    """Owner and write permissions of the package's sources: files in the package are trusted like the sources."""
    info = os.stat(__file__)
    return info.st_uid, info.st_mode & OTHERS


def _refusal(info, installed):
    """The reason not to trust a file or folder, or None. Files of the administrator (uid 0) are trusted."""
    if not hasattr(os, "getuid"):
        return None
    owners, writers = {0, os.getuid()}, info.st_mode & OTHERS
    if installed:
        owner, allowed = _package_permissions()
        owners.add(owner)
        writers &= ~allowed
    if info.st_uid not in owners:
        return f"belongs to another user (uid {info.st_uid})"
    return "other users can write" if writers else None


def _trusted(path, info, installed):
    """Whether a file or folder is trusted; registers a warning if not."""
    reason = _refusal(info, installed)
    if reason:
        remedy = "set NBLOSS_CACHE_DIR to a folder of your own" + (f", or run chmod go-w {path}" if "write" in reason else "")
        complain("trust", f"nbloss neither loads nor keeps compiled kernels below {path}, which {reason}: {remedy}")
    return not reason


# ------------------------------ warnings ------------------------------

_registered_kinds: set[str] = set()
said: list[str] = []  # all messages of this process
_pending: list[str] = []  # messages for which ``warn`` has not issued a warning yet


def complain(kind, text):
    """Register a message, once per process and kind. ``warn`` issues it later, because Numba may be compiling now."""
    if kind not in _registered_kinds:
        _registered_kinds.add(kind)
        said.append(text)
        _pending.append(text)


def complain_of_writing(reason):
    """Register a message that the cache folder cannot be written."""
    remedy = "set NBLOSS_CACHE_DIR to a folder that can be written"
    complain("write", f"nbloss cannot keep compiled kernels in {cache_dir()}, so each process compiles them again: {reason}; {remedy}")


def warn():
    """Issue the registered messages as warnings."""
    while _pending:
        warnings.warn(_pending.pop(0), UserWarning, stacklevel=2)


# ------------------------------ reading and writing ------------------------------


def trusted(folder, path):
    """Whether a file in one of the ``folders`` is trusted. Unlike ``read``, this registers no message."""
    return not any(_refusal(p.stat(), folder == INSTALLED) for p in (path, *_below(folder, path)))


def _below(folder, path):
    """The folders from ``folder`` down to the one that contains a file."""
    return [p for p in path.parents if p == folder or folder in p.parents]


def _make_folder(folder):
    """Create a folder that only this user can write, whatever the umask."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)


def read(name):
    """``(content, folder)`` of the file with this path in one of the ``folders``; None if none has it complete and trusted."""
    for folder in folders():
        path, installed = folder / name, folder == INSTALLED
        try:
            with open(path, "rb") as file:
                info = os.fstat(file.fileno())
                if not _trusted(path, info, installed) or not all(_trusted(p, p.stat(), installed) for p in _below(folder, path)):
                    continue
                stored = file.read()
        except OSError:
            continue
        if _digest(name, stored[32:]) == stored[:32]:
            return stored[32:], folder
    return None


def children(prefix):
    """The names of the folders directly below the ``folders`` that begin with a prefix, in alphabetical order."""
    found = set()
    for folder in folders():
        try:
            found |= {path.name for path in folder.glob(f"{prefix}*")}
        except OSError:
            continue
    return sorted(found)


def write(name, content):
    """Write a file with this path in the cache folder. Returns the reason of a failure, or None."""
    import tempfile

    if not unchanged():
        return "the package's sources cannot be read, or have changed since they were imported"
    path = cache_dir() / name
    try:
        _make_folder(path.parent)
        if not all(_trusted(p, p.stat(), False) for p in _below(cache_dir(), path)):
            return None  # ``_trusted`` has registered a message
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART, delete=False) as temporary:
            try:
                temporary.write(_digest(name, content) + content)
                temporary.close()
                os.chmod(temporary.name, 0o644)
                os.replace(temporary.name, path)
            except BaseException:
                os.unlink(temporary.name)
                raise
    except OSError as error:  # a full or read-only disk
        return str(error)
    return None


# ------------------------------ for `python -m nbloss cache` ------------------------------

_STAMP_PATTERN = "[0-9a-f]" * 24


def kept():
    """The files of nbloss in the cache folder, of this version and of others."""
    cubins = f"cuda-{'[0-9a-f]' * 16}-{'[0-9a-f]' * 8}/*", f"cuda-{_STAMP_PATTERN}/*"  # the second: of versions before 2026-11-30
    patterns = (f"{_STAMP_PATTERN}/*", f"{_STAMP_PATTERN}/*/*", *cubins)
    found = {f for pattern in patterns for f in cache_dir().glob(pattern)}
    return sorted(f for f in found if f.suffix in (CPU, GPU, PART) and f.is_file())


def clear():
    """Remove the files of nbloss from the cache folder, and the folders that become empty; returns what could not be removed."""
    files, failed = kept(), []
    parents = {p for f in files for p in f.parents if cache_dir() in p.parents}
    for path in [*files, *sorted(parents, reverse=True)]:
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except FileNotFoundError:
            continue
        except OSError:
            failed.append(path)
    return failed


def note(folder):
    """A remark on a cache folder for ``cache info``: why it is in use, and whether it cannot be written or is not trusted."""
    import tempfile

    place, why = _place()
    remarks = [why] if place == folder else []
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError:
        remarks.append("cannot be written: every process compiles what it needs")
    else:
        reason = _refusal(folder.stat(), False) if folder.is_dir() else None
        if reason:
            remarks.append(f"neither read nor written: a folder that {reason}")
    return f" ({'; '.join(remarks)})" if remarks else ""
