"""The distillation loss by the CUDA kernels, against the oracle and against the CPU."""

import numpy as np
import pytest
import reference
from problems import DTYPES, eps, logits, name
from test_distillation import assert_results, padded, pair

import nbloss.functional as F
from nbloss import to_device, to_host

SHAPES = [(7,), (5, 3), (3, 70), (2, 300), (2, 5, 9), (2, 60, 3)]


def on_gpu(x, t, g=1.0, **options):
    return (
        F.distillation_loss(x, t, device="cuda", **options),
        *F.distillation_loss_value_and_grad(x, t, grad_output=g, device="cuda", **options),
        F.distillation_loss_backward(g, x, t, device="cuda", **options),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(rng, dtype, shape):
    x, t = pair(rng, shape, dtype)
    for options in (
        {"temperature": 2.5, "reduction": "none"},
        {"sample_weight": np.full(x.shape[:1] + x.shape[2:] if x.ndim > 1 else (), 1.5)},
    ):
        assert_results(on_gpu(x, t, **options), x, t, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distance", [1e-2, 1e-4])
def test_digits_are_kept_where_the_student_is_near_its_teacher(rng, dtype, distance):
    for shape in ((8, 5), (2, 200)):
        x, t = pair(rng, shape, dtype, distance)
        losses, gradient = reference.exact_distillation(x, t)
        loss, grad = F.distillation_loss_value_and_grad(x, t, reduction="none", device="cuda")
        np.testing.assert_allclose(loss, losses, rtol=6 * eps(dtype))
        np.testing.assert_allclose(grad, gradient, rtol=8 * eps(dtype), atol=8 * eps(dtype) * np.abs(gradient).max())


@pytest.mark.parametrize("width", [4, 60])
def test_classes_without_probability(width):
    inf, nan = np.inf, np.nan
    t = [[1, 2, 0, -inf], [1, 2, 0, -inf], [1, 2, 0, 1], [-inf] * 4, [1, 2, nan, 0], [inf, 0, 0, 0], [0, 1, 0, 0], [0, 99, 1, 0]]
    x = [[2, 2, 0, -inf], [2, 2, 0, 3], [1, 2, 0, -inf], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [0, inf, 0, 0], [99, 0, 0, 1]]
    x, t = padded(x, width), padded(t, width)
    assert_results(on_gpu(x, t, reduction="none"), x, t, reduction="none")


def test_a_sample_weight_of_0_hides_the_row(rng):
    x, t = pair(rng, (4, 5))
    x[1] = np.nan
    own = np.float32([1, 0, 2, 1])
    assert_results(on_gpu(x, t, sample_weight=own), x, t, sample_weight=own)


def test_arrays_on_the_device(rng):
    x, t = pair(rng, (3, 6))
    there = [to_device(a, "cuda") for a in (x, t)]
    expected = on_gpu(x, t, reduction="none")
    for _ in range(2):  # the second call repeats what was recorded
        loss, grad = F.distillation_loss_value_and_grad(*there, reduction="none")
        np.testing.assert_array_equal(to_host(loss), expected[1])
        np.testing.assert_array_equal(to_host(grad), expected[2])


def test_equal_logits_give_exactly_0(rng):
    for shape in ((3, 6), (2, 40)):
        t = logits(rng, shape)
        for result in on_gpu(t, t.copy(), reduction="none"):
            assert not result.any()
