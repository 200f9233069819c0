"""Facts about the machine that a reader needs to judge the results, and the load from other processes."""

import os
import platform
import sys
import time
from importlib import metadata

import nbloss

from ..session import cpus

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "torch", "jax", "jaxlib", "optax", "autograd", "scikit-learn", "ml_dtypes")
_VARIABLES = ("NUMBA_", "NBLOSS_", "OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_", "XLA_")
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
QUIET = 0.1  # processors; an idle desktop uses less


def facts():
    """The machine and the versions. Call it after the races, when the libraries are loaded."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": cpus(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"nbloss": nbloss.__version__} | {name: v for name in _PACKAGES if (v := _version(name))},
        "threads": _threads(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES) and not k.endswith("_DIR")},
    }


def processor():
    """The name of the processor and its widest vectors where the system tells them, else the architecture."""
    try:
        with open("/proc/cpuinfo") as lines:
            told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    except OSError:
        told = {}
    name = told.get("model name") or platform.processor() or platform.machine()
    flags = told.get("flags", "").split()
    return f"{name}, {next((VECTORS[flag] for flag in VECTORS if flag in flags), 'no AVX2')}" if flags else name


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _threads():
    """Thread counts of the loaded libraries, and Numba's threading layer. Loads no library."""
    found = {}
    if numba := sys.modules.get("numba"):
        found["numba"] = min(cpus(), numba.get_num_threads())
        try:
            found["numba_layer"] = numba.threading_layer()
        except ValueError:
            found["numba_layer"] = "not started"
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.get_num_threads()
    return found


class BusyMeter:
    """How many of this process's processors other processes used since the start, or None where /proc does not tell.

    It matters because OpenMP's spinning workers need a free processor each: without one, a call of 10 us can take 8 ms.
    `workers()` is the processor time of worker processes that are part of the benchmark.
    """

    def __init__(self, workers=lambda: 0.0):
        self.workers = workers
        self.start = self._now()

    def others(self):
        (all0, own0, t0), (all1, own1, t1) = self.start, self._now()
        return None if all1 is None else round(max(0.0, (all1 - all0 - (own1 - own0)) / max(t1 - t0, 1e-9)), 2)

    def _now(self):
        own = os.times()
        used = own.user + own.system + own.children_user + own.children_system + self.workers()
        return _busy_seconds(), used, own.elapsed


def _busy_seconds():
    """The busy time of the processors that this process may use, for all processes."""
    try:
        with open("/proc/stat") as lines:
            table = {name: list(map(int, numbers)) for name, *numbers in map(str.split, lines) if name.startswith("cpu")}
        return sum(
            sum(table[f"cpu{cpu}"][:8]) - sum(table[f"cpu{cpu}"][3:5])  # user ... steal, without idle and iowait
            for cpu in os.sched_getaffinity(0)
        ) / os.sysconf("SC_CLK_TCK")
    except (OSError, KeyError, AttributeError, ValueError):
        return None


def busy_note(facts):
    """A warning line if other processes used the processors, else an empty string."""
    others = facts.get("others_cpus") or 0
    return f"NOT A RESULT: other processes used {others} of the {facts['cpus']} cpus meanwhile" if others > QUIET else ""


def about(facts):
    """The machine in two lines, and a warning line if other processes used it."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    threads = ", ".join(f"{name} {value}" for name, value in facts["threads"].items())
    lines = [f"{facts['processor']}, {facts['cpus']} cpus" + (f"; threads: {threads}" if threads else ""), versions, busy_note(facts)]
    return "\n".join(filter(None, lines))
