"""How arrays reach the peers on a GPU."""

import numpy as np
import pytest

from nbloss.bench.gpu import peers


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64"])
def test_torch_sees_the_memory_of_every_dtype(dtype):
    torch = pytest.importorskip("torch")
    numpy_dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    array = np.arange(6).reshape(2, 3).astype(numpy_dtype)  # NumPy's arrays have no bfloat16 for DLPack, as those of a device
    tensor = peers.as_torch(torch, array)
    assert tensor.dtype == getattr(torch, dtype) and tensor.shape == (2, 3)
    assert tensor.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(tensor.double().numpy(), array.astype(np.float64))
