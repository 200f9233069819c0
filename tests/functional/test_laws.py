"""Laws that hold whatever the numbers: they need no oracle."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from problems import (
    DTYPES,
    WIDE_DTYPES,
    class_count,
    class_index,
    eps,
    log_probs,
    logits,
    name,
    one_hot,
    probabilities,
    weights,
    with_ignored,
    work,
)  # fmt: skip

import nbloss.functional as F

SHAPES = [(5, 7), (9, 17), (6, 65), (3, 1000), (3, 4, 5), (2, 33, 3, 5)]


def tol(dtype, size=1.0):
    """Two results of 4 ulp each, and what rounding inputs of this size took from them."""
    return eps(work(dtype)) * (8 + size)


@pytest.mark.parametrize("shift", [-1e4, -64.0, 0.0, 64.0, 1e4])
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_adding_a_constant_to_a_row_changes_nothing(shape, dtype, shift, rng, device):
    x, y = np.round(logits(rng, shape, dtype) * 64) / dtype(64), class_index(rng, shape)  # exact after the shift, too
    moved = x + dtype(shift)
    for reduction in ("none", "mean"):
        a, b = (F.cross_entropy_value_and_grad(v, y, reduction=reduction, device=device) for v in (x, moved))
        for before, after in zip(a, b, strict=True):
            if (
                device == "cpu" and class_count(shape) <= 48
            ):  # the exponentials are taken without the maximum: the same digits, not the same bits
                assert_allclose(after, before, rtol=tol(dtype, 0))
            else:
                assert_array_equal(after, before)
    assert_array_equal(F.log_softmax(x, 1, device=device), F.log_softmax(moved, 1, device=device))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(96, 10), (2, 21, 12, 16)], ids=name)
def test_what_other_rows_hold_changes_no_bit_of_a_row(shape, dtype, rng, device):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    usual = F.cross_entropy_value_and_grad(x, y, reduction="none", device=device)
    rare = rng.random(y.shape) < 0.2
    shift = rng.choice(np.array([-1e30, -100, -30, -7, 50, 62, 100, 1e30, np.nan, np.inf, -np.inf], dtype), y.shape)
    mixed = np.where(np.expand_dims(rare, 1), x + np.expand_dims(shift, 1), x)
    value, grad = F.cross_entropy_value_and_grad(mixed, y, reduction="none", device=device)
    assert_array_equal(value[~rare], usual[0][~rare])
    assert_array_equal(np.moveaxis(grad, 1, -1)[~rare], np.moveaxis(usual[1], 1, -1)[~rare])


@pytest.mark.parametrize("shift", [-110.0, -64.0, -6.0, -5.0, 40.0, 58.0, 62.0, 66.0])
@pytest.mark.parametrize("factor", [1e-25, 1.0, 1e25])
def test_logits_far_from_0_and_small_or_large_upstream_gradients_keep_their_digits(shift, factor, rng, device):
    x = np.round(rng.standard_normal((64, 10)) * 512).astype(np.float32) / np.float32(64) + np.float32(shift)
    y = rng.integers(0, 10, 64)
    wide = x.astype(np.float64)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    hit = np.arange(10) == y[:, None]
    others = np.where(hit, 0, e).sum(axis=1, keepdims=True)
    expected = factor * np.where(hit, -others, e) / e.sum(axis=1, keepdims=True)
    grad = F.cross_entropy_backward(factor, x, y, reduction="sum", device=device)
    normal = np.abs(expected) > 1e-37
    assert_allclose(grad[normal], expected[normal], rtol=8 * eps(np.float32))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_probabilities_sum_to_1(shape, dtype, rng, device):
    p = np.exp(F.log_softmax(logits(rng, shape, dtype), 1, device=device).astype(np.float64))
    assert_allclose(p.sum(axis=1), 1, rtol=16 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("soft", [False, True], ids=["index", "probability"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_gradient_rows_sum_to_0(weighted, soft, shape, dtype, rng, device):
    x = logits(rng, shape, dtype)
    y = probabilities(rng, shape, dtype) if soft else class_index(rng, shape)
    w = weights(rng, class_count(shape), dtype) if weighted else None
    grad = F.cross_entropy_backward(1.0, x, y, w, label_smoothing=0.1, reduction="sum", device=device).astype(np.float64)
    subnormal = class_count(shape) * 6e-8 if dtype == np.float16 else 1e-30
    assert (np.abs(grad.sum(axis=1)) <= 16 * eps(dtype) * np.abs(grad).sum(axis=1) + subnormal).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_the_class_weight_multiplies_the_row(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    plain = F.cross_entropy_value_and_grad(x, y, reduction="none", device=device)
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, reduction="none", device=device)
    assert_allclose(loss, plain[0] * w[y].astype(work(dtype)), rtol=tol(dtype))
    expected = plain[1].astype(np.float64) * np.expand_dims(w[y], 1).astype(np.float64)
    subnormal = 1e-6 if dtype == np.float16 else 0
    assert_allclose(grad.astype(np.float64), expected, rtol=tol(dtype) + 2 * eps(dtype), atol=subnormal)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("ignored", [-100, 1])
def test_the_mean_is_the_sum_over_the_weights_of_the_kept_rows(ignored, shape, dtype, rng, device):
    x, y, w = (
        logits(rng, shape, dtype),
        with_ignored(rng, class_index(rng, shape), ignored),
        weights(rng, class_count(shape), dtype),
    )
    options = {"ignore_index": ignored, "device": device}
    divisor = w[y[y != ignored]].sum()
    for forward, backward in ((F.cross_entropy, F.cross_entropy_backward), (F.nll_loss, F.nll_loss_backward)):
        mean, total = (forward(x, y, w, reduction=r, **options) for r in ("mean", "sum"))
        assert_allclose(mean, total / divisor, rtol=tol(dtype))
        mean, total = (backward(1.0, x, y, w, reduction=r, **options) for r in ("mean", "sum"))
        assert_allclose(mean, total / divisor, rtol=tol(dtype), atol=1e-37)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_the_sum_is_the_sum_of_the_rows(shape, dtype, rng, device):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    rows = F.cross_entropy(x, y, reduction="none", device=device)
    assert_allclose(F.cross_entropy(x, y, reduction="sum", device=device), rows.astype(np.float64).sum(), rtol=tol(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 3), (61, 7), (40, 17), (33, 65), (9, 1000), (13, 4, 5), (5, 33, 3, 5)], ids=name)
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_split_rows_have_the_bits_of_the_whole(parts, shape, dtype, rng, device):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    whole = F.cross_entropy_value_and_grad(x, y, reduction="none", device=device)
    pieces = [
        F.cross_entropy_value_and_grad(a, b, reduction="none", device=device)
        for a, b in zip(np.array_split(x, parts), np.array_split(y, parts), strict=True)
    ]
    assert_array_equal(np.concatenate([p[0] for p in pieces]), whole[0])
    assert_array_equal(np.concatenate([p[1] for p in pieces]), whole[1])
    logp = np.concatenate([F.log_softmax(a, 1, device=device) for a in np.array_split(x, parts)])
    assert_array_equal(logp, F.log_softmax(x, 1, device=device))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_renaming_the_classes_changes_nothing_but_their_order(shape, dtype, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    order = rng.permutation(class_count(shape))
    new_name = np.argsort(order)
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, reduction="none", device=device)
    renamed = F.cross_entropy_value_and_grad(x[:, order], new_name[y], w[order], reduction="none", device=device)
    assert_allclose(renamed[0], loss, rtol=tol(dtype))
    assert_allclose(renamed[1], grad[:, order], rtol=tol(dtype, 32))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_one_hot_is_the_class_index(shape, dtype, rng, device):
    x, y, logp = logits(rng, shape, dtype), class_index(rng, shape), log_probs(rng, shape, dtype)
    hot = one_hot(y, shape, dtype)
    for forward, v in ((F.cross_entropy, x), (F.nll_loss, logp)):
        assert_allclose(forward(v, hot, device=device), forward(v, y, device=device), rtol=tol(dtype))
    assert_array_equal(F.nll_loss_backward(1.0, x, hot, device=device), F.nll_loss_backward(1.0, x, y, device=device))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_nll_of_log_softmax_is_cross_entropy(shape, dtype, rng, device):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    logp = F.log_softmax(x, 1, device=device)
    assert_allclose(F.nll_loss(logp, y, device=device), F.cross_entropy(x, y, device=device), rtol=tol(dtype))
    chained = F.log_softmax_backward(F.nll_loss_backward(1.0, logp, y, device=device), logp, 1, device=device)
    assert_allclose(chained, F.cross_entropy_backward(1.0, x, y, device=device), rtol=0, atol=tol(dtype) / len(x))


def test_smoothing_is_a_mixture_of_the_target_and_of_everything(rng, device):
    x, y = logits(rng, (6, 9), np.float64), class_index(rng, (6, 9))
    mixed = one_hot(y, x.shape, np.float64) * 0.7 + 0.3 / 9
    smooth = F.cross_entropy(x, y, label_smoothing=0.3, device=device)
    assert_allclose(smooth, F.cross_entropy(x, mixed, device=device), rtol=16 * eps(np.float64))


# ---- gradients are derivatives --------------------------------------------------------------------------------------


def check_gradient(f, grad, x, rng, step=1e-5):
    """The central difference along random directions is the gradient's projection; error step²·f''' + eps·f/step."""
    for _ in range(4):
        v = rng.normal(size=x.shape)
        slope = (f(x + step * v) - f(x - step * v)) / (2 * step)
        assert_allclose((grad * v).sum(), slope, rtol=1e-6, atol=1e-8 * (1 + abs(f(x))))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("soft", [False, True], ids=["index", "probability"])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 17, 4)], ids=name)
def test_the_gradient_of_cross_entropy_is_its_derivative(shape, soft, weighted, smoothing, reduction, rng, device):
    x = logits(rng, shape, np.float64)
    y = probabilities(rng, shape, np.float64) if soft else with_ignored(rng, class_index(rng, shape), -100, 0.2)
    w = weights(rng, class_count(shape), np.float64) if weighted else None
    options = {"label_smoothing": smoothing, "reduction": reduction, "device": device}
    if not soft and (y == -100).all():
        y = class_index(rng, shape)
    check_gradient(lambda v: F.cross_entropy(v, y, w, **options), F.cross_entropy_backward(1.0, x, y, w, **options), x, rng)


@pytest.mark.parametrize("soft", [False, True], ids=["index", "probability"])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 17, 4)], ids=name)
def test_the_gradient_of_nll_is_its_derivative(shape, soft, rng, device):
    x, w = log_probs(rng, shape, np.float64), weights(rng, class_count(shape), np.float64)
    y = probabilities(rng, shape, np.float64) if soft else class_index(rng, shape)
    grad = F.nll_loss_backward(1.0, x, y, w, device=device)
    check_gradient(lambda v: F.nll_loss(v, y, w, device=device), grad, x, rng)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_the_gradient_of_log_softmax_is_its_derivative(dim, rng, device):
    x, g = logits(rng, (3, 4, 5), np.float64), logits(rng, (3, 4, 5), np.float64)
    grad = F.log_softmax_backward(g, F.log_softmax(x, dim, device=device), dim, device=device)
    check_gradient(lambda v: (g * F.log_softmax(v, dim, device=device)).sum(), grad, x, rng)


def test_the_gradient_of_row_losses_is_a_vector_jacobian_product(rng, device):
    x, y, g = logits(rng, (3, 4, 5), np.float64), class_index(rng, (3, 4, 5)), rng.normal(size=(3, 5))
    options = {"reduction": "none", "label_smoothing": 0.1, "device": device}
    grad = F.cross_entropy_backward(g, x, y, **options)
    check_gradient(lambda v: (g * F.cross_entropy(v, y, **options)).sum(), grad, x, rng)


def test_a_wrong_gradient_fails_the_checker(rng, device):
    x, y = logits(rng, (5, 7), np.float64), class_index(rng, (5, 7))
    grad = F.cross_entropy_backward(1.0, x, y, device=device)
    wrong = grad.copy()
    wrong[2, 3] += 1e-4
    for bad in (wrong, grad * 1.0001, -grad, reference.nll_loss_backward(1.0, x, y).astype(float)):
        with pytest.raises(AssertionError):
            check_gradient(lambda v: F.cross_entropy(v, y, device=device), bad, x, rng)
