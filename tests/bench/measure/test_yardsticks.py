"""The memory baselines."""

import numpy as np
import pytest

from nbloss.bench.evaluate import OPERATIONS as EVALUATE_OPERATIONS
from nbloss.bench.interop import OPERATIONS as INTEROP_OPERATIONS
from nbloss.bench.linear import OPERATIONS as LINEAR_OPERATIONS
from nbloss.bench.measure.yardsticks import NO_PEERS, YARDSTICK, YARDSTICKS
from nbloss.bench.options import OPERATIONS as OPTION_OPERATIONS
from nbloss.bench.problem import OPERATIONS, Problem


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", ["7x5", "1024x1031", "1031x1024.T"])  # in one piece, in several pieces
def test_the_memory_baselines_copy_and_read_everything(shape, dtype):
    problem = Problem.parse(shape, dtype)
    np.testing.assert_array_equal(YARDSTICKS["copy"](problem)().ravel(), problem.logits.ravel(order="K"))
    bits = problem.logits.view(np.int16) if problem.logits.itemsize == 2 else problem.logits
    assert YARDSTICKS["read"](problem)() == bits.max()


def test_every_operation_has_a_memory_baseline():
    assert set(YARDSTICK) == {*OPERATIONS, *OPTION_OPERATIONS, *INTEROP_OPERATIONS, *LINEAR_OPERATIONS, *EVALUATE_OPERATIONS}
    assert set(YARDSTICK.values()) == set(NO_PEERS)
