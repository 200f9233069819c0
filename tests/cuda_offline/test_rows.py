"""Kernels of contiguous rows on every architecture: rows stay in registers, accesses move 16 bytes, float32 kernels use no float64."""

import cubins
import pytest
from row_kernels import (
    BACKWARD,
    GRADIENT,
    LOG_SOFTMAX,
    LOSS,
    OPTIONED,
    SMOOTH,
    SMOOTH_OPTIONED,
    SOFT,
    SOFT_OPTIONED,
    SOFTMAX,
    SOFTMAX_BACKWARD,
    STATS,
    SUMMED,
    UNTARGETED_STATS,
    compiled,
    compiled_row_per_thread,
    is_summed,
    planned,
)

from nbloss.kernels.cuda.rows.cross_entropy import cross_entropy_rows
from nbloss.kernels.cuda.rows.cross_entropy_stats import cross_entropy_stats_rows
from nbloss.kernels.cuda.rows.log_softmax import log_softmax_backward_rows, log_softmax_rows
from nbloss.kernels.cuda.rows.soft_targets import soft_target_rows
from nbloss.kernels.cuda.rows.softmax import softmax_backward_rows
from nbloss.kernels.cuda.runtime import plan

ONCE = 900  # most instructions that do not depend on how much a thread holds

# name: kernel, stored type of the logits, classes, most instructions per number that a thread holds, in addition to ONCE
CASES = {
    "log_softmax-float32-16384": (LOG_SOFTMAX, "float32", 16384, 40),
    "log_softmax-bfloat16-16384": (LOG_SOFTMAX, "int16", 16384, 40),
    "backward-float32-4096": (BACKWARD, "float32", 4096, 35),
    "softmax-float32-16384": (SOFTMAX, "float32", 16384, 40),
    "softmax-bfloat16-16384": (SOFTMAX, "int16", 16384, 40),
    "softmax backward-float32-4096": (SOFTMAX_BACKWARD, "float32", 4096, 35),
    "softmax backward-float32-10": (SOFTMAX_BACKWARD, "float32", 10, 35),
    "loss-float32-32768": (LOSS, "float32", 32768, 30),
    "loss-bfloat16-128256": (LOSS, "int16", 128256, 30),
    "gradient-float32-20": (GRADIENT, "float32", 20, 40),
    "gradient-float32-1000": (GRADIENT, "float32", 1000, 45),
    "summed gradient-float32-1000": (SUMMED, "float32", 1000, 45),
    "summed gradient-bfloat16-65536": (SUMMED, "int16", 65536, 45),
    "gradient-bfloat16-32768": (GRADIENT, "int16", 32768, 40),
    "gradient-float64-1000": (GRADIENT, "float64", 1000, 200),
    "gradient-float32-128256": (GRADIENT, "float32", 128256, 45),
    "soft-bfloat16-4096": (SOFT, "int16", 4096, 80),
    "smooth-float32-1000": (SMOOTH, "float32", 1000, 80),
    "optioned-float32-20": (OPTIONED, "float32", 20, 40),
    "optioned-float32-1000": (OPTIONED, "float32", 1000, 45),
    "optioned-bfloat16-32768": (OPTIONED, "int16", 32768, 40),
    "optioned-float32-128256": (OPTIONED, "float32", 128256, 45),
    "optioned soft-bfloat16-4096": (SOFT_OPTIONED, "int16", 4096, 80),
    "optioned smooth-float32-1000": (SMOOTH_OPTIONED, "float32", 1000, 80),
    "stats-float32-10": (STATS, "float32", 10, 60),
    "stats-float32-1000": (STATS, "float32", 1000, 60),
    "stats-bfloat16-32768": (STATS, "int16", 32768, 60),
    "stats-float32-128256": (STATS, "float32", 128256, 60),
    "stats-float64-1000": (STATS, "float64", 1000, 200),
    "untargeted stats-float32-4096": (UNTARGETED_STATS, "float32", 4096, 60),
}


@pytest.mark.parametrize("case", CASES)
def test_rows(case):
    (kernel, constants), stored, classes, ceiling = CASES[case]
    for capability in cubins.architectures(case):
        p = planned(kernel, stored, classes, capability)
        code = compiled(kernel, constants, stored, p, capability)
        note = f"sm_{capability[0]}{capability[1]} {p} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers * p.threads * p.min_blocks <= 65536, note
        if stored != "float64" and not is_summed(kernel, constants):
            assert not code.doubles, (note, code.doubles)
        inputs = (
            1 if kernel in (log_softmax_rows, cross_entropy_rows, cross_entropy_stats_rows) else 3 if kernel is softmax_backward_rows else 2
        )  # y twice
        if p.width > 1 and kernel is not soft_target_rows:
            stats = kernel is cross_entropy_stats_rows
            loss = (kernel, constants) == LOSS
            passes = 1 if p.resident else 2 if loss or kernel is log_softmax_backward_rows else 3
            assert code.count("LDG", ".128") == p.vectors * inputs * passes, note
            writes = 0 if loss or stats else 2 if kernel is cross_entropy_rows else 1  # zeros have stores of their own
            stores = code.count("STG", ".128")
            assert stores == p.vectors * writes or (writes == 2 and not p.resident and stores > p.vectors), note  # their loop is unrolled
            if p.resident and inputs == 1:
                assert code.last("LDG", ".128") < code.first("SHFL"), f"{note}: the loads of a row are not all in flight together"
        assert len(code.instructions) <= ONCE + ceiling * p.vectors * p.width * (1 if p.resident else 3), (note, len(code.instructions))


# name: kernel, stored type of the logits, classes, whether arrays are aligned, most registers and instructions of the longest path
ROW_PER_THREAD = {
    "log_softmax-float32-10": (LOG_SOFTMAX, "float32", 10, True, 64, 360),
    "softmax-float32-10": (SOFTMAX, "float32", 10, True, 64, 360),
    "log_softmax-bfloat16-16": (LOG_SOFTMAX, "int16", 16, True, 64, 480),
    "loss-float32-10": (LOSS, "float32", 10, True, 64, 310),
    "loss-float16-16": (LOSS, "uint16", 16, True, 64, 340),
    "gradient-float32-10": (GRADIENT, "float32", 10, True, 64, 420),
    "gradient-float32-1": (GRADIENT, "float32", 1, True, 64, 260),
    "gradient-bfloat16-10": (GRADIENT, "int16", 10, True, 64, 450),
    "gradient-float16-16": (GRADIENT, "uint16", 16, True, 64, 480),
    "gradient-float32-16, not aligned": (GRADIENT, "float32", 16, False, 64, 540),
    "gradient-float64-16": (GRADIENT, "float64", 16, True, 168, 1400),
    "optioned-float32-10": (OPTIONED, "float32", 10, True, 64, 480),
    "summed gradient-float32-10": (SUMMED, "float32", 10, True, 64, 800),
}


@pytest.mark.parametrize("case", ROW_PER_THREAD)
def test_a_thread_per_row(case):
    (kernel, constants), stored, classes, aligned, registers, longest = ROW_PER_THREAD[case]
    for capability in cubins.architectures(case):
        code = compiled_row_per_thread(kernel, constants, stored, classes, capability, aligned)
        note = f"sm_{capability[0]}{capability[1]} {code[:2]} {code.longest_path}"
        assert code.stack == code.spills == 0, note
        assert code.registers <= registers, note
        assert code.longest_path <= longest, note
        assert stored == "float64" or is_summed(kernel, constants) or not code.doubles, (note, code.doubles)
        if aligned:
            vectors = -(-classes // plan.NUMBERS_PER_VECTOR[stored])
            assert code.count("LDG", ".128") == vectors, note
            assert code.count("STG", ".128") == (0 if (kernel, constants) == LOSS else vectors), note
