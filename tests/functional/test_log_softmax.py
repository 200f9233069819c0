"""log_softmax and its gradient against the oracle: every dtype, every axis, every kind of shape."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import DTYPES, FLOATS, MANY_CLASSES, SHAPES, assert_within, eps, floor, logits, name, work

import nbloss.functional as F

AXES = [(shape, dim) for shape in [(7,), (5, 7), (3, 4, 5), (4, 1, 6), (2, 3, 4, 5), (2, 3, 2, 3, 17)]
        for dim in range(-len(shape), len(shape))]  # fmt: skip


def assert_log_softmax(actual, x, dim, note=""):
    """4 ulp of the arithmetic's dtype, and then the rounding to the result's own."""
    expected = reference.log_softmax(x, dim)
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == x.dtype, note
    arithmetic = 4 * eps(work(x.dtype)) * np.abs(expected)
    stored = eps(x.dtype) * np.abs(expected) if work(x.dtype) != x.dtype else 0
    assert_within(actual, expected, arithmetic + stored + floor(x.dtype), note)


def assert_backward(actual, g, y, dim, note=""):
    expected = reference.log_softmax_backward(g, y, dim)
    wide = np.asarray(y).astype(reference.WIDE)
    size = np.abs(g).astype(reference.WIDE) + np.exp(wide) * np.abs(g).astype(reference.WIDE).sum(axis=dim, keepdims=True)
    assert actual.dtype == y.dtype, note
    assert_within(
        actual, expected, eps(work(y.dtype)) * (8 + np.abs(wide)) * size + eps(y.dtype) * np.abs(expected) + floor(y.dtype), note
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES + [(3, c) for c in MANY_CLASSES], ids=name)
def test_the_last_axis_of_every_shape(shape, dtype, rng, device):
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    y = F.log_softmax(x, device=device)
    assert_log_softmax(y, x, -1)
    assert_backward(F.log_softmax_backward(g, y, device=device), g, y, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), AXES, ids=name)
def test_every_axis_forwards_and_backwards(shape, dim, dtype, rng, device):
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    y = F.log_softmax(x, dim, device=device)
    assert_log_softmax(y, x, dim)
    assert_backward(F.log_softmax_backward(g, y, dim, device=device), g, y, dim)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 1000, 3), (2, 20011, 2), (1000, 2), (1, 130, 31)], ids=name)
def test_many_classes_on_a_strided_axis(shape, dtype, rng, device):
    dim = 0 if len(shape) == 2 else 1
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    y = F.log_softmax(x, dim, device=device)
    assert_log_softmax(y, x, dim)
    assert_backward(F.log_softmax_backward(g, y, dim, device=device), g, y, dim)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3), (0, 0)], ids=name)
@pytest.mark.parametrize("dim", [0, -1])
def test_an_empty_array_gives_an_empty_array(shape, dim, dtype, device):
    x = np.zeros(shape, dtype)
    for result in (F.log_softmax(x, dim, device=device), F.log_softmax_backward(x, x, dim, device=device)):
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.parametrize("dim", [0, -1])
def test_a_scalar_is_a_distribution_over_one_class_as_in_torch(dim, device):
    assert F.log_softmax(np.float32(3.0), dim, device=device) == 0


@pytest.mark.parametrize("asked", DTYPES)
@pytest.mark.parametrize("given", DTYPES)
def test_dtype_computes_and_returns_that_type(given, asked, rng, device):
    x = logits(rng, (5, 33), given)
    assert_log_softmax(F.log_softmax(x, dtype=asked, device=device), x.astype(asked), -1)


def test_dtype_none_keeps_the_type_and_names_are_dtypes_too(rng, device):
    x = logits(rng, (5, 33), np.float32)
    assert F.log_softmax(x, dtype=None, device=device).dtype == np.float32
    assert F.log_softmax(x, dtype="float64", device=device).dtype == np.float64
    assert F.log_softmax(x, dtype=np.dtype("float64"), device=device).dtype == np.float64


def test_dtype_does_not_compute_in_half_and_then_widen(device):
    x = np.array([[0.0, 1e-4, 11.0]], np.float16)
    expected = reference.log_softmax(x)
    np.testing.assert_allclose(F.log_softmax(x, dtype=np.float64, device=device), expected.astype(float), rtol=1e-15)


@pytest.mark.parametrize("dtype", [d for d in FLOATS if np.dtype(d).itemsize == 2])
def test_half_types_are_summed_in_float32(dtype, rng, device):
    """70000 equal logits: a sum in half would stop at 2048 (float16) or 256 (bfloat16)."""
    y = F.log_softmax(np.zeros((1, 70000), dtype), device=device)
    np.testing.assert_allclose(y.astype(float), -np.log(70000), rtol=eps(dtype))


def test_the_input_is_left_alone(rng, device):
    x, g = logits(rng, (5, 7)), logits(rng, (5, 7))
    x0, g0 = x.copy(), g.copy()
    y = F.log_softmax(x, device=device)
    y0 = y.copy()
    F.log_softmax_backward(g, y, device=device)
    assert_array_equal(x, x0)
    assert_array_equal(g, g0)
    assert_array_equal(y, y0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_is_filled_and_returned(dtype, rng, device):
    x, g = logits(rng, (5, 33), dtype), logits(rng, (5, 33), dtype)
    out = np.full_like(x, 7)
    assert F.log_softmax(x, out=out, device=device) is out
    assert_log_softmax(out, x, -1)
    grad = np.full_like(x, 7)
    assert F.log_softmax_backward(g, out, out=grad, device=device) is grad
    assert_backward(grad, g, out, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9,), (5, 33), (5, 3), (2, 17, 9), (2, 3, 4, 5), (2, 3001)], ids=name)
@pytest.mark.parametrize("dim", [0, -1])
def test_out_may_be_the_input_itself(shape, dim, dtype, rng, device):
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    y, own = F.log_softmax(x, dim, device=device), x.copy()
    assert F.log_softmax(own, dim, out=own, device=device) is own
    assert_array_equal(own, y)
    grad, own = F.log_softmax_backward(g, y, dim, device=device), y.copy()
    assert F.log_softmax_backward(g, own, dim, out=own, device=device) is own
    assert_array_equal(own, grad)
    own = g.copy()
    assert F.log_softmax_backward(own, y, dim, out=own, device=device) is own
    assert_array_equal(own, grad)


def test_dtype_and_out_go_together(rng, device):
    x = logits(rng, (5, 33), np.float16)
    out = np.empty((5, 33), np.float32)
    assert F.log_softmax(x, dtype=np.float32, out=out, device=device) is out
    assert_log_softmax(out, x.astype(np.float32), -1)


def test_a_scalar_grad_output_is_the_same_for_every_element(rng, device):
    y = F.log_softmax(logits(rng, (5, 7)), device=device)
    assert_array_equal(
        F.log_softmax_backward(2.0, y, device=device),
        F.log_softmax_backward(np.full_like(y, 2), y, device=device),
    )
