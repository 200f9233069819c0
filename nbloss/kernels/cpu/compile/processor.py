"""Which machine code a processor can run: its own, or that of a level, which one file of a wheel serves many processors with.

The levels are those of the x86-64 psABI (v3: AVX2 and fused multiply-add; v4: AVX-512) and aarch64's baseline. Kernels give the same bits
on each of them.
"""

import hashlib
from functools import cache

from nbloss.kernels.levels import LEVELS

# Numba's settings that change the code, with the values that a level's code is made with.
SETTINGS = {"OPT": 3, "LOOP_VECTORIZE": 1, "SLP_VECTORIZE": 0, "BOUNDSCHECK": None, "DEBUGINFO_DEFAULT": 0}

_GENERIC = {"aarch64": "generic"}

# What LLVM's names of processors say where the user names one without its features (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES="").
_NAMED = {
    "x86-64-v3": ["haswell", "broadwell", "skylake", "alderlake", "raptorlake", "znver1", "znver2", "znver3"],
    "x86-64-v4": [
        *("skylake-avx512", "cascadelake", "cooperlake", "icelake-client", "icelake-server", "tigerlake", "rocketlake"),
        *("sapphirerapids", "emeraldrapids", "graniterapids", "znver4", "znver5"),
    ],
}


def environment(level):
    """The variables with which Numba compiles for a level, whatever processor it runs on."""
    return {"NUMBA_CPU_NAME": _GENERIC.get(level, level), "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in LEVELS[level])}


def _features(text):
    return {name[1:] for name in text.split(",") if name.startswith("+")}


@cache
def _told():
    """``(triple, processor, features)`` that Numba compiles for: this machine's, or what the user said."""
    from numba.core.registry import cpu_target

    return cpu_target.target_context.codegen().magic_tuple()


def _settings():
    from numba import config

    found = {name: getattr(config, name, None) for name in SETTINGS}
    return {name: int(value) if isinstance(value, int) else value for name, value in found.items()}


def _fits(level, features):
    return set(LEVELS[level]) <= features


@cache
def _own_level():
    """The level that is compiled for, if that is what the user said with ``environment``."""
    triple, name, features = _told()
    for level in LEVELS:
        if (name, _features(features)) == (_GENERIC.get(level, level), set(LEVELS[level])) and _of(level, triple):
            return level
    return None


def _of(level, triple):
    machine = triple.partition("-")[0]
    return machine in ("aarch64", "arm64") if level == "aarch64" else machine in ("x86_64", "amd64")


@cache
def targets():
    """Names of the folders whose kernels this process can run, best first; what it compiles goes into the first.

    Who tells Numba of a level compiles for it, and wants no other level's kernels in their place.
    """
    triple, name, features = _told()
    own, settings = _own_level(), _settings()
    changed = "" if settings == SETTINGS else "-" + hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
    exact = own or f"{name}-{hashlib.sha256(repr((triple, features)).encode()).hexdigest()[:8]}"
    return [exact + changed, *(level + changed for level in runnable() if not own)]


@cache
def runnable():
    """The levels whose code this process may run, best first: the processor has them, and the user has not told Numba of a lesser one."""
    from llvmlite import binding

    triple, name, features = _told()
    here = {f for f, there in binding.get_host_cpu_features().items() if there}
    asked = _features(features)
    for level in LEVELS:
        if name == level or name in _NAMED.get(level, ()):
            asked |= set(LEVELS[level])
    return [level for level in LEVELS if _of(level, triple) and (level == "aarch64" or (_fits(level, here) and _fits(level, asked)))]


def lacking(level):
    """What a level asks for and this process does not have, as text."""
    from llvmlite import binding

    triple, _, _ = _told()
    if not _of(level, triple):
        return f"the architecture of {level}"
    here = {f for f, there in binding.get_host_cpu_features().items() if there}
    return ", ".join(f for f in LEVELS[level] if f not in here) or "been named to Numba (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES)"


def multiplies_and_adds():
    """Whether there is an instruction for a fused multiply-add; without one, each is a call into the C library."""
    triple, _, features = _told()
    return not _of("x86-64-v3", triple) or "fma" in _features(features) or "x86-64-v3" in runnable()
