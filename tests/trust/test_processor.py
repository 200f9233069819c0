"""A processor without fused multiply-add and half conversions (NUMBA_CPU_NAME=x86-64): every dtype works, and the bits are the same."""

import pytest
from work import run_script

EVERY_DTYPE = """
import hashlib
import ml_dtypes, numpy as np
import reference
from problems import assert_gradient, assert_loss, assert_within, eps, floor, work
import nbloss.functional as F

rng = np.random.default_rng(3)
every = hashlib.sha256()
for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
    for shape in ((70, 10), (9, 131), (2, 33, 21)):
        x, y = rng.normal(0, 4, shape).astype(dtype), rng.integers(0, shape[1], (shape[0], *shape[2:]))
        w = (rng.integers(1, 9, shape[1]) / 4).astype(dtype)
        logp, exact = F.log_softmax(x, 1), reference.log_softmax(x, 1)
        assert_within(logp, exact, abs(exact) * (4 * eps(work(dtype)) + eps(dtype)) + floor(dtype))
        loss, grad = F.cross_entropy_value_and_grad(x, y, w)
        assert_loss(loss, reference.cross_entropy(x, y, w), dtype)
        assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, y, w))
        for a in (logp, loss, grad):
            every.update(np.asarray(a).tobytes())
print(every.hexdigest())
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What this machine's own code gives."""
    return run_script(tmp_path_factory.mktemp("here"), EVERY_DTYPE)


@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_every_dtype_is_right_and_has_the_bits_of_this_machine_s_own_code(processor, here, tmp_path):
    """Where the processor has no fused multiply-add, the C library's is called: slow, and exact."""
    binding = pytest.importorskip("llvmlite.binding")
    if not binding.get_process_triple().startswith("x86_64") or not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("for a machine that can run the code of that processor")
    assert run_script(tmp_path, EVERY_DTYPE, timeout=500, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="") == here
