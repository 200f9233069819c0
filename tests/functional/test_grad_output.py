"""`grad_output` of cross_entropy_value_and_grad: it multiplies the gradient, never the loss."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import DTYPES, class_count, class_index, logits, name, rows_shape, weights, with_ignored
from refusals import refused

import nbloss
import nbloss.functional as F

SHAPES = [(5, 7), (6, 65), (3, 4, 5), (2, 33, 3, 5)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_a_number_gives_the_gradient_of_the_backward_function(shape, dtype, reduction, rng):
    x, y, w = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape), dtype)
    plain, _ = F.cross_entropy_value_and_grad(x, y, w, reduction=reduction)
    for g in (2.5, 3, np.float32(0.5), np.float64(-1.0), np.array(0.25)):
        loss, grad = F.cross_entropy_value_and_grad(x, y, w, reduction=reduction, grad_output=g)
        assert_array_equal(loss, plain)
        assert_array_equal(grad, F.cross_entropy_backward(g, x, y, w, reduction=reduction))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_an_array_has_a_factor_for_each_row(shape, dtype, smoothing, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    g = rng.standard_normal(rows_shape(shape)).astype(dtype)
    options = {"reduction": "none", "label_smoothing": smoothing}
    loss, grad = F.cross_entropy_value_and_grad(x, y, grad_output=g, **options)
    assert_array_equal(loss, F.cross_entropy(x, y, **options))
    for other in (g.astype(np.float64), np.asfortranarray(g), g[::-1][::-1]):  # the same numbers in other arrays
        assert_array_equal(F.cross_entropy_value_and_grad(x, y, grad_output=other, **options)[1], grad)
    expected = reference.cross_entropy_backward(g, x, y, **options)
    assert np.abs(grad - expected).max() <= 16 * np.finfo(dtype).eps * np.abs(g).max()


def test_a_loss_scale_keeps_gradients_that_float16_rounds_to_0(rng):
    """A mean over 65,536 positions: half of its gradient is below float16's smallest number."""
    x, y = logits(rng, (1, 21, 256, 256), np.float16), class_index(rng, (1, 21, 256, 256))
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    scaled_loss, scaled = F.cross_entropy_value_and_grad(x, y, grad_output=65536.0)
    assert scaled_loss == loss
    assert np.mean(grad == 0) > 0.3 and np.mean(scaled == 0) < 1e-3
    expected = reference.cross_entropy_backward(65536.0, x, y)
    assert np.abs(scaled - expected).max() <= np.finfo(np.float16).eps * np.abs(expected).max()


@pytest.mark.parametrize("g", [np.ones(3), np.ones((2, 2)), [1.0, 2.0]], ids=str)
def test_another_shape_than_the_loss_is_refused(g):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    out = np.full((2, 3), 7, np.float32)
    with refused(ValueError, "grad_output", "shape ()"):
        F.cross_entropy_value_and_grad(x, y, grad_output=g, out=out)
    assert (out == 7).all()


def test_a_factor_of_0_gives_a_gradient_of_0(rng):
    x, y = logits(rng, (4, 60)), class_index(rng, (4, 60))
    loss, grad = F.cross_entropy_value_and_grad(x, y, grad_output=0.0)
    assert loss == F.cross_entropy(x, y) and not grad.any()


def test_micro_batches_add_up(rng):
    """Two halves with the factor 1/2 give the gradient of the whole mean."""
    x, y = logits(rng, (8, 11), np.float64), class_index(rng, (8, 11))
    whole = F.cross_entropy_value_and_grad(x, y)[1]
    halves = [F.cross_entropy_value_and_grad(x[part], y[part], grad_output=0.5)[1] for part in (slice(0, 4), slice(4, 8))]
    np.testing.assert_allclose(np.concatenate(halves), whole, rtol=1e-15)


def test_it_is_in_the_signature():
    assert nbloss.functional.cross_entropy_value_and_grad.__signature__.parameters["grad_output"].default == 1.0
