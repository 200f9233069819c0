"""Which compiled code this process can run: code for exactly its processor, or for a level (a set of instructions) that it supports.

A wheel contains kernels for each level, and each serves many processors. The levels are those of the x86-64 psABI (v3: AVX2 and fused
multiply-add; v4: AVX-512) and the baseline of aarch64. Kernels give the same bits on each of them.
"""

import hashlib
from functools import cache

from nbloss.kernels.levels import LEVELS

# Settings of Numba that affect the code, with the values for which the code of a level is compiled.
SETTINGS = {"OPT": 3, "LOOP_VECTORIZE": 1, "SLP_VECTORIZE": 0, "BOUNDSCHECK": None, "DEBUGINFO_DEFAULT": 0}

_GENERIC = {"aarch64": "generic"}

# The level of processors that LLVM knows by name: for users who set NUMBA_CPU_NAME, and NUMBA_CPU_FEATURES="".
_PROCESSORS = {
    "x86-64-v3": ["haswell", "broadwell", "skylake", "alderlake", "raptorlake", "znver1", "znver2", "znver3"],
    "x86-64-v4": [
        *("skylake-avx512", "cascadelake", "cooperlake", "icelake-client", "icelake-server", "tigerlake", "rocketlake"),
        *("sapphirerapids", "emeraldrapids", "graniterapids", "znver4", "znver5"),
    ],
}


def environment(level):
    """The environment variables that make Numba compile for a level, on any processor."""
    return {"NUMBA_CPU_NAME": _GENERIC.get(level, level), "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in LEVELS[level])}


def _features(text):
    return {name[1:] for name in text.split(",") if name.startswith("+")}


@cache
def _compile_target():
    """``(triple, processor, features)`` that Numba compiles for: those of this machine, or those that the user set."""
    from numba.core.registry import cpu_target

    return cpu_target.target_context.codegen().magic_tuple()


def _settings():
    """The current values of ``SETTINGS``."""
    from numba import config

    current = {name: getattr(config, name, None) for name in SETTINGS}
    return {name: int(value) if isinstance(value, int) else value for name, value in current.items()}


def _supports(level, features):
    return set(LEVELS[level]) <= features


@cache
def _own_level():
    """The level that Numba compiles for, if the variables of ``environment`` are set; else None."""
    triple, name, features = _compile_target()
    for level in LEVELS:
        if (name, _features(features)) == (_GENERIC.get(level, level), set(LEVELS[level])) and _same_architecture(level, triple):
            return level
    return None


def _same_architecture(level, triple):
    """Whether a level belongs to the architecture of a target triple."""
    machine = triple.partition("-")[0]
    return machine in ("aarch64", "arm64") if level == "aarch64" else machine in ("x86_64", "amd64")


@cache
def targets():
    """The names of the folders whose kernels this process can run, best first. It writes the kernels that it compiles to the first.

    If the user made Numba compile for a level, kernels of other levels are not used.
    """
    triple, name, features = _compile_target()
    own, settings = _own_level(), _settings()
    changed = "" if settings == SETTINGS else "-" + hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
    exact = own or f"{name}-{hashlib.sha256(repr((triple, features)).encode()).hexdigest()[:8]}"
    return [exact + changed, *(level + changed for level in runnable() if not own)]


@cache
def runnable():
    """The levels whose code this process may run, best first: the processor supports them, and so does the one that the user set."""
    from llvmlite import binding

    triple, name, features = _compile_target()
    host = {f for f, there in binding.get_host_cpu_features().items() if there}
    allowed = _features(features)
    for level in LEVELS:
        if name == level or name in _PROCESSORS.get(level, ()):
            allowed |= set(LEVELS[level])
    return [
        level
        for level in LEVELS
        if _same_architecture(level, triple) and (level == "aarch64" or (_supports(level, host) and _supports(level, allowed)))
    ]


def lacking(level):
    """The features of a level that this processor lacks, as text."""
    from llvmlite import binding

    triple, _, _ = _compile_target()
    if not _same_architecture(level, triple):
        return f"the architecture of {level}"
    host = {f for f, there in binding.get_host_cpu_features().items() if there}
    return ", ".join(f for f in LEVELS[level] if f not in host) or "the features that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES exclude"


def multiplies_and_adds():
    """Whether the processor has a fused multiply-add instruction. Without one, each is a call of the C library."""
    triple, _, features = _compile_target()
    return not _same_architecture("x86-64-v3", triple) or "fma" in _features(features) or "x86-64-v3" in runnable()
