"""Kernels of strided classes on every architecture: classes stay in registers, with one load and one store per number."""

import cubins
import pytest
from position_kernels import (
    GRADIENT,
    LOSS,
    OPTIONED,
    SMOOTH,
    SMOOTH_OPTIONED,
    SOFT,
    SOFT_OPTIONED,
    STATS,
    SUMMED,
    chosen_width,
    compiled,
)

from nbloss.kernels.cuda.channels_first import online_softmax
from nbloss.kernels.cuda.channels_first import registers as in_registers

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
        written = 0 if constants == LOSS or make is in_registers.cross_entropy_stats else classes
        assert code.count("STG") <= written + stores + 1, (note, code.count("STG"))
        if loads is not None:
            assert code.count("LDG") <= classes + loads, (note, code.count("LDG"))


# name: factory, constants, stored type, classes, positions of a thread, most instructions per class and position. The classes are the most
# that a thread holds with so many positions, or 21.
WIDE = {
    "gradient-float32-21": (in_registers.cross_entropy, GRADIENT, "float32", 21, 2, 60),
    "gradient-float32-16": (in_registers.cross_entropy, GRADIENT, "float32", 16, 4, 58),
    "gradient-float32-32": (in_registers.cross_entropy, GRADIENT, "float32", 32, 2, 58),
    "gradient-bfloat16-21": (in_registers.cross_entropy, GRADIENT, "int16", 21, 4, 40),
    "gradient-float16-10": (in_registers.cross_entropy, GRADIENT, "uint16", 10, 8, 38),
    "gradient-float64-8": (in_registers.cross_entropy, GRADIENT, "float64", 8, 2, 120),
    "loss-bfloat16-21": (in_registers.cross_entropy, LOSS, "int16", 21, 4, 24),
    "summed gradient-bfloat16-10": (in_registers.cross_entropy, SUMMED, "int16", 10, 8, 50),
    "summed gradient-bfloat16-21": (in_registers.cross_entropy, SUMMED, "int16", 21, 4, 46),
    "optioned-float32-16": (in_registers.cross_entropy, OPTIONED, "float32", 16, 4, 60),
    "optioned-bfloat16-21": (in_registers.cross_entropy, OPTIONED, "int16", 21, 4, 42),
    "log_softmax-float32-32": (in_registers.log_softmax, (False,), "float32", 32, 2, 46),
    "softmax-bfloat16-21": (in_registers.log_softmax, (True,), "int16", 21, 4, 32),
}


@pytest.mark.parametrize("case", WIDE)
def test_several_positions(case):
    make, constants, stored, classes, width, instructions = WIDE[case]
    size = {"float64": 8, "float32": 4}.get(stored, 2)
    assert chosen_width(stored, classes) == width
    for capability in cubins.architectures(case):
        code = compiled(make, stored, capability, *constants, classes=classes, width=width)
        note = f"sm_{capability[0]}{capability[1]} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers <= 128, note
        assert len(code.instructions) <= instructions * classes * width, (note, len(code.instructions) / classes / width)
        access = f".{8 * width * size}"
        others = 4 * width if size == 8 else 0  # float64: target, scale, upstream and loss have 64 bits, too
        if constants != SUMMED:  # the sum reads and writes float64
            assert classes <= code.count("LDG", access) <= classes + others, (note, access)
            assert code.count("STG", access) == (0 if constants == LOSS else classes), (note, access)


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
