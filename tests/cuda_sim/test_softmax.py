"""softmax and its gradient by the CUDA kernels, against the oracle and against the CPU."""

import calls
import numpy as np
import problems
import pytest
import reference
import simulator
from problems import DTYPES, name, work
from test_rows import CASES, ROWS, unaligned, use_group

import nbloss.functional as F
from nbloss import to_device, to_host

SHAPES = [(3, 1, 1), (9, 3, 1), (2, 33, 1), (3, 403, 1), (2, 1, 3), (2, 3, 70), (2, 21, 3), (2, 33, 3), (1, 100, 5)]
EMPTY = [(0, 5, 1), (0, 5, 3)]


def assert_softmax(out, x):
    """4 ulp and half a unit for each unit of m - x, and for half types also the rounding to that type."""
    expected, wide = reference.softmax(x, 1), x.astype(reference.WIDE)
    gap = wide.max(axis=1, keepdims=True) - wide if x.size else wide
    tolerance = (4 + gap / 2) * problems.eps(work(x.dtype)) * expected
    tolerance = tolerance + (problems.eps(x.dtype) * expected if x.dtype != work(x.dtype) else 0)
    problems.assert_within(out, expected, tolerance + problems.floor(x.dtype))


def assert_backward(out, g, y):
    """The sum of g y is rounded to the type of the arithmetic, so g - sum has an error of its own size."""
    expected, p = reference.softmax_backward(g, y, 1), np.abs(y).astype(reference.WIDE)
    terms = np.abs(g).astype(reference.WIDE) + (np.abs(g) * p).sum(axis=1, keepdims=True)
    tolerance = 4 * problems.eps(work(y.dtype)) * p * terms + problems.eps(y.dtype) * np.abs(expected)
    problems.assert_within(out, expected, tolerance + problems.floor(y.dtype))


@pytest.mark.parametrize("shape", SHAPES + EMPTY, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_backward_in_place_too(rng, dtype, shape):
    x, g = problems.logits(rng, shape, dtype), problems.logits(rng, shape, dtype, 1.0)
    y = calls.softmax(x)
    assert_softmax(y, x)
    both = x.copy()
    np.testing.assert_array_equal(calls.stored(calls.softmax(both, both)), calls.stored(y))
    grad = calls.softmax_backward(g, y)
    assert_backward(grad, g, y)
    for arrays in ((g.copy(), y), (g, y.copy())):
        own = next(a for a in arrays if a is not g and a is not y)
        np.testing.assert_array_equal(calls.stored(calls.softmax_backward(*arrays, own)), calls.stored(grad))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_kind_of_thread_group(rng, case, dtype, monkeypatch):
    classes = use_group(case[0], monkeypatch, case[1])
    x, g = unaligned(problems.logits(rng, (ROWS, classes, 1), dtype)), problems.logits(rng, (ROWS, classes, 1), dtype)
    y = calls.softmax(x, unaligned(np.zeros_like(x)))
    assert_softmax(y, x)
    assert_backward(calls.softmax_backward(unaligned(g, 3), y), g, y)


@pytest.mark.parametrize("shape", [(5, 6, 1), (5, 70, 1), (1, 6, 5), (1, 40, 5)], ids=name)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nan_and_infinity(rng, dtype, shape):
    outer, classes, inner = shape
    rows = problems.logits(rng, (5, classes), dtype)
    rows[0, 3], rows[1, 4], rows[2, 0], rows[3] = -np.inf, np.nan, np.inf, -np.inf
    rows[4, 1:] = -np.inf
    x = np.ascontiguousarray(rows.reshape(outer, inner, classes).transpose(0, 2, 1))
    y = calls.softmax(x).transpose(0, 2, 1).reshape(5, classes).astype(float)
    assert y[0, 3] == 0 and np.isfinite(y[0]).all()
    assert np.isnan(y[1:4]).all()
    np.testing.assert_array_equal(y[4], [1] + [0] * (classes - 1))


@pytest.mark.parametrize("shape", [(2, 7, 1), (2, 300, 1), (2, 7, 3), (1, 40, 3)], ids=name)
def test_the_gradient_of_a_one_hot_distribution_is_exactly_0(rng, shape):
    y, g = np.zeros(shape, np.float32), problems.logits(rng, shape)
    y[:, 2] = 1
    assert (calls.softmax_backward(g, y) == 0).all()


@pytest.mark.parametrize("shape", [(2, 7, 3), (1, 40, 3)], ids=name)
def test_strided_classes_keep_digits_where_one_probability_is_close_to_1(rng, shape):
    y, g = np.zeros(shape, np.float32), problems.logits(rng, shape)
    y[:, 0], y[:, 1] = 1, 1e-9
    expected = reference.softmax_backward(g, y, 1).astype(float)
    np.testing.assert_allclose(calls.softmax_backward(g, y), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 7, 1), (2, 300, 1), (2, 7, 3)], ids=name)
def test_the_bits_do_not_depend_on_the_order_of_threads(rng, shape):
    x, g = problems.logits(rng, shape), problems.logits(rng, shape)
    y = calls.softmax(x)
    grad = calls.softmax_backward(g, y)
    for seed in range(2):
        simulator.seed(seed)
        np.testing.assert_array_equal(calls.softmax(x), y)
        np.testing.assert_array_equal(calls.softmax_backward(g, y), grad)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_the_public_functions_take_device_arrays_and_integers(rng, dtype, function):
    x = rng.integers(0, 2, (3, 5)).astype(dtype)
    expected = function(x, dtype=np.float32)
    np.testing.assert_allclose(function(x, dtype=np.float32, device="cuda"), expected, rtol=1e-6)
    np.testing.assert_allclose(to_host(function(to_device(x, "cuda"), dtype=np.float32)), expected, rtol=1e-6)
    with pytest.raises(TypeError, match=r"dtype=np\.float32"):
        function(to_device(x, "cuda"))


def test_the_public_gradient_takes_device_arrays(rng):
    y, g = F.softmax(problems.logits(rng, (3, 5, 4)), 1), problems.logits(rng, (3, 5, 4))
    expected = F.softmax_backward(g, y, 1)
    np.testing.assert_allclose(F.softmax_backward(g, y, 1, device="cuda"), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(to_host(F.softmax_backward(to_device(g, "cuda"), to_device(y, "cuda"), 1)), expected, rtol=1e-5, atol=1e-7)
