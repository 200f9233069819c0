"""Levels of processors: sets of instructions that one file of machine code serves many processors with.

v3 and v4 are those of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI); aarch64 is its baseline.
"""

_V2 = ["cx16", "fxsr", "mmx", "popcnt", "sahf", "sse", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]
_V3 = [*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"]
_V4 = [*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]
LEVELS = {  # name, as LLVM knows the processor of x86 -> features, best level first
    "x86-64-v4": _V4,
    "x86-64-v3": _V3,
    "aarch64": ["neon", "fp-armv8"],
}
