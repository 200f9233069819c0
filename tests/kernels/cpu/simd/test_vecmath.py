"""Elementary functions of vectors, against NumPy's of long doubles."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")

if numba.config.DISABLE_JIT:
    pytest.skip("the NumPy reference has no vectors", allow_module_level=True)

from nbloss.kernels.cpu.simd.load_store import lanes, load, store  # noqa: E402
from nbloss.kernels.cpu.simd.pointers import pointer  # noqa: E402
from nbloss.kernels.cpu.simd.vecmath import (  # noqa: E402
    LEAST_EXP_ARGUMENT32,
    LEAST_EXP_ARGUMENT64,
    exp_bounded,
    exp_scaled,
    log1p,
)


@numba.njit
def log1p_of(x, out):
    for k in range(0, x.size, lanes(pointer(x, 0))):
        store(pointer(out, 0), k, log1p(load(pointer(x, 0), k)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log1p(dtype, rng):
    info = np.finfo(dtype)
    some = [np.exp(rng.uniform(-80, 69, 40_000)), np.exp(rng.uniform(-30, 6, 40_000)), rng.random(40_000) * 3]
    x = np.resize(np.concatenate([*some, [0, 1, 2, 3, info.smallest_normal, np.nan, 1 - info.eps]]), 2**17).astype(dtype)
    out = np.empty_like(x)
    log1p_of(x, out)
    expected = np.log1p(x.astype(np.longdouble))
    with np.errstate(invalid="ignore"):
        off = np.abs(out - expected) / np.spacing(expected.astype(dtype))
    assert np.isnan(out).tolist() == np.isnan(x).tolist()
    assert np.nanmax(off) < 1


@numba.njit
def exp_of(x, scaled, bounded):
    for k in range(0, x.size, lanes(pointer(x, 0))):
        store(pointer(scaled, 0), k, exp_scaled(load(pointer(x, 0), k), None))
        store(pointer(bounded, 0), k, exp_bounded(load(pointer(x, 0), k)))


@pytest.mark.parametrize(("dtype", "least"), [(np.float32, LEAST_EXP_ARGUMENT32), (np.float64, LEAST_EXP_ARGUMENT64)])
def test_least_exp_argument(dtype, least, rng):
    """The exponential is 0 just below it, and the same without the comparison from there on."""
    least = dtype(least)
    x = np.concatenate([least * rng.random(2**14 - 4), [least, np.nextafter(least, dtype(0)), 0, np.nan]]).astype(dtype)
    scaled, bounded = np.empty_like(x), np.empty_like(x)
    exp_of(x, scaled, bounded)
    assert scaled.tobytes() == bounded.tobytes()
    assert (scaled[:-1] > 0).all()
    exp_of(np.resize(np.array([np.nextafter(least, dtype(-np.inf)), 2 * least, -np.inf], dtype), x.shape), scaled, bounded)
    assert not scaled.any()
