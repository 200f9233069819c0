"""The order of work on several streams, and calls that wait for nothing. The GPU is kept busy first: what does not wait is then early."""

import time

import numpy as np
import pytest

import nbloss
import nbloss.functional as F
from nbloss.backends.array_interop import numpy_dtype

pytestmark = pytest.mark.gpu

SHAPE = 64, 1000  # as the smoke step of tools/gpu_check: the same cubins
BUSY = 4 * 10**8  # clock cycles, about 0.2 s


def on_device(array):
    return nbloss.to_device(array, "cuda")


@pytest.fixture
def x(rng):
    return rng.normal(0, 3, SHAPE).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_on_another_stream_waits_for_a_result(torch, x, dtype):
    dtype = numpy_dtype(dtype)
    logits, out = on_device(x.astype(dtype)), on_device(np.full(SHAPE, np.nan, dtype))
    expected = nbloss.to_host(F.log_softmax(logits, 1)).astype(np.float32)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY)
    F.log_softmax(logits, 1, out=out)
    with torch.cuda.stream(side):
        seen = torch.from_dlpack(out).clone()
    side.synchronize()
    assert seen.dtype == getattr(torch, dtype.name)
    np.testing.assert_array_equal(seen.float().cpu().numpy(), expected)


def test_torch_s_default_stream_waits_for_a_result(torch, x):
    logits, out = on_device(x), on_device(np.full(SHAPE, np.nan, np.float32))
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY)
    F.log_softmax(logits, 1, out=out)
    seen = torch.from_dlpack(out).clone()
    np.testing.assert_allclose(seen.cpu().numpy(), F.log_softmax(x, 1), rtol=1e-5, atol=1e-6)


CALLS = {
    "class numbers": lambda x, y, q, w: F.cross_entropy_value_and_grad(x, y),
    "smoothing": lambda x, y, q, w: F.cross_entropy_value_and_grad(x, y, label_smoothing=0.1),
    "weights": lambda x, y, q, w: F.cross_entropy_value_and_grad(x, y, w),
    "smoothing and weights": lambda x, y, q, w: F.cross_entropy_value_and_grad(x, y, w, label_smoothing=0.1),
    "probabilities": lambda x, y, q, w: F.cross_entropy_value_and_grad(x, q),
    "loss alone": lambda x, y, q, w: F.cross_entropy(x, y),
    "log_softmax": lambda x, y, q, w: F.log_softmax(x, 1),
    "nll_loss": lambda x, y, q, w: F.nll_loss(x, y),
}


@pytest.mark.parametrize("kind", ["torch", "DeviceArray"])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_waits_for_nothing(torch, rng, x, call, kind):
    arrays = [x, rng.integers(0, SHAPE[1], SHAPE[0]), np.full(SHAPE, 1 / SHAPE[1], np.float32), np.ones(SHAPE[1], np.float32)]
    arrays = [torch.from_numpy(a).cuda() if kind == "torch" else on_device(a) for a in arrays]
    for _ in range(2):
        CALLS[call](*arrays)
    torch.cuda.synchronize()
    start = time.perf_counter()
    torch.cuda._sleep(BUSY)
    result = CALLS[call](*arrays)
    returned = time.perf_counter() - start
    torch.cuda.synchronize()
    finished = time.perf_counter() - start
    del result
    assert returned < finished / 4


def test_errors_are_polled_without_waiting(torch, rng, x):
    y = rng.integers(0, SHAPE[1], SHAPE[0])
    good, bad = on_device(y), y.copy()
    bad[7] = SHAPE[1]
    logits, bad = on_device(x), on_device(bad)
    F.cross_entropy(logits, good)
    nbloss.check_device_errors()
    torch.cuda._sleep(BUSY)
    F.cross_entropy(logits, bad)
    start = time.perf_counter()
    nbloss.check_device_errors(wait=False)  # the call has not run yet
    polled = time.perf_counter() - start
    torch.cuda.synchronize()
    finished = time.perf_counter() - start
    assert polled < finished / 4
    with pytest.raises(IndexError, match=r"got 1000 at index \(7,\)"):
        nbloss.check_device_errors(wait=False)
    nbloss.check_device_errors(wait=False)
