"""A processor without fused multiply-add and half conversions (NUMBA_CPU_NAME=x86-64): every dtype works, and the bits are the same."""

import os

import pytest
from work import run_script

SLOW = pytest.mark.skipif("NBLOSS_SLOW" not in os.environ, reason="compiles all kernels once more; set NBLOSS_SLOW=1")

EVERY_DTYPE = """
import hashlib
import ml_dtypes, numpy as np
import reference
from problems import assert_gradient, assert_loss, assert_within, eps, floor, work
import nbloss.functional as F

rng = np.random.default_rng(3)
every = hashlib.sha256()
rows, lanes = (9, 131), (70, 10)  # the two ways to walk
for dtype, shape in ((np.float32, rows), (np.float32, lanes), (np.float64, rows), (np.float16, rows), (ml_dtypes.bfloat16, lanes)):
    x, y = rng.normal(0, 4, shape).astype(dtype), rng.integers(0, shape[1], shape[0])
    logp, exact = F.log_softmax(x), reference.log_softmax(x)
    assert_within(logp, exact, abs(exact) * (4 * eps(work(dtype)) + eps(dtype)) + floor(dtype))
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    assert_loss(loss, reference.cross_entropy(x, y), dtype)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, y))
    for a in (logp, loss, grad):
        every.update(np.asarray(a).tobytes())
print(every.hexdigest())
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What this machine's own code gives."""
    return run_script(tmp_path_factory.mktemp("here"), EVERY_DTYPE)


@pytest.mark.parametrize("processor", ["x86-64", pytest.param("haswell", marks=SLOW)])
def test_every_dtype_is_right_and_has_the_bits_of_this_machine_s_own_code(processor, here, tmp_path):
    """Where the processor has no fused multiply-add, the C library's is called: slow, and exact."""
    binding = pytest.importorskip("llvmlite.binding")
    if not binding.get_process_triple().startswith("x86_64") or not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("for a machine that can run the code of that processor")
    assert run_script(tmp_path, EVERY_DTYPE, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="") == here
