"""Vectors that are loaded from an array of another storage type than that of the vectors beside them."""

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

numba = pytest.importorskip("numba")

if numba.config.DISABLE_JIT:
    pytest.skip("the NumPy reference has no vectors", allow_module_level=True)

from nbloss.kernels.cpu.simd.load_store import load_as, load_n_as, splat, store  # noqa: E402
from nbloss.kernels.cpu.simd.pointers import pointer  # noqa: E402

SEEN = {"float16": np.uint16, "bfloat16": np.int16, "float32": np.float32, "float64": np.float64}


@numba.njit
def converted(source, out, count):
    """A whole vector from element 0 on, and one of ``count`` lanes from element 1 on, -1 in the others."""
    like = splat(pointer(out, 0), 0.0)
    store(pointer(out, 0), 0, load_as(pointer(source, 0), 0, like))
    store(pointer(out, 0), out.size // 2, load_n_as(pointer(source, 0), 1, count, -1.0, like))


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("computed", [np.float32, np.float64])
def test_a_load_converts_every_storage_type_as_numpy_does(computed, name, rng):
    dtype = np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)
    lanes = 16 if computed == np.float32 else 8
    source = rng.random(lanes + 1).astype(dtype)
    source[:3] = 0.0, np.inf, 1e-7
    for count in (-1, 0, 3, lanes, lanes + 5):
        out = np.empty(2 * lanes, computed)
        converted(source.view(SEEN[name]), out, count)
        wanted = source.astype(computed)
        assert_array_equal(out[:lanes], wanted[:lanes])
        some = max(0, min(count, lanes))
        assert_array_equal(out[lanes:], np.append(wanted[1 : some + 1], np.full(lanes - some, -1.0)))
