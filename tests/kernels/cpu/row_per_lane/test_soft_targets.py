"""Probabilities, one position per lane: every pair of storage types and every layout, against the oracle."""

import numpy as np
import pytest
import reference
from layouts import LAYOUTS
from numpy.testing import assert_array_equal
from problems import FLOATS, assert_gradient, assert_loss, logits, one_hot, probabilities, weights, work

import nbloss.functional as F

PAIRS = [pytest.param(a, b, id=f"{np.dtype(a).name}-{np.dtype(b).name}") for a in FLOATS for b in FLOATS]


def results(x, y, **options):
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", **options)
    assert_array_equal(F.cross_entropy(x, y, reduction="none", **options), loss)
    return loss, grad


def assert_right(x, y, weight, smoothing):
    loss, grad = results(x, y, weight=weight, label_smoothing=smoothing)
    narrowed = y.astype(work(x.dtype))
    q, _, _ = reference.target_distribution(x, narrowed, weight, label_smoothing=smoothing)
    logp = reference.log_softmax(x, 1)
    assert_loss(loss, np.where(q == 0, 0, -q * logp).sum(1), x.dtype, terms=x.shape[1])
    assert_gradient(grad, x, q.sum(1, keepdims=True) * np.exp(logp), q)


@pytest.mark.parametrize(("dtype", "stored"), PAIRS)
def test_every_pair_of_dtypes(dtype, stored, rng):
    for classes in (2, 3, 4, 10, 21):
        x = logits(rng, (75, classes), dtype)
        assert_right(x, probabilities(rng, x.shape, stored), None, 0.0)
        assert_right(x, probabilities(rng, x.shape, stored), weights(rng, classes, work(dtype)), 0.2)


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_confident_rows_among_others(stored, rng):
    """The maximum of a confident row keeps its digits, in tiles with and without other rows."""
    x, y = logits(rng, (90, 10)), rng.integers(0, 10, 90)
    x[30:60:2, :] += 40 * one_hot(y[30:60:2], (15, 10), np.float32)
    assert_right(x, one_hot(y, x.shape, stored), None, 0.0)
    x[60:] = 3.0  # all classes tie
    assert_right(x, one_hot(y, x.shape, stored), None, 0.0)


@pytest.mark.parametrize("stored", [np.float16, np.float64])
@pytest.mark.parametrize("shape", [(40, 2), (40, 3), (40, 10), (2, 7, 40), (2, 3, 4, 5)])
def test_every_layout(shape, stored, rng):
    x, y = logits(rng, shape), probabilities(rng, shape, stored)
    expected = results(x, y)
    for name, lay in LAYOUTS.items():
        for a, b in ((lay(x), y), (x, lay(y)), (lay(x), lay(y))):
            for ours, theirs in zip(results(a, b), expected, strict=True):
                assert_array_equal(ours, theirs, err_msg=name)


def test_an_upstream_gradient_of_0_leaves_0(rng):
    x, y = logits(rng, (40, 5)), probabilities(rng, (40, 5))
    g = np.where(np.arange(40) % 3 == 0, 0, rng.random(40)).astype(np.float32)
    x[::6] = np.nan
    grad = F.cross_entropy_backward(g, x, y, reduction="none")
    assert (grad[::3] == 0).all()
    assert_array_equal(grad[1::3], F.cross_entropy_backward(g[1::3], x[1::3], y[1::3], reduction="none"))
