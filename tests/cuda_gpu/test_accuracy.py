"""Accuracy on the hardware, whose exponentials and logarithms differ from the simulator's. One shape for each kind of thread group."""

import numpy as np
import problems
import pytest
import reference
from problems import DTYPES, name, work

import nbloss
import nbloss.functional as F
from nbloss.bench.gpu.device import Clock

pytestmark = pytest.mark.gpu

# lanes of a warp, a warp, a block, a cluster (or rows that are read again), longer than a cluster holds
ROWS = [(1000, 3), (777, 10), (300, 127), (64, 1000), (33, 1001), (9, 8192), (5, 20011), (5, 50257), (3, 128256), (2, 600001)]
# classes in registers, and the online softmax
CHANNELS_FIRST = [(2, 1, 9), (3, 2, 5, 7), (2, 21, 33, 17), (2, 32, 5), (2, 100, 31), (1, 3000, 3)]
SHAPES = pytest.mark.parametrize("shape", ROWS + CHANNELS_FIRST, ids=name)


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_numbers(gpu, rng, dtype, shape, smoothing):
    x = problems.logits(rng, shape, dtype)
    target = problems.with_ignored(rng, problems.class_index(rng, shape), -100)
    w = problems.weights(rng, shape[1], work(dtype))
    g = rng.uniform(0.5, 2, target.shape).astype(work(dtype))
    options = {"label_smoothing": smoothing, "reduction": "none"}
    loss = F.cross_entropy(x, target, w, device=gpu, **options)
    problems.assert_loss(loss, reference.cross_entropy(x, target, w, **options), dtype, terms=shape[1])
    gradient = F.cross_entropy_backward(g, x, target, w, device=gpu, **options)
    problems.assert_gradient(gradient, x, *reference.cross_entropy_terms(g, x, target, w, **options))


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities(gpu, rng, dtype, shape):
    x, y = problems.logits(rng, shape, dtype), problems.probabilities(rng, shape, work(dtype))
    loss, gradient = F.cross_entropy_value_and_grad(x, y, reduction="sum", device=gpu)
    problems.assert_loss(loss, reference.cross_entropy(x, y, reduction="sum"), dtype, terms=x.size)
    problems.assert_gradient(gradient, x, *reference.cross_entropy_terms(1.0, x, y, reduction="sum"))


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(gpu, rng, dtype, shape):
    x = problems.logits(rng, shape, dtype)
    out, expected = F.log_softmax(x, 1, device=gpu), reference.log_softmax(x, 1)
    units = 4 * problems.eps(work(dtype)) + (problems.eps(dtype) if dtype != work(dtype) else 0)
    problems.assert_within(out, expected, units * np.abs(expected) + problems.floor(dtype))


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivatives(gpu, rng, dtype, shape):
    """The product of the Hessian with each row of it is linear in v; v = 1 gives 0, and the diagonal is p (1 - p) / n."""
    x, y = problems.logits(rng, shape, dtype), problems.class_index(rng, shape)
    p = reference.softmax(x, 1)
    n, ulp = y.size, 16 * problems.eps(work(dtype)) + problems.eps(dtype)
    diagonal = F.cross_entropy_hessian_diag(x, y, lse_square_scale=0.5, device=gpu)
    lse = np.moveaxis(reference.log_sum_exp(reference.classes_last(x)), -1, 1)
    expected = p * ((1 + lse) * (1 - p) + p) / n
    problems.assert_within(diagonal, expected, ulp * (1 + np.abs(lse)) * p / n * 8 + problems.floor(dtype))
    v = problems.logits(rng, shape, dtype, 1.0)
    mean = (p * v).sum(axis=1, keepdims=True)
    hv = F.cross_entropy_hvp(v, x, y, device=gpu)
    size = np.abs(v) + (p * np.abs(v)).sum(axis=1, keepdims=True)
    problems.assert_within(hv, p * (v - mean) / n, 8 * ulp * p * size / n + problems.floor(dtype))


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics(gpu, rng, dtype, shape):
    x, target = problems.logits(rng, shape, dtype), problems.with_ignored(rng, problems.class_index(rng, shape), -100)
    lse, log_prob, argmax, correct, entropy = reference.stats(x, target)
    actual = F.cross_entropy_stats(x, target, device=gpu)
    ulp, top = 8 * problems.eps(work(dtype)), np.abs(x.astype(float)).max(axis=1)
    problems.assert_within(actual.lse, lse, ulp * (top + np.abs(lse)))
    problems.assert_within(actual.log_prob, log_prob, ulp * np.abs(log_prob) + problems.tiny(work(dtype)))
    problems.assert_within(actual.entropy, entropy, 2 * ulp * np.abs(entropy) + problems.tiny(work(dtype)))
    np.testing.assert_array_equal(actual.argmax, argmax)
    np.testing.assert_array_equal(actual.correct, correct)


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
def test_focal_loss(gpu, rng, dtype, shape):
    x, target = problems.logits(rng, shape, dtype), problems.with_ignored(rng, problems.class_index(rng, shape), -100)
    options = {"gamma": 1.5, "reduction": "sum"}
    loss, gradient = F.focal_loss_value_and_grad(x, target, device=gpu, **options)
    problems.assert_loss(loss, reference.focal_loss(x, target, **options), dtype, terms=x.size)
    spread, hit = reference.focal_loss_terms(1.0, x, target, **options)
    problems.assert_gradient(gradient, x, spread, hit, "", (np.abs(spread) + np.abs(hit)) * 2)


@SHAPES
@pytest.mark.parametrize("dtype", DTYPES)
def test_distillation_loss(gpu, rng, dtype, shape):
    x, teacher = problems.logits(rng, shape, dtype), problems.logits(rng, shape, dtype)
    loss, gradient = F.distillation_loss_value_and_grad(x, teacher, temperature=2.0, reduction="sum", device=gpu)
    problems.assert_loss(loss, reference.distillation_loss(x, teacher, temperature=2.0, reduction="sum"), dtype, terms=x.size)
    expected = reference.distillation_loss_backward(1.0, x, teacher, temperature=2.0, reduction="sum")
    problems.assert_within(
        gradient, expected, 64 * problems.eps(work(dtype)) + problems.eps(dtype) * np.abs(expected) + problems.floor(dtype)
    )


@SHAPES
@pytest.mark.parametrize("margin", [5.25, 20.125, 60.3])
def test_a_confident_row_keeps_its_digits(gpu, rng, shape, margin):
    x = problems.logits(rng, shape, np.float32, 0.3)
    x[:, -1] += np.float32(margin)
    target = np.full(x[:, 0].shape, shape[1] - 1)
    loss = F.cross_entropy(x, target, reduction="none", device=gpu)
    problems.assert_loss(loss, reference.cross_entropy(x, target, reduction="none"), x.dtype, terms=shape[1])


def test_more_elements_than_32_bits_can_count(gpu, rng):
    """The first and last rows of 2.3e9 elements have the results of a small batch. The arrays are made and kept on the device."""
    part, y = rng.normal(0, 3, (70, 32768)).astype(np.float16), rng.integers(0, 32768, 70)
    clock = Clock(gpu)
    loss, gradient = F.cross_entropy_value_and_grad(clock.repeated(part, 1000), clock.repeated(y, 1000), reduction="sum")
    alone, expected = F.cross_entropy_value_and_grad(part, y, reduction="sum", device=gpu)
    assert float(nbloss.to_host(loss)) == pytest.approx(1000 * alone, rel=1e-5)
    for rows in (slice(70), slice(-70, None)):
        ends = nbloss.to_host(gradient.seen(gradient.geometry[rows]))
        np.testing.assert_array_equal(ends.view(np.uint16), expected.view(np.uint16))
