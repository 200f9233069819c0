"""``lse_square_scale``, the z-loss: each row's loss grows by λ M L², where L is the log-sum-exp of its logits and M the sum of its target
distribution q. The gradient is M (1 + 2 λ L) p - q. Everything else is as without the option."""

import copy
import os
import pickle
from itertools import product

import numpy as np
import pytest
import reference
from bits import assert_same_bits, by_one_thread_and_two
from layouts import LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from problems import (
    DTYPES,
    INTEGERS,
    REDUCTIONS,
    WIDE_DTYPES,
    assert_gradient,
    assert_within,
    class_count,
    class_index,
    eps,
    floor,
    general_path,
    logits,
    name,
    probabilities,
    rows_shape,
    tiny,
    upstream_like,
    weights,
    with_ignored,
    work,
)  # fmt: skip
from refusals import P, X, Y, refused

import nbloss
import nbloss.functional as F

SCALES = [1e-4, 0.01, 1.0]
SHAPES = [(5, 3), (70, 10), (9, 48), (9, 49), (33, 1000), (3, 4099), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5)]
# In units in the last place, of the sizes of the terms that are added (`reference.lse_square_sizes`).
ULPS = 8

FORMS = {
    "cross_entropy": F.cross_entropy,
    "cross_entropy_backward": lambda *a, **k: F.cross_entropy_backward(1.0, *a, **k),
    "cross_entropy_value_and_grad": F.cross_entropy_value_and_grad,
    "CrossEntropyLoss": lambda x, y, weight=None, **k: nbloss.CrossEntropyLoss(weight, **k)(x, y),
}
every_form = pytest.mark.parametrize("call", FORMS.values(), ids=FORMS)
same_bits = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="NumPy's sums depend on the layout")


def some(combinations, shape):
    """All of them for a small shape; every fifth for a large one."""
    combinations = list(combinations)
    return combinations[:: 1 if np.prod(shape) < 1000 else 5]


def assert_loss(actual, expected, size, dtype, terms=1, note=""):
    """Within so many ulp of the sizes of the terms; float64 has no wider type to add many terms in."""
    assert actual.dtype == work(dtype), note
    ulps = ULPS if work(dtype) == np.float32 else 4 * ULPS + np.sqrt(terms) / 8
    assert_within(actual, expected, ulps * eps(work(dtype)) * size + tiny(work(dtype)), note)


def check(rng, x, target, weight=None, **options):
    """The loss, the gradient of the loss times an upstream gradient, and both at once."""
    note, terms = (x.shape, options, weight is not None), class_count(x.shape)
    expected = reference.cross_entropy(x, target, weight, **options)
    g = upstream_like(rng, expected)
    loss_size, size = reference.lse_square_sizes(g, x, target, weight, **options)
    assert_loss(F.cross_entropy(x, target, weight, **options), expected, loss_size, x.dtype, terms, note)
    parts = reference.cross_entropy_terms(g, x, target, weight, **options)
    assert_gradient(F.cross_entropy_backward(g, x, target, weight, **options), x, *parts, note, size)
    loss, grad = F.cross_entropy_value_and_grad(x, target, weight, **options)
    assert_loss(loss, expected, loss_size, x.dtype, terms, note)
    parts = reference.cross_entropy_terms(1.0, x, target, weight, **options)
    assert_gradient(grad, x, *parts, note, reference.lse_square_sizes(1.0, x, target, weight, **options)[1])


def results(x, y, weight=None, **options):
    """Losses alone, losses, gradients: those of rows, where no reduction is named."""
    options = {"reduction": "none"} | options
    alone = F.cross_entropy(x, y, weight, **options)
    loss, grad = F.cross_entropy_value_and_grad(x, y, weight, **options)
    return alone, loss, grad, F.cross_entropy_backward(1.0, x, y, weight, **options)


# ---- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_class_numbers_with_every_combination_of_options(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    every = product(SCALES, [False, True], [-100, 1], [0.0, 0.1], ["mean", "sum", "none"])
    for scale, weighted, ignored, smoothing, reduction in some(every, shape):
        target = with_ignored(rng, y, ignored) if ignored == 1 else y
        options = {"lse_square_scale": scale, "label_smoothing": smoothing, "ignore_index": ignored, "reduction": reduction}
        check(rng, x, target, w if weighted else None, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_probabilities_with_every_combination_of_options(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), probabilities(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    every = product(SCALES, [False, True], [0.0, 0.1, 1.0], ["mean", "sum", "none"])
    for scale, weighted, smoothing, reduction in some(every, shape):
        options = {"lse_square_scale": scale, "label_smoothing": smoothing, "reduction": reduction}
        check(rng, x, y, w if weighted else None, **options)


@pytest.mark.parametrize("shape", [(3,), (49,), (1, 3), (1, 1), (4, 1), (2, 1, 5), (2, 3, 4, 5, 2)], ids=name)
def test_one_row_one_class_and_many_dimensions(shape, rng):
    x = logits(rng, shape)
    for target in (class_index(rng, shape), probabilities(rng, shape)):
        for reduction in REDUCTIONS:
            check(rng, x, target, lse_square_scale=0.5, reduction=reduction)


@pytest.mark.parametrize("integer", INTEGERS, ids=name)
def test_every_integer_type_is_a_target(integer, rng):
    x, y = logits(rng, (70, 10)), class_index(rng, (70, 10))
    assert_same_bits(results(x, y.astype(integer), lse_square_scale=0.01), results(x, y, lse_square_scale=0.01))


def test_probabilities_need_not_sum_to_1(rng):
    """The sum of the target distribution multiplies the new term too; where it is 0, nothing is left."""
    x, y = logits(rng, (6, 33)), rng.uniform(0, 3, (6, 33)).astype(np.float32)
    y[2] = 0
    check(rng, x, y, lse_square_scale=0.3, reduction="none")
    loss, grad = F.cross_entropy_value_and_grad(x, y, lse_square_scale=0.3, reduction="none")
    assert loss[2] == 0 and (grad[2] == 0).all()


def test_an_example_by_hand():
    """Two logits of 0: L = log 2."""
    x, y, square = np.zeros((1, 2)), np.array([0]), np.log(2) ** 2
    loss, grad = F.cross_entropy_value_and_grad(x, y, lse_square_scale=0.5)
    assert_allclose(loss, np.log(2) + 0.5 * square, rtol=1e-15)
    assert_allclose(grad, [[(1 + np.log(2)) / 2 - 1, (1 + np.log(2)) / 2]], rtol=1e-15)
    loss = F.cross_entropy(x, y, np.array([3.0, 1.0]), lse_square_scale=0.5, reduction="sum")
    assert_allclose(loss, 3 * (np.log(2) + 0.5 * square), rtol=1e-15)


# ---- ignored, masked and spoilt rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 3), (70, 10), (9, 49), (9, 1000), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5)], ids=name)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_rows_are_exactly_0_whatever_they_hold(smoothing, shape, dtype, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    ignored = rng.random(y.shape) < 0.4
    y[ignored] = -100
    options = {"label_smoothing": smoothing, "lse_square_scale": 0.01}
    plain = results(x, y, **options)
    rows = np.moveaxis(x.copy(), 1, -1)
    rows[ignored] = rng.choice(np.array([np.nan, np.inf, -np.inf, 7], dtype), rows[ignored].shape)
    dirty = results(np.ascontiguousarray(np.moveaxis(rows, -1, 1)), y, **options)
    assert_same_bits(dirty, plain)
    for loss, grad in (dirty[:1] + dirty[2:3], dirty[1:2] + dirty[3:]):
        assert (loss[ignored] == 0).all()
        assert (np.moveaxis(grad, 1, -1)[ignored] == 0).all()


def test_a_mean_of_ignored_rows_alone_is_that_without_the_option(rng):
    x, y = logits(rng, (4, 3)), np.full(4, -100)
    assert_same_bits(results(x, y, reduction="mean", lse_square_scale=0.1), results(x, y, reduction="mean"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 3), (19, 10), (9, 49), (9, 1000), (2, 21, 70), (2, 60, 81)], ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_a_row_of_minus_infinity_or_with_infinity_is_nan_and_no_other(kind, shape, dtype, rng):
    x = logits(rng, shape, dtype)
    y = probabilities(rng, shape, dtype) if kind == "probabilities" else class_index(rng, shape)
    options = {"lse_square_scale": 0.01, "label_smoothing": 0.1 if kind == "smoothed" else 0.0}
    plain = results(x, y, **options)
    rows = np.moveaxis(x.copy(), 1, -1).reshape(-1, shape[1])
    rows[2], rows[5, -1], rows[7, 0] = -np.inf, np.inf, np.nan
    spoilt = np.isin(np.arange(len(rows)), [2, 5, 7]).reshape(rows_shape(shape))
    found = results(np.ascontiguousarray(np.moveaxis(rows.reshape(*spoilt.shape, shape[1]), -1, 1)), y, **options)
    for number, (ours, theirs) in enumerate(zip(found, plain, strict=True)):
        if number >= 2:
            ours, theirs = np.moveaxis(ours, 1, -1), np.moveaxis(theirs, 1, -1)
        assert np.isnan(ours[spoilt]).all()
        assert_array_equal(ours[~spoilt], theirs[~spoilt])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [3, 7, 49, 2000])
def test_a_masked_class_has_no_part_in_the_log_sum_exp(count, dtype, rng):
    x = logits(rng, (6, count), dtype)
    x[1, 2], x[2, 1] = -np.inf, -np.inf
    y = np.ones(6, int)
    loss, grad = F.cross_entropy_value_and_grad(x, y, lse_square_scale=0.01, reduction="none")
    assert loss[2] == np.inf and np.isfinite(np.delete(loss, 2)).all()
    assert grad[1, 2] == 0
    assert_allclose(grad[2, 1].astype(float), -1, rtol=4 * eps(work(dtype)))
    assert np.isfinite(grad).all()
    fewer, kept = np.delete(x[1:2], 2, axis=1), np.delete(np.arange(count), 2)
    expected = reference.cross_entropy(fewer, y[:1], lse_square_scale=0.01, reduction="none")
    assert_loss(loss[1:2], expected, reference.lse_square_sizes(1.0, fewer, y[:1], lse_square_scale=0.01, reduction="none")[0], dtype)
    parts = reference.cross_entropy_terms(1.0, fewer, y[:1], lse_square_scale=0.01, reduction="none")
    assert_gradient(
        grad[1:2, kept], fewer, *parts, "", reference.lse_square_sizes(1.0, fewer, y[:1], lse_square_scale=0.01, reduction="none")[1]
    )


# ---- digits --------------------------------------------------------------------------------------------------------------


def rows_and_channels(x, y, scale):
    """Losses and gradients of the same rows in two shapes: (N, C), and (1, C, N)."""
    options = {"lse_square_scale": scale, "reduction": "none"}
    yield F.cross_entropy_value_and_grad(x, y, **options)
    loss, grad = F.cross_entropy_value_and_grad(np.ascontiguousarray(x.T)[None], y[None], **options)
    yield loss[0], grad[0].T


def gaps(x, y):
    """How far logits are below the maximum; at the target, whose gradient is of the others, the second largest."""
    wide = x.astype(reference.WIDE)
    gap = wide.max(axis=1, keepdims=True) - wide
    gap[np.arange(len(y)), y] = np.sort(gap, axis=1)[:, 1]
    return gap


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("count", [2, 3, 7, 17, 49, 127, 1000])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("lead", ["above the others", "at 0"])
def test_a_confident_row_keeps_its_digits(lead, scale, count, dtype, rng):
    """The probability of the target is 1 - 1e-11. With the maximum at 0, L is as small as the loss: every digit is that of log1p."""
    pytest.importorskip("mpmath", reason="the digits are mpmath's")
    x, y = rng.normal(0, 1, (12, count)), rng.integers(0, count, 12)
    x[np.arange(12), y] += 25 + x.max(axis=1)
    x = (x - x.max(axis=1, keepdims=True) if lead == "at 0" else x).astype(dtype)
    _, losses, gradient = reference.exact_rows(x, y, scale)
    loss_size, _ = reference.lse_square_sizes(1.0, x, y, lse_square_scale=scale, reduction="none")
    # At the target: 2 λ L p and -(1 - p), each with its own digits; (1 + 2 λ L) p elsewhere.
    p = np.exp(reference.log_softmax(x, 1))
    hit = np.arange(count) == y[:, None]
    others = np.where(hit, 0, p).sum(axis=1, keepdims=True)
    lse = np.abs(reference.log_sum_exp(x.astype(reference.WIDE)))
    top = np.abs(x.max(axis=1, keepdims=True))
    spread = 2 * scale * np.maximum(lse, top)
    size = np.where(hit, spread * p + others, (1 + spread) * p)
    ulp = eps(dtype)
    for loss, grad in rows_and_channels(x, y, scale):
        assert_within(loss, losses, (ULPS if dtype == np.float32 else 2 * ULPS) * ulp * loss_size + tiny(dtype))
        assert_within(grad, gradient, (ULPS + gaps(x, y)) * ulp * size + floor(dtype))
        assert_array_equal(np.sign(grad[hit]), np.sign(gradient[hit]))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("count", [2, 3, 10, 49, 1000])
@pytest.mark.parametrize("scale", SCALES)
def test_a_row_whose_log_sum_exp_is_near_0(scale, count, dtype, rng):
    """The logits are log-probabilities, so that m and log s cancel: what is left of L is small, and so is its part of the loss."""
    x = reference.log_softmax(rng.normal(0, 2, (40, count)), 1).astype(dtype)
    y = rng.integers(0, count, 40)
    check(rng, x, y, lse_square_scale=scale, reduction="none")
    loss = F.cross_entropy(x, y, lse_square_scale=scale, reduction="none")
    assert_allclose(loss, F.cross_entropy(x, y, reduction="none"), rtol=ULPS * eps(dtype))


@pytest.mark.parametrize("offset", [1e4, -1e4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 3), (40, 10), (12, 49), (5, 1000), (2, 21, 70), (2, 60, 81)], ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_a_large_common_offset_keeps_the_relative_error(kind, shape, dtype, offset, rng):
    """L² is 1e8 where the loss without it is 2: both are right in their own digits."""
    x = (logits(rng, shape, np.float64) + offset).astype(dtype)
    y = probabilities(rng, shape, dtype) if kind == "probabilities" else class_index(rng, shape)
    for scale in SCALES:
        options = {"lse_square_scale": scale, "label_smoothing": 0.1 if kind == "smoothed" else 0.0, "reduction": "none"}
        check(rng, x, y, **options)
        exact = reference.cross_entropy(x, y, **options)
        ulps = ULPS if work(dtype) == np.float32 else 4 * ULPS
        assert_allclose(F.cross_entropy(x, y, **options).astype(reference.WIDE), exact, rtol=ulps * eps(work(dtype)))


# ---- laws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [0.0, 0, False, -0.0, np.float32(0), np.array(0.0)], ids=repr)
@pytest.mark.parametrize("shape", [(5, 3), (70, 10), (9, 49), (3, 4099), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_0_gives_the_bits_of_a_call_without_the_option(shape, zero, rng):
    for dtype in (np.float16, np.float32, np.float64):
        x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
        for y, smoothing in product([with_ignored(rng, class_index(rng, shape), -100), probabilities(rng, shape, dtype)], [0.0, 0.1]):
            for weight, reduction in product([None, w], ["mean", "none"]):
                options = {"label_smoothing": smoothing, "reduction": reduction}
                assert_same_bits(results(x, y, weight, **options, lse_square_scale=zero), results(x, y, weight, **options))


@pytest.mark.parametrize("number", [1, True, np.float32(1), np.float64(1), np.array(1.0), np.int8(1)], ids=repr)
def test_every_kind_of_number_is_taken(number):
    for target in (Y, P):
        assert_same_bits(results(X, target, lse_square_scale=number), results(X, target, lse_square_scale=1.0))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_a_gradient_row_sums_to_2_scale_l_m(kind, shape, dtype, rng):
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = probabilities(rng, shape, dtype) if kind == "probabilities" else class_index(rng, shape)
    smoothing = 0.1 if kind == "smoothed" else 0.0
    total = reference.target_distribution(x, y, w, label_smoothing=smoothing)[0].sum(axis=-1)
    lse = reference.log_sum_exp(reference.classes_last(x))[..., 0]
    for scale in SCALES:
        options = {"lse_square_scale": scale, "label_smoothing": smoothing, "reduction": "sum"}
        grad = F.cross_entropy_backward(1.0, x, y, w, **options).astype(reference.WIDE)
        size = reference.lse_square_sizes(1.0, x, y, w, **options)[1].sum(axis=1)
        assert_within(grad.sum(axis=1), 2 * scale * lse * total, 16 * eps(dtype) * size)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 17, 4), (4, 49)], ids=name)
def test_the_gradient_is_the_derivative_by_central_differences(shape, kind, weighted, scale, rng):
    x, w = logits(rng, shape, np.float64), weights(rng, class_count(shape), np.float64) if weighted else None
    y = probabilities(rng, shape, np.float64) if kind == "probabilities" else class_index(rng, shape)
    options = {"label_smoothing": 0.2 if kind == "smoothed" else 0.0, "lse_square_scale": scale}
    for reduction in ("mean", "sum"):
        grad = F.cross_entropy_backward(1.0, x, y, w, reduction=reduction, **options)
        step, value = 1e-5, abs(F.cross_entropy(x, y, w, reduction=reduction, **options))
        for _ in range(4):
            v = rng.normal(size=shape)
            ahead, behind = (F.cross_entropy(x + d * v, y, w, reduction=reduction, **options) for d in (step, -step))
            assert_allclose((grad * v).sum(), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8 * (1 + value))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12)], ids=name)
def test_the_mean_is_the_sum_of_the_rows_over_their_weights(shape, kind, dtype, rng):
    """Over the target classes' weights of the rows that count; of probabilities, over the number of rows."""
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = probabilities(rng, shape, dtype) if kind == "probabilities" else with_ignored(rng, class_index(rng, shape), -100)
    options = {"label_smoothing": 0.1 if kind == "smoothed" else 0.0, "lse_square_scale": 0.05}
    rows = F.cross_entropy(x, y, w, reduction="none", **options).astype(np.float64)
    divisor = rows.size if kind == "probabilities" else w[y[y >= 0]].astype(np.float64).sum()
    assert_allclose(F.cross_entropy(x, y, w, reduction="sum", **options), rows.sum(), rtol=ULPS * eps(work(dtype)))
    assert_allclose(F.cross_entropy(x, y, w, **options), rows.sum() / divisor, rtol=ULPS * eps(work(dtype)))
    each = F.cross_entropy_backward(1 / divisor, x, y, w, reduction="sum", **options)
    mean = F.cross_entropy_backward(1.0, x, y, w, **options)
    assert_allclose(mean.astype(float), each.astype(float), rtol=ULPS * eps(work(dtype)) + 2 * eps(dtype), atol=4 * floor(dtype))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12)], ids=name)
def test_a_class_weight_multiplies_the_whole_row(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    options = {"lse_square_scale": 0.2, "reduction": "none"}
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, **options)
    plain = F.cross_entropy_value_and_grad(x, y, **options)
    assert_allclose(loss, plain[0] * w[y], rtol=ULPS * eps(dtype))
    size = reference.lse_square_sizes(1.0, x, y, w, **options)[1]
    assert_within(grad, plain[1].astype(reference.WIDE) * np.expand_dims(w[y], 1), 2 * ULPS * eps(dtype) * size + floor(dtype))


# ---- the same bits, however a call is made --------------------------------------------------------------------------------


@same_bits
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (33, 300), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_every_layout_has_the_same_bits(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape), dtype)
    soft = probabilities(rng, shape, dtype)
    for target, smoothing in ((y, 0.0), (y, 0.1), (soft, 0.0)):
        options = {"label_smoothing": smoothing, "lse_square_scale": 0.01}
        expected = results(x, target, w, **options)
        for layout, lay in LAYOUTS.items():
            assert_same_bits(results(lay(x), lay(target), lay(w), **options), expected, (layout, smoothing))


@same_bits
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(301, 10), (101, 48), (101, 49), (31, 300)], ids=name)
def test_rows_and_channels_first_have_the_same_bits(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape), dtype)
    for smoothing in (0.0, 0.1):
        options = {"label_smoothing": smoothing, "lse_square_scale": 0.01}
        rows = results(x, y, w, **options)
        channels = results(np.ascontiguousarray(x.T)[None], y[None], w, **options)
        assert_same_bits([a[0].T if a.ndim == 3 else a[0] for a in channels], rows, smoothing)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_out_is_filled_also_in_place(kind, shape, dtype, rng):
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = probabilities(rng, shape, dtype) if kind == "probabilities" else with_ignored(rng, class_index(rng, shape), -100)
    options = {"label_smoothing": 0.1 if kind == "smoothed" else 0.0, "lse_square_scale": 0.01}
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, **options)
    for out in (np.full_like(x, 9), x.copy()):
        again, result = F.cross_entropy_value_and_grad(x, y, w, **options, out=out)
        assert result is out and again == loss
        assert_array_equal(out, grad)
    for function in (F.cross_entropy_value_and_grad, lambda *a, **k: F.cross_entropy_backward(1.0, *a, **k)):
        over = x.copy()
        result = function(over, y, w, **options, out=over)
        assert (result[1] if isinstance(result, tuple) else result) is over
        assert_array_equal(over, grad)


@pytest.mark.parametrize("shape", [(3000, 10), (700, 200), (64, 4099), (9, 21, 40, 40), (4, 60, 70, 9)], ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_one_thread_and_two_give_the_same_bits(kind, shape, rng):
    x = logits(rng, shape)
    y = probabilities(rng, shape) if kind == "probabilities" else with_ignored(rng, class_index(rng, shape), -100)
    options = {"label_smoothing": 0.1 if kind == "smoothed" else 0.0, "lse_square_scale": 0.01}
    assert_same_bits(*by_one_thread_and_two(lambda: (*results(x, y, **options), *results(x, y, reduction="mean", **options))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 10), (5, 65), (3, 21, 70)], ids=name)
def test_both_paths_have_the_same_bits(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "lse_square_scale": 0.3}
        fast = results(x, y, **options)
        with general_path():
            assert_same_bits(fast, results(x, y, **options))


def test_the_loss_alone_has_the_bits_of_the_loss_with_its_gradient(rng):
    for shape in SHAPES:
        x, y = logits(rng, shape), with_ignored(rng, class_index(rng, shape), -100)
        for target, reduction in product([y, probabilities(rng, shape)], REDUCTIONS):
            alone, loss, grad, forced = results(x, target, reduction=reduction, lse_square_scale=0.01)
            assert_array_equal(alone, loss)
            assert_array_equal(grad, forced)


# ---- errors --------------------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("target", [Y, P], ids=["class numbers", "probabilities"])
@pytest.mark.parametrize("bad", [-1e-4, -1, np.nan, np.inf, -np.inf, np.float32(-0.5)], ids=str)
def test_a_negative_or_infinite_scale_is_a_value_error(bad, target, call):
    with refused(ValueError, "lse_square_scale", str(float(bad))):
        call(X, target, lse_square_scale=bad)


@every_form
@pytest.mark.parametrize("target", [Y, P], ids=["class numbers", "probabilities"])
@pytest.mark.parametrize("bad", ["x", "0.1", b"1", None, 1j, [0.1], np.ones(1)], ids=repr)
def test_a_scale_that_is_no_number_is_a_type_error(bad, target, call):
    with refused(TypeError, "lse_square_scale", repr(bad)):
        call(X, target, lse_square_scale=bad)


def test_a_refused_scale_leaves_out_as_it_was():
    out = np.full_like(X, 9)
    for bad, error in ((-1.0, ValueError), ("x", TypeError)):
        with refused(error, "lse_square_scale"):
            F.cross_entropy_value_and_grad(X, Y, lse_square_scale=bad, out=out)
        with refused(error, "lse_square_scale"):
            F.cross_entropy_backward(1.0, X, Y, lse_square_scale=bad, out=out)
    assert (out == 9).all()


def test_a_bad_target_is_reported_as_without_the_option():
    wrong, messages = np.array([0, 7]), []
    for options in ({}, {"lse_square_scale": 0.1}):
        with pytest.raises(IndexError) as info:
            F.cross_entropy(X, wrong, **options)
        messages.append(str(info.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("call", [F.nll_loss, lambda *a, **k: F.nll_loss_backward(1.0, *a, **k), nbloss.NLLLoss])
def test_nll_has_no_such_option(call):
    """Log-probabilities have a log-sum-exp of 0."""
    with pytest.raises(TypeError, match="lse_square_scale"):
        call(X, Y, lse_square_scale=0.1)


# ---- the module ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_module_equals_the_functions(reduction, dtype, rng):
    x, y, w = logits(rng, (70, 10), dtype), with_ignored(rng, class_index(rng, (70, 10)), 3), weights(rng, 10, dtype)
    for target, rest in ((y, {"ignore_index": 3}), (y, {"ignore_index": 3, "label_smoothing": 0.1}), (probabilities(rng, (70, 10)), {})):
        options = {"lse_square_scale": 0.01, "reduction": reduction} | rest
        module = nbloss.CrossEntropyLoss(w, **options)
        assert_array_equal(module(x, target), F.cross_entropy(x, target, w, **options))
        assert_array_equal(module.backward(), F.cross_entropy_backward(1.0, x, target, w, **options))


def test_the_module_keeps_and_shows_the_option(rng):
    module = nbloss.CrossEntropyLoss(lse_square_scale=0.01)
    assert module.lse_square_scale == 0.01 and nbloss.CrossEntropyLoss().lse_square_scale == 0
    assert "lse_square_scale=0.01" in repr(module)
    assert "lse_square_scale" not in repr(nbloss.CrossEntropyLoss())
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    for other in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(other) == repr(module)
        assert_array_equal(other(x, y), F.cross_entropy(x, y, lse_square_scale=0.01))


# ---- PyTorch -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (6, 65), (3, 4, 5), (2, 3, 4, 5)], ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_values_and_gradients_are_those_of_pytorch_s_autograd(kind, shape, dtype, rng):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = probabilities(rng, shape, dtype) if kind == "probabilities" else class_index(rng, shape)
    if kind != "probabilities" and y.size > 1:
        y.flat[0] = -100
    axis, smoothing = (0 if len(shape) == 1 else 1), 0.1 if kind == "smoothed" else 0.0
    for scale, weight, reduction in product(SCALES, [None, w], ["mean", "sum", "none"]):
        q, keep, divisor = reference.target_distribution(x, y, weight, label_smoothing=smoothing)
        total = torch.tensor(np.where(keep, q.sum(axis=-1), 0).astype(dtype))
        leaf = torch.tensor(x, requires_grad=True)
        options = {"weight": None if weight is None else torch.tensor(weight), "label_smoothing": smoothing, "reduction": "none"}
        value = torch.nn.functional.cross_entropy(leaf, torch.tensor(y), **options) + scale * total * torch.logsumexp(leaf, axis) ** 2
        if reduction != "none":
            value = value.sum() / (float(divisor) if reduction == "mean" else 1)
        g = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
        value.backward(g)
        ours = {"label_smoothing": smoothing, "reduction": reduction, "lse_square_scale": scale}
        note = f"{scale} {weight is not None} {reduction}"
        size = float(np.max(reference.lse_square_sizes(1.0, x, y, weight, **ours)[0]))
        tolerance = {"rtol": 32 * eps(dtype), "err_msg": note}
        assert_allclose(F.cross_entropy(x, y, weight, **ours), value.detach().numpy(), atol=32 * eps(dtype) * size, **tolerance)
        size = float(np.max(reference.lse_square_sizes(g.numpy(), x, y, weight, **ours)[1]))
        grad = F.cross_entropy_backward(g.numpy(), x, y, weight, **ours)
        assert_allclose(grad, leaf.grad.numpy(), atol=32 * eps(dtype) * max(size, 1), **tolerance)
