"""Losses and gradients of probability and one-hot targets against the oracle."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import (
    DTYPES,
    MANY_CLASSES,
    REDUCTIONS,
    SHAPES,
    assert_gradient,
    assert_loss,
    assert_within,
    class_count,
    class_index,
    eps,
    floor,
    log_probs,
    logits,
    name,
    one_hot,
    probabilities,
    probability_options,
    upstream_like,
    weights,
)  # fmt: skip

import nbloss.functional as F


def check_cross_entropy(rng, x, target, weight, options, device):
    note = (x.shape, options, weight is not None)
    expected = reference.cross_entropy(x, target, weight, **options)
    loss = F.cross_entropy(x, target, weight, **options, device=device)
    assert_loss(loss, expected, x.dtype, note=note, terms=class_count(x.shape))
    g = upstream_like(rng, expected)
    terms = reference.cross_entropy_terms(g, x, target, weight, **options)
    assert_gradient(F.cross_entropy_backward(g, x, target, weight, **options, device=device), x, *terms, note)
    loss, grad = F.cross_entropy_value_and_grad(x, target, weight, **options, device=device)
    assert_loss(loss, expected, x.dtype, note=note, terms=class_count(x.shape))
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, target, weight, **options), note)


def check_nll(rng, x, target, weight, reduction, device):
    note = (x.shape, reduction, weight is not None)
    expected = reference.nll_loss(x, target, weight, reduction=reduction)
    loss = F.nll_loss(x, target, weight, reduction=reduction, device=device)
    assert_loss(loss, expected, x.dtype, note=note, terms=class_count(x.shape))
    g = upstream_like(rng, expected)
    expected = reference.nll_loss_backward(g, x, target, weight, reduction=reduction)
    grad = F.nll_loss_backward(g, x, target, weight, reduction=reduction, device=device)
    assert grad.dtype == x.dtype
    assert_within(grad, expected, 4 * max(eps(x.dtype), eps(np.float32)) * np.abs(expected) + floor(x.dtype), note)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_cross_entropy_with_every_combination_of_options(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), probabilities(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    for weighted, options in probability_options():
        check_cross_entropy(rng, x, y, w if weighted else None, options, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_nll_with_every_combination_of_options(shape, dtype, rng, device):
    x, y, w = log_probs(rng, shape, dtype), probabilities(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    for weight in (None, w):
        for reduction in REDUCTIONS:
            check_nll(rng, x, y, weight, reduction, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*((3, c) for c in MANY_CLASSES), (2, 1000, 3), (129, 65)], ids=name)
def test_many_classes(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), probabilities(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    logp = log_probs(rng, shape, dtype)
    for weighted, options in list(probability_options())[::5]:
        check_cross_entropy(rng, x, y, w if weighted else None, options, device)
        check_nll(rng, logp, y, w if weighted else None, options["reduction"], device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (4, 65), (3, 4, 5), (2, 3, 4, 5)], ids=name)
def test_one_hot_is_the_class_index_without_a_weight(shape, dtype, rng, device):
    """With weights the two means divide by different things, as in torch."""
    y = class_index(rng, shape)
    hot = one_hot(y, shape, dtype)
    x, logp = logits(rng, shape, dtype), log_probs(rng, shape, dtype)
    for reduction in REDUCTIONS:
        loss = F.cross_entropy(x, hot, reduction=reduction, device=device)
        assert_loss(loss, reference.cross_entropy(x, y, reduction=reduction), dtype)
        loss = F.nll_loss(logp, hot, reduction=reduction, device=device)
        assert_loss(loss, reference.nll_loss(logp, y, reduction=reduction), dtype)
        terms = reference.cross_entropy_terms(1.0, x, y, reduction=reduction)
        assert_gradient(F.cross_entropy_backward(1.0, x, hot, reduction=reduction, device=device), x, *terms)


@pytest.mark.parametrize("target_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_target_and_input_may_differ_in_float_dtype(dtype, target_dtype, rng, device):
    x, y = logits(rng, (6, 33), dtype), probabilities(rng, (6, 33), target_dtype)
    narrow = y.astype(reference.WIDE)
    if target_dtype == np.float64 and dtype != np.float64:
        narrow = y.astype(np.float32)  # the arithmetic is float32, whatever the target's digits
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", device=device)
    assert_loss(loss, reference.cross_entropy(x, narrow, reduction="none"), dtype, ulps=5)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, narrow, reduction="none"))


def test_probabilities_need_not_sum_to_one(rng, device):
    x = logits(rng, (6, 33))
    y = rng.uniform(0, 3, (6, 33)).astype(np.float32)
    check_cross_entropy(rng, x, y, None, {"reduction": "none"}, device)
    check_cross_entropy(rng, x, np.zeros_like(y), None, {"reduction": "mean"}, device)


def test_the_mean_divides_by_the_rows_whatever_the_weight(rng, device):
    x, y, w = logits(rng, (4, 7, 3)), probabilities(rng, (4, 7, 3)), weights(rng, 7)
    total = F.cross_entropy(x, y, w, reduction="sum", device=device)
    np.testing.assert_allclose(F.cross_entropy(x, y, w, device=device), total / 12, rtol=4 * eps(np.float32))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_targets_of_any_layout_are_read_in_place(reduction, rng, device):
    x, y = logits(rng, (6, 33)), probabilities(rng, (6, 33))
    plain = F.cross_entropy_backward(1.0, x, y, reduction=reduction, device=device)
    read_only = y.copy()
    read_only.flags.writeable = False
    swapped = y.astype(y.dtype.newbyteorder())
    reversed_ = y[::-1, ::-1].copy()[::-1, ::-1]
    sliced = np.repeat(y, 2, axis=1)[:, ::2]
    for view in (np.asfortranarray(y), reversed_, sliced, swapped, read_only, y.tolist()):
        assert_array_equal(F.cross_entropy_backward(1.0, x, view, reduction=reduction, device=device), plain)


def test_out_may_be_the_input_itself(rng, device):
    x, y = logits(rng, (6, 33)), probabilities(rng, (6, 33))
    plain = F.cross_entropy_backward(1.0, x, y, device=device)
    own = x.copy()
    assert F.cross_entropy_backward(1.0, own, y, out=own, device=device) is own
    assert_array_equal(own, plain)
