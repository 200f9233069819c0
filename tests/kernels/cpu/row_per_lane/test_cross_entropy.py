"""Sums with and without the maximum: every offset, size and smoothing, and a row's bits whatever stands beside it."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import WIDE_DTYPES, assert_gradient, assert_loss, class_index, logits, weights

import nbloss.functional as F

ROWS = 200

CASES = {
    "ordinary": lambda x, y: x,
    "far below": lambda x, y: x - 100,
    "a little below": lambda x, y: x - 20,
    "far above": lambda x, y: x + 100,
    "very far": lambda x, y: x + np.where(np.arange(ROWS) % 2, 1e4, -1e4)[:, None],
    "large": lambda x, y: x * 30,
    "confident": lambda x, y: x + 25 * (np.arange(x.shape[1]) == y[:, None]),
    "certain": lambda x, y: x + 90 * (np.arange(x.shape[1]) == y[:, None]),
    "hopeless": lambda x, y: x - 90 * (np.arange(x.shape[1]) == y[:, None]),
    "masked": lambda x, y: np.where((np.arange(x.shape[1]) - y[:, None]) % 3 == 1, -np.inf, x),
    "a first class of -1e9": lambda x, y: np.where(np.arange(x.shape[1]) > 0, x, -1e9),
    "tied": lambda x, y: np.round(x) * 70,
}


def inputs(rng, classes, dtype, case):
    y = class_index(rng, (ROWS, classes))
    return CASES[case](logits(rng, (ROWS, classes), np.float64), y).astype(dtype), y


def results(x, y, **options):
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", **options)
    assert_array_equal(F.cross_entropy(x, y, reduction="none", **options), loss)
    return loss, grad


def as_channels(x, y):
    return np.ascontiguousarray(np.moveaxis(x.reshape(2, ROWS // 2, -1), 2, 1)), y.reshape(2, ROWS // 2)


def assert_right(x, y, weight, smoothing):
    """Losses and gradients of rows, and the same bits of the same rows as channels."""
    loss, grad = results(x, y, weight=weight, label_smoothing=smoothing)
    q, _, _ = reference.target_distribution(x, y, weight, label_smoothing=smoothing)
    logp = reference.log_softmax(x, 1)
    with np.errstate(invalid="ignore"):
        expected = np.where(q == 0, 0, -q * logp).sum(1)
    assert_loss(loss, expected, x.dtype, terms=x.shape[1])
    spread = q.sum(1, keepdims=True) * np.exp(logp)
    assert_gradient(grad, x, spread, q)
    channels, classes = as_channels(x, y)
    again = results(channels, classes, weight=weight, label_smoothing=smoothing)
    assert_array_equal(again[0].reshape(-1), loss)
    assert_array_equal(np.moveaxis(again[1], 1, 2).reshape(x.shape), grad)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_every_size_of_logits(case, dtype, rng):
    for classes in (2, 3, 10, 33):
        assert_right(*inputs(rng, classes, dtype, case), None, 0.0)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_every_smoothing_of_every_size_of_logits(case, dtype, rng):
    for classes, smoothing in [(2, 0.1), (3, 0.5), (10, 0.1), (10, 1e-6), (10, 0.9), (10, 1.0), (33, 0.1)]:
        x, y = inputs(rng, classes, dtype, case)
        w = weights(rng, classes, dtype)
        w[classes // 2] = 0
        for weight in (None, w, np.zeros(classes, dtype)):
            assert_right(x, y, weight, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_without_weight_may_be_impossible(smoothing, rng):
    """0 times -inf is 0: smoothing spreads nothing over a class of weight 0."""
    x, y = logits(rng, (ROWS, 7)), class_index(rng, (ROWS, 6))
    x[:, 6] = -np.inf
    loss, grad = results(x, y, weight=[1, 2, 1, 1, 3, 1, 0], label_smoothing=smoothing)
    assert np.isfinite(loss).all()
    assert (grad[:, 6] == 0).all()
    loss, _ = results(x, y, weight=[1, 2, 1, 1, 3, 1, 1], label_smoothing=smoothing)
    assert np.isinf(loss).all() == (smoothing > 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [3, 10])
def test_rows_do_not_depend_on_the_size_of_their_neighbours(classes, smoothing, rng):
    """Whether the maximum is looked up first depends on the tile before; a row's bits do not."""
    alone, cases = {}, list(CASES)
    weight = weights(rng, classes)
    options = {"weight": weight, "label_smoothing": smoothing}
    for case in cases:
        x, y = inputs(rng, classes, np.float32, case)
        loss, grad = zip(*(results(x[k : k + 1], y[k : k + 1], **options) for k in range(0, ROWS, 8)), strict=True)
        alone[case] = x[::8], y[::8], np.concatenate(loss), np.concatenate(grad)
    for order in (rng.permutation(len(cases) * 25), np.arange(len(cases) * 25)):
        x, y, loss, grad = (np.concatenate([alone[case][k] for case in cases])[order] for k in range(4))
        for shape in (len(x), 1), (3, -1):
            if shape[0] == 3:
                xs, ys = np.ascontiguousarray(np.moveaxis(x.reshape(3, -1, classes), 2, 1)), y.reshape(3, -1)
            else:
                xs, ys = x, y
            ours = results(xs, ys, **options)
            assert_array_equal(ours[0].reshape(-1), loss)
            assert_array_equal(np.moveaxis(ours[1], 1, -1).reshape(x.shape), grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_rows_are_0_whatever_they_hold(smoothing, rng):
    x, y = inputs(rng, 10, np.float32, "ordinary")
    loss, grad = results(x, y, label_smoothing=smoothing)
    ignored = rng.random(ROWS) < 0.5
    dirty = np.where(ignored[:, None], rng.choice(np.float32([np.nan, np.inf, -1e30, 1e30]), x.shape), x)
    for target in (-100, 2**40):
        ours = results(dirty, np.where(ignored, target, y), ignore_index=target, label_smoothing=smoothing)
        assert_array_equal(ours[0], np.where(ignored, 0, loss))
        assert_array_equal(ours[1], np.where(ignored[:, None], 0, grad))
