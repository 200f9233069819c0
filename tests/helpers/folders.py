"""For folders of tests that need a process of their own, because they choose how Numba or the driver works before either is imported."""

import importlib.util
from pathlib import Path


def missing(*names):
    """Which of these modules are not installed."""
    return [name for name in names if not _installed(name)]


def _installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_alone(config, folder):
    """Whether all arguments of pytest are paths in this folder."""
    paths = [Path(str(arg).split("::")[0]).resolve() for arg in config.args]
    return bool(paths) and all(path.is_relative_to(folder) for path in paths)
