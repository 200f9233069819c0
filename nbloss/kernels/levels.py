"""Processor levels: sets of instructions. One file of machine code for a level runs on every processor that supports it.

v3 and v4 are levels of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI); "aarch64" is the baseline of that architecture.
"""

_V2 = ["cx16", "fxsr", "mmx", "popcnt", "sahf", "sse", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]
_V3 = [*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"]
_V4 = [*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]
LEVELS = {  # name (on x86 also LLVM's name of the processor) -> LLVM's features; best level first
    "x86-64-v4": _V4,
    "x86-64-v3": _V3,
    "aarch64": ["neon", "fp-armv8"],
}
