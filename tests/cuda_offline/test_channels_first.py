"""Kernels of strided classes on every architecture: classes stay in registers, with one load and one store per number."""

import cubins
import pytest

from nbloss.kernels.cuda.channels_first import online_softmax
from nbloss.kernels.cuda.channels_first import registers as in_registers
from nbloss.kernels.cuda.runtime import build
from nbloss.kernels.cuda.tuning import BLOCK_THREADS

INT = "int64"


def signature(make, stored, summed=False):
    """The types of the arguments, as `channels_first.launches` passes them."""
    real = "float64" if stored == "float64" else "float32"
    x, r = f"*{stored}", f"*{real}"
    results = real, r, INT, r, x, "*int64" if summed else r, INT, INT, r
    ends = (INT, INT) if make.__module__ == in_registers.__name__ else (INT, INT, INT)
    return {
        "log_softmax": (x, x),
        "log_softmax_backward": (x, x, x),
        "softmax_backward": (x, x, x),
        "cross_entropy": (x, "*int64", INT, r, *results),
        "cross_entropy_stats": (x, "*int64", INT, r, r, r, "*int64", "*uint8", r),
        "soft_targets": (x, r, r, real, real, "*int64", INT, r, r, *results),
    }[make.__name__] + ends


def kind(stored):
    return "half" if stored in ("int16", "uint16") else stored


def compiled(make, stored, capability, *constants, classes=None):
    known = () if classes is None else (classes,)
    made = *known, kind(stored), capability >= (8, 0), *constants
    return cubins.read(build.cubin(make, made, signature(make, stored, len(constants) > 2 and constants[-1]), capability, BLOCK_THREADS))


# The constants of kernels are probabilities, or gradient, (soft,) optioned, summed.
LOSS, GRADIENT, OPTIONED, SUMMED = (False, False, False), (True, False, False), (True, True, False), (True, False, True)
SMOOTH, SOFT = (True, False, False, False), (True, True, False, False)
SMOOTH_OPTIONED, SOFT_OPTIONED = (True, False, True, False), (True, True, True, False)
STATS = (True,)  # with targets

# name: factory, constants, stored type, classes, most registers (a multiprocessor has 65536), loads and stores in addition to one per
# class, most instructions per class
HELD = {
    "log_softmax-float32-21": (in_registers.log_softmax, (False,), "float32", 21, 64, 0, 0, 56),
    "backward-float32-21": (in_registers.log_softmax_backward, (), "float32", 21, 48, 21, 0, 52),
    "softmax-float32-21": (in_registers.log_softmax, (True,), "float32", 21, 64, 0, 0, 56),
    "softmax backward-float32-21": (in_registers.softmax_backward, (), "float32", 21, 80, 21, 0, 52),
    "gradient-float32-21": (in_registers.cross_entropy, GRADIENT, "float32", 21, 80, 3, 1, 72),
    "summed gradient-bfloat16-21": (in_registers.cross_entropy, SUMMED, "int16", 21, 80, None, 2, 120),
    "gradient-bfloat16-21": (in_registers.cross_entropy, GRADIENT, "int16", 21, 80, 3, 1, 64),
    "gradient-float16-32": (in_registers.cross_entropy, GRADIENT, "uint16", 32, 128, 3, 1, 64),
    "loss-float32-32": (in_registers.cross_entropy, LOSS, "float32", 32, 64, 3, 1, 56),
    "smooth-float32-21": (in_registers.soft_targets, SMOOTH, "float32", 21, 120, None, 1, 88),
    "soft-float32-32": (in_registers.soft_targets, SOFT, "float32", 32, 255, None, 1, 88),
    "optioned-float32-21": (in_registers.cross_entropy, OPTIONED, "float32", 21, 80, 3, 1, 72),
    "optioned smooth-float32-21": (in_registers.soft_targets, SMOOTH_OPTIONED, "float32", 21, 120, None, 1, 88),
    "stats-float32-21": (in_registers.cross_entropy_stats, STATS, "float32", 21, 80, 4, 4, 88),
    "stats-float16-32": (in_registers.cross_entropy_stats, STATS, "uint16", 32, 128, 4, 4, 88),
    "optioned soft-bfloat16-32": (in_registers.soft_targets, SOFT_OPTIONED, "int16", 32, 255, None, 1, 88),
}


@pytest.mark.parametrize("case", HELD)
def test_classes_in_registers(case):
    make, constants, stored, classes, registers, loads, stores, instructions = HELD[case]
    for capability in cubins.architectures(case):
        code = compiled(make, stored, capability, *constants, classes=classes)
        note = f"sm_{capability[0]}{capability[1]} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers <= registers, note
        assert constants == SUMMED or not code.doubles, (note, code.doubles)
        assert len(code.instructions) <= instructions * classes, (note, len(code.instructions))
        written = 0 if constants in (LOSS, STATS) else classes
        assert code.count("STG") <= written + stores + 1, (note, code.count("STG"))
        if loads is not None:
            assert code.count("LDG") <= classes + loads, (note, code.count("LDG"))


# name: factory, constants, stored type, most registers (three blocks fit with 168, as they do with 160)
CHUNKED = {
    "log_softmax-float32": (online_softmax.log_softmax, (False,), "float32", 80),
    "backward-bfloat16": (online_softmax.log_softmax_backward, (), "int16", 48),
    "softmax-float32": (online_softmax.log_softmax, (True,), "float32", 80),
    "softmax backward-float32": (online_softmax.softmax_backward, (), "float32", 48),
    "gradient-float32": (online_softmax.cross_entropy, GRADIENT, "float32", 96),
    "gradient-float16": (online_softmax.cross_entropy, GRADIENT, "uint16", 96),
    "gradient-float64": (online_softmax.cross_entropy, GRADIENT, "float64", 160),
    "summed gradient-float32": (online_softmax.cross_entropy, SUMMED, "float32", 96),
    "smooth-float32": (online_softmax.soft_targets, SMOOTH, "float32", 128),
    "soft-bfloat16": (online_softmax.soft_targets, SOFT, "int16", 168),
    "optioned-float32": (online_softmax.cross_entropy, OPTIONED, "float32", 96),
    "optioned smooth-float32": (online_softmax.soft_targets, SMOOTH_OPTIONED, "float32", 128),
    "stats-float32": (online_softmax.cross_entropy_stats, STATS, "float32", 96),
    "stats-bfloat16": (online_softmax.cross_entropy_stats, STATS, "int16", 96),
    "optioned soft-bfloat16": (online_softmax.soft_targets, SOFT_OPTIONED, "int16", 168),
}


@pytest.mark.parametrize("case", CHUNKED)
def test_online_softmax(case):
    make, constants, stored, registers = CHUNKED[case]
    for capability in cubins.architectures(case):
        code = compiled(make, stored, capability, *constants)
        note = f"sm_{capability[0]}{capability[1]} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers <= registers, note
        assert stored == "float64" or constants == SUMMED or not code.doubles, (note, code.doubles)
