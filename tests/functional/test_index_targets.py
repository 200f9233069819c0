"""Losses and gradients of class numbers against the oracle, in every combination of the options."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import (
    DTYPES,
    INTEGERS,
    MANY_CLASSES,
    SHAPES,
    assert_gradient,
    assert_loss,
    assert_within,
    class_count,
    class_index,
    eps,
    floor,
    index_options,
    log_probs,
    logits,
    name,
    rows_shape,
    upstream_like,
    weights,
    with_ignored,
)  # fmt: skip

import nbloss.functional as F


def check_cross_entropy(rng, x, target, weight, options, device):
    """Forward, backward with an upstream gradient, and both at once."""
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


def check_nll(rng, x, target, weight, options, device):
    options = {k: v for k, v in options.items() if k != "label_smoothing"}
    note = (x.shape, options, weight is not None)
    expected = reference.nll_loss(x, target, weight, **options)
    assert_loss(F.nll_loss(x, target, weight, **options, device=device), expected, x.dtype, note=note)
    g = upstream_like(rng, expected)
    grad = F.nll_loss_backward(g, x, target, weight, **options, device=device)
    assert grad.dtype == x.dtype
    expected = reference.nll_loss_backward(g, x, target, weight, **options)
    assert_within(grad, expected, 4 * max(eps(x.dtype), eps(np.float32)) * np.abs(expected) + floor(x.dtype), note)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_cross_entropy_with_every_combination_of_options(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    for weighted, options in index_options(class_count(shape)):
        target = with_ignored(rng, y, options["ignore_index"])
        check_cross_entropy(rng, x, target, w if weighted else None, options, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_nll_with_every_combination_of_options(shape, dtype, rng, device):
    x, y, w = log_probs(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    for weighted, options in index_options(class_count(shape)):
        if options["label_smoothing"] == 0:
            check_nll(rng, x, with_ignored(rng, y, options["ignore_index"]), w if weighted else None, options, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*((3, c) for c in MANY_CLASSES), (2, 1000, 3), (1, 5000, 1, 2)], ids=name)
def test_many_classes(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    logp = log_probs(rng, shape, dtype)
    for weighted, options in list(index_options(class_count(shape)))[::5]:
        target = with_ignored(rng, y, options["ignore_index"])
        check_cross_entropy(rng, x, target, w if weighted else None, options, device)
        check_nll(rng, logp, target, w if weighted else None, options, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1000, 2), (333, 10), (129, 65), (3, 5, 40, 7)], ids=name)
def test_many_rows(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    logp = log_probs(rng, shape, dtype)
    for weighted, options in list(index_options(class_count(shape)))[::7]:
        target = with_ignored(rng, y, options["ignore_index"])
        check_cross_entropy(rng, x, target, w if weighted else None, options, device)
        check_nll(rng, logp, target, w if weighted else None, options, device)


@pytest.mark.parametrize("integer", INTEGERS, ids=name)
@pytest.mark.parametrize("shape", [(7,), (6, 7), (3, 100), (2, 5, 4)], ids=name)
def test_every_integer_dtype_is_a_target(shape, integer, rng, device):
    x, y = logits(rng, shape), class_index(rng, shape)
    for function in (F.cross_entropy, F.nll_loss):
        assert_array_equal(function(x, y.astype(integer), device=device), function(x, y, device=device))
    for function in (F.cross_entropy_backward, F.nll_loss_backward):
        assert_array_equal(function(1.0, x, y.astype(integer), device=device), function(1.0, x, y, device=device))


@pytest.mark.parametrize("shape", [(2,), (6, 2), (3, 100), (2, 5, 4)], ids=name)
def test_bool_targets_are_classes_0_and_1(shape, rng, device):
    x, y = logits(rng, shape), np.asarray(rng.random(rows_shape(shape)) < 0.5)
    for ignore_index in (-100, 0, 1):
        options = {"ignore_index": ignore_index, "reduction": "sum", "device": device}
        assert_array_equal(F.cross_entropy(x, y, **options), F.cross_entropy(x, y.astype(int), **options))
        assert_array_equal(F.nll_loss(x, y, **options), F.nll_loss(x, y.astype(int), **options))
        assert_array_equal(F.cross_entropy_backward(1.0, x, y, **options), F.cross_entropy_backward(1.0, x, y.astype(int), **options))


@pytest.mark.parametrize(("integer", "value"), [(np.uint8, 156), (np.uint16, 65436), (np.int8, 100)], ids=name)
def test_an_unsigned_target_never_wraps_into_the_ignored_value(integer, value, rng, device):
    """156 has the bits of int8(-100): it is a class, not the default ignore_index."""
    x = logits(rng, (1, value + 1))
    loss = F.cross_entropy(x, np.array([value], integer), reduction="none", device=device)
    assert_loss(loss, reference.cross_entropy(x, np.array([value]), reduction="none"), x.dtype)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (5, 65), (2, 3, 4, 5)], ids=name)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", None])
def test_a_scalar_grad_output_stands_for_an_array_of_it(shape, reduction, rng, device):
    x, y = logits(rng, shape), class_index(rng, shape)
    for function in (F.cross_entropy_backward, F.nll_loss_backward):
        options = {"reduction": reduction, "device": device}
        full = np.full(rows_shape(shape) if reduction in (None, "none") else (), 0.75)
        for g in (0.75, np.float32(0.75), np.array(0.75)):
            assert_array_equal(function(g, x, y, **options), function(full, x, y, **options))


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_any_float_dtype_are_accepted(dtype, rng, device):
    x, y, w = logits(rng, (6, 7)), class_index(rng, (6, 7)), weights(rng, 7)
    for function in (F.cross_entropy, F.nll_loss):
        assert_array_equal(function(x, y, w.astype(dtype), device=device), function(x, y, w, device=device))
        assert_array_equal(function(x, y, [float(v) for v in w], device=device), function(x, y, w, device=device))


def test_no_argument_is_written_to(rng, device):
    x, y, w, g = logits(rng, (6, 7)), class_index(rng, (6, 7)), weights(rng, 7), np.ones(6)
    arrays = (x, y, w, g)
    before = [a.copy() for a in arrays]
    F.cross_entropy(x, y, w, device=device)
    F.cross_entropy_backward(g, x, y, w, reduction="none", device=device)
    F.cross_entropy_value_and_grad(x, y, w, device=device)
    F.nll_loss(x, y, w, device=device)
    F.nll_loss_backward(g, x, y, w, reduction="none", device=device)
    for a, b in zip(arrays, before, strict=True):
        assert_array_equal(a, b)


def test_a_sum_of_half_losses_does_not_overflow(device):
    """20000 losses of about 9: their sum is far above float16's 65504."""
    x = np.zeros((20000, 3), np.float16)
    x[:, 1] = 9
    loss = F.cross_entropy(x, np.zeros(20000, int), reduction="sum", device=device)
    assert_loss(loss, reference.cross_entropy(x, np.zeros(20000, int), reduction="sum"), np.float16)
