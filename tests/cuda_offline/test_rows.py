"""Kernels of contiguous rows on every architecture: rows stay in registers, memory moves 16 bytes at a time, float32 stays float32."""

import cubins
import pytest

from nbloss.kernels.cuda.rows.cross_entropy import cross_entropy_rows
from nbloss.kernels.cuda.rows.log_softmax import log_softmax_backward_rows, log_softmax_rows
from nbloss.kernels.cuda.rows.soft_targets import soft_target_rows
from nbloss.kernels.cuda.runtime import build, plan

INT = ("int64",)


def signature(kernel, constants, stored):
    real = "float64" if stored == "float64" else "float32"
    x, r = f"*{stored}", f"*{real}"
    return {
        log_softmax_rows: (x, x, *INT * 4),
        log_softmax_backward_rows: (x, x, x, *INT * 5),
        cross_entropy_rows: (x, "*int64", "int64", r, r, "int64", r, x, *INT * 4),
        soft_target_rows: (
            x,
            r if constants[-1:] == (True,) else x,
            r,
            real,
            real,
            "*int64",
            "int64",
            r,
            r,
            r,
            "int64",
            r,
            x,
            *INT * 5,
        ),
    }[kernel]


def heavy(kernel, stored):
    """What ``rows`` tells the plan of its kernels."""
    return kernel is soft_target_rows or (kernel is log_softmax_rows and stored in ("uint16", "int16"))


LOG_SOFTMAX = log_softmax_rows, ()
BACKWARD = log_softmax_backward_rows, ()
GRADIENT = cross_entropy_rows, (True,)
SOFT = soft_target_rows, (True, True)

ONCE = 900  # instructions that a thread runs whatever it holds

# kernel, stored type of the logits, classes, most instructions per number that a thread holds, beside ONCE
CASES = {
    "log_softmax-float32-16384": (LOG_SOFTMAX, "float32", 16384, 40),
    "log_softmax-bfloat16-16384": (LOG_SOFTMAX, "int16", 16384, 40),
    "backward-float32-4096": (BACKWARD, "float32", 4096, 35),
    "gradient-float32-10": (GRADIENT, "float32", 10, 40),
    "gradient-float32-1000": (GRADIENT, "float32", 1000, 45),
    "gradient-bfloat16-32768": (GRADIENT, "int16", 32768, 40),
    "gradient-float64-1000": (GRADIENT, "float64", 1000, 200),
    "gradient-float32-128256": (GRADIENT, "float32", 128256, 45),
    "soft-bfloat16-4096": (SOFT, "int16", 4096, 80),
}


@pytest.mark.parametrize("case", CASES)
def test_rows(case):
    (kernel, constants), stored, classes, ceiling = CASES[case]
    for capability in cubins.architectures(case):
        p = plan.rows(stored, 10**5, classes, True, capability, 132, heavy(kernel, stored))
        made = stored, p.width, p.group, p.vectors, p.resident, capability >= (8, 0), *constants
        code = cubins.read(build.cubin(kernel, made, signature(kernel, constants, stored), capability, p.threads, p.at_once))
        note = f"sm_{capability[0]}{capability[1]} {p} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers * p.threads * p.at_once <= 65536, note
        if stored != "float64":
            assert not code.doubles, (note, code.doubles)
        inputs = 1 if kernel in (log_softmax_rows, cross_entropy_rows) else 2
        if p.width > 1 and kernel is not soft_target_rows:
            passes = 1 if p.resident else 2 if kernel is log_softmax_backward_rows else 3
            assert code.count("LDG", ".128") == p.vectors * inputs * passes, note
            assert code.count("STG", ".128") == p.vectors, note
            if p.resident and inputs == 1:
                assert code.last("LDG", ".128") < code.first("SHFL"), f"{note}: the row is not asked for all at once"
        assert len(code.instructions) <= ONCE + ceiling * p.vectors * p.width * (1 if p.resident else 3), (note, len(code.instructions))
