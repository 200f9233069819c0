"""Arrays of JAX: results are JAX's, and its memory is used only while it is there."""

import os

import numpy as np
import pytest

import nbloss
import nbloss.functional as F

pytestmark = pytest.mark.gpu

SHAPE = 64, 1000  # as the smoke step of tools/gpu_check: the same cubins
BUSY = 4 * 10**8  # clock cycles, about 0.2 s


@pytest.fixture
def jax(gpu):
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # it takes most of the device's memory otherwise
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no GPU")
    return jax


@pytest.fixture
def x(rng):
    return rng.normal(0, 3, SHAPE).astype(np.float32)


def test_results_are_arrays_of_jax(jax):
    result = F.log_softmax(jax.numpy.ones(SHAPE), 1)
    assert isinstance(result, jax.Array)
    np.testing.assert_allclose(np.asarray(result), -np.log(SHAPE[1]), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_result_of_jax_is_read_after_it_is_computed(jax, x, dtype):
    expected = F.log_softmax(np.asarray(jax.numpy.asarray(x, dtype)), 1, device="cuda")
    busy = jax.jit(lambda a: jax.lax.fori_loop(0, 2000, lambda _, v: v * 1, a))
    result = F.log_softmax(busy(jax.numpy.asarray(x, dtype)), 1)
    assert result.dtype.name == dtype
    np.testing.assert_array_equal(np.asarray(result).astype(np.float32), np.asarray(expected).astype(np.float32))


def test_an_array_that_is_dropped_after_the_call_is_not_overwritten(jax, torch, x):
    expected = nbloss.to_host(F.log_softmax(nbloss.to_device(x, "cuda"), 1))
    logits = jax.device_put(x).block_until_ready()
    F.log_softmax(logits, 1)
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY)  # the call waits for this; JAX, which has streams of its own, does not
    result = F.log_softmax(logits, 1)
    del logits
    filled = [jax.numpy.full(SHAPE, float(k)).block_until_ready() for k in range(8)]
    np.testing.assert_array_equal(np.asarray(result), expected)
    del filled


def test_jax_reads_a_result_of_ours_after_it_is_computed(jax, torch, x):
    logits, out = nbloss.to_device(x, "cuda"), nbloss.to_device(np.full(SHAPE, np.nan, np.float32), "cuda")
    expected = nbloss.to_host(F.log_softmax(logits, 1))
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY)
    F.log_softmax(logits, 1, out=out)
    np.testing.assert_array_equal(np.asarray(jax.numpy.from_dlpack(out) + 0), expected)


def test_value_and_gradient(jax, x, rng):
    y = rng.integers(0, SHAPE[1], SHAPE[0])
    loss, gradient = F.cross_entropy_value_and_grad(jax.numpy.asarray(x), jax.numpy.asarray(y))
    assert isinstance(loss, jax.Array) and isinstance(gradient, jax.Array)
    expected = F.cross_entropy_value_and_grad(x, y, device="cuda")
    np.testing.assert_allclose(float(loss), expected[0], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(gradient), expected[1])
