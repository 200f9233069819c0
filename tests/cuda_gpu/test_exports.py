"""Results in the hands of other libraries: every dtype arrives as itself."""

import numpy as np
import pytest

import nbloss
import nbloss.functional as F
from nbloss.backends.array_interop import numpy_dtype

pytestmark = pytest.mark.gpu

SHAPE = 64, 1000  # as the smoke step of tools/gpu_check: the same cubins


@pytest.fixture(params=["bfloat16", "float16", "float32", "float64"])
def result(gpu, rng, request):
    x = rng.normal(0, 3, SHAPE).astype(numpy_dtype(request.param))
    return F.log_softmax(nbloss.to_device(x, gpu), 1)


def test_torch_takes_a_result_by_dlpack(torch, result):
    tensor = torch.from_dlpack(result)
    assert tensor.is_cuda and tensor.dtype == getattr(torch, result.dtype.name)
    assert tensor.data_ptr() == result.address
    np.testing.assert_array_equal(tensor.double().cpu().numpy(), nbloss.to_host(result).astype(np.float64))


def test_torch_takes_a_result_by_its_array_interface(torch, result):
    """The interface has no name for bfloat16, so it is read as integers."""
    seen = result.view(np.int16) if result.dtype.name == "bfloat16" else result
    tensor = torch.as_tensor(seen, device="cuda").view(getattr(torch, result.dtype.name))
    np.testing.assert_array_equal(tensor.double().cpu().numpy(), nbloss.to_host(result).astype(np.float64))


def test_a_result_of_bfloat16_comes_back_from_torch(torch, result):
    again = F.softmax(torch.from_dlpack(result), 1)
    assert again.dtype == getattr(torch, result.dtype.name)


def test_cupy_takes_a_result(result):
    cupy = pytest.importorskip("cupy")
    seen = result.view(np.int16) if result.dtype.name == "bfloat16" else result
    np.testing.assert_array_equal(cupy.asnumpy(cupy.from_dlpack(seen)), nbloss.to_host(seen))
