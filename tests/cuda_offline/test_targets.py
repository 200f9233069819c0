"""Kernels of targets, sums and copies on every architecture: nothing spills, and 1024 threads fit on a multiprocessor."""

import cubins
import pytest

from nbloss.kernels.cuda import logit_map, sums
from nbloss.kernels.cuda.per_target import nll, strided_copy, targets
from nbloss.kernels.cuda.runtime import build
from nbloss.kernels.cuda.tuning import BLOCK_THREADS

N, P, F, D = "int64", "*int64", "*float32", "*float64"
MEAN = ("float64", "float64", P, "float64", N, F, P, N)
CHECK_TARGETS = (N, N, F, F, N, N, "float64", "float64", F, F, N, D, P, *MEAN)
SIZES_AND_STRIDES = (N,) * 15

CASES = {
    "check targets": (targets.check_targets, (True, True, True, False, True), ("*int8", *CHECK_TARGETS)),
    "check targets, one block": (targets.check_targets, (False, False, False, True, False), (P, *CHECK_TARGETS)),
    "finish check": (targets.finish_check, (True, True), (P, N, N, N, D, P, N, *MEAN)),
    "sum of weights": (targets.sum_weights, (), (F, N, "float64", P)),
    "weigh": (targets.weigh_positions, (), (F, N, F, F, N)),
    "partial sums": (sums.partial_sums, (), (F, N, D)),
    "final sum": (sums.final_sum, (True, True), (D, N, P, "float64", "float64", F)),
    "over divisor": (sums.over_divisor, (True, True), (F, "float64", P, "float64", F)),
    "nll": (nll.loss_at_target, (False,), ("*uint16", N, N, N, N, N, P, N, F, F, F, N, N, F, N)),
    "summed nll": (nll.loss_at_target, (True,), ("*uint16", N, N, N, N, N, P, N, F, F, P, N, N, F, N)),
    "nll backward, strided": (nll.gradient_strided, (), (P, N, F, F, N, "*int16", N, N, N)),
    "nll backward, rows": (nll.gradient_in_row, (16,), (P, N, F, F, N, F, N, N)),
    "soft nll": (nll.soft_loss_kernel, (32,), ("*int16", F, F, F, N, N, N)),
    "soft nll, strided": (nll.soft_loss_kernel, (0,), (F, F, F, F, N, N, N)),
    "soft nll backward": (nll.soft_gradient_kernel, (8,), (F, F, F, N, "*uint16", N, N, N)),
    "capped logits": (logit_map.map_logits, ("float32", True), ("*uint16", F, N, "float32", "float32", "float32")),
    "scaled logits": (logit_map.map_logits, ("float32", False), ("*int16", F, N, "float32", "float32", "float32")),
    "slopes": (logit_map.multiply_slopes, ("float32", True), ("*uint16", F, "*uint16", N, "float32", "float32", "float32")),
    "slopes, float64": (logit_map.multiply_slopes, ("float64", True), (D, D, D, N, "float64", "float64", "float64")),
    "bends": (logit_map.map_second, ("float32", True, True), (F, F, F, F, F, F, N, "float32", "float32", "float32")),
    "bends, float64": (logit_map.map_second, ("float64", True, False), (D, D, D, D, D, D, N, "float64", "float64", "float64")),
    "chain rule": (logit_map.unmap_second, ("float32", True), (F, F, F, F, F, "*uint16", N)),
    "copy of bits": (strided_copy.strided_copy, (8, "bits", False), ("*int16", N, N, "*int16", N, *SIZES_AND_STRIDES)),
    "copy of floats": (strided_copy.strided_copy, (3, "float", False), ("*uint16", N, N, F, N, *SIZES_AND_STRIDES)),
    "copy of float64 to float16": (strided_copy.strided_copy, (2, "float", True), (D, N, N, "*uint16", N, *SIZES_AND_STRIDES)),
    "copy of uint64": (strided_copy.strided_copy, (2, "unsigned64", False), (P, N, N, F, N, *SIZES_AND_STRIDES)),
}
IN_FLOAT32 = (
    "nll",
    "nll backward, strided",
    "nll backward, rows",
    "soft nll backward",
    "weigh",
    "copy of bits",
    "copy of floats",
    "capped logits",
    "scaled logits",
    "slopes",
    "bends",
    "chain rule",
)


@pytest.mark.parametrize("case", CASES)
def test_kernels_without_reductions_over_logits(case):
    make, constants, signature = CASES[case]
    for capability in cubins.architectures(case):
        code = cubins.read(build.cubin(make, constants, signature, capability, BLOCK_THREADS))
        note = f"sm_{capability[0]}{capability[1]} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers <= 64, note  # 1024 threads on a multiprocessor
        if case in IN_FLOAT32:
            assert not code.doubles, (note, code.doubles)
