"""Copies on the device give the same as NumPy's `astype` and `ascontiguousarray`."""

import calls
import numpy as np
import pytest
from problems import FLOATS, INTEGERS, name

from nbloss.kernels.cuda.per_target.strided_copy import merged_dimensions

REAL = [np.dtype(bool), *INTEGERS, *map(np.dtype, FLOATS)]


def copied(source, dtype):
    out = calls.unwritten(source.shape, dtype)
    calls.kernels.copy(source, out)
    return out


def assert_same(actual, expected):
    bits = f"u{expected.itemsize}"
    np.testing.assert_array_equal(np.ascontiguousarray(actual).view(bits), np.ascontiguousarray(expected).view(bits))


def numbers(rng, dtype):
    """Small and large numbers of both signs, special values, and numbers near the middle between two float16."""
    if dtype.kind == "b":
        return rng.random(40) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.concatenate(
            [rng.integers(limits.min, limits.max, 40, dtype, endpoint=True), np.array([limits.min, limits.max, 0, 1], dtype)]
        )
    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e-6, -6e-8, 65519.9, 65520, 1e30])
    ties = 1 + 2.0**-11 + np.array([0, 2.0**-30, -(2.0**-30), 2.0**-40])  # in and near the middle between two float16
    with np.errstate(over="ignore"):
        return np.concatenate([rng.normal(0, 100, 40), special, ties]).astype(dtype)


@pytest.mark.parametrize("to", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("dtype", REAL, ids=name)
def test_a_copy_converts_as_numpy_does(rng, dtype, to):
    source = numbers(rng, dtype)
    with np.errstate(over="ignore"):
        assert_same(copied(source, to), source.astype(to))


@pytest.mark.parametrize("dtype", REAL, ids=name)
def test_a_copy_to_the_same_dtype_keeps_every_bit(rng, dtype):
    source = rng.integers(0, 256, 64 * dtype.itemsize, np.uint8).view(dtype)
    if dtype.kind == "b":
        source = rng.random(64) < 0.5
    assert_same(copied(source, dtype), source)


def views(a):
    """Views of a C-ordered array of shape (4, 3, 5, 2)."""
    yield "as it is", a
    yield "transposed", a.T
    yield "permuted", a.transpose(2, 0, 3, 1)
    yield "reversed", a[::-1, ::-1, ::-1, ::-1]
    yield "one axis reversed", a[:, :, ::-1]
    yield "every other", a[::2, :, 1::2]
    yield "sliced", a[1:3, :, 2:4, 1:]
    yield "broadcast", np.broadcast_to(a[:, :, :1], a.shape)
    yield "one number", np.broadcast_to(a[0, 0, 0, 0], (3, 2))
    yield "diagonal", a.diagonal(axis1=0, axis2=1)
    yield "new axes", a[:, None, ::2, None, ::-1, None]
    yield "empty", a[:0]
    yield "a scalar", a[1, 2, 3, 1]


@pytest.mark.parametrize("to", [np.float32, np.float64], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("layout", [label for label, _ in views(np.zeros((4, 3, 5, 2)))])
def test_a_copy_takes_any_strides(rng, layout, to):
    view = np.asarray(dict(views(rng.normal(size=(4, 3, 5, 2)).astype(np.float32)))[layout])
    assert_same(copied(view, to), view.astype(to))


def test_eight_dimensions_that_do_not_merge(rng):
    view = rng.normal(size=(4,) * 8).astype(np.float32)[(slice(None, None, 2),) * 8].transpose(7, 2, 0, 1, 6, 3, 5, 4)
    assert len(merged_dimensions(view.shape, view.strides)) == 8
    assert_same(copied(view, np.float32), view)


def test_dimensions_with_one_common_stride_merge():
    a = np.zeros((4, 3, 5, 2), np.float32)
    assert merged_dimensions(a.shape, a.strides) == [(120, 4)]
    assert merged_dimensions(a[::2].shape, a[::2].strides) == [(2, 240), (30, 4)]
    assert merged_dimensions(a[:, :1].shape, a[:, :1].strides) == [(4, 120), (10, 4)]
    assert merged_dimensions((), ()) == [(1, 0)]
