"""``sample_weight`` multiplies each row's loss, its gradient and its part of the divisor of a mean; ``divisor`` replaces that divisor, and
``empty`` says what a mean over nothing is. Everything else is as without them."""

import os
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import reference
from bits import assert_same_bits, by_one_thread_and_two
from layouts import LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from problems import (
    DTYPES,
    REDUCTIONS,
    WIDE_DTYPES,
    assert_gradient,
    assert_within,
    class_count,
    class_index,
    eps,
    floor,
    general_path,
    log_probs,
    logits,
    name,
    probabilities,
    rows_shape,
    tiny,
    upstream_like,
    weights,
    with_ignored,
    work,
)
from refusals import LOSSES, P, X, Y, every_loss, every_writer, refused

import nbloss.functional as F

SHAPES = [(5, 3), (70, 10), (9, 48), (9, 49), (33, 300), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5)]
KINDS = ["class numbers", "smoothed", "probabilities"]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=name)
compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="NumPy's sums depend on the layout")


def row_weights(rng, shape, signed=False):
    """A weight for each row that every dtype holds exactly, some of them 0."""
    own = rng.integers(-16 if signed else 0, 17, rows_shape(shape)) / 8
    return np.asarray(own).astype(np.float32)


def problem(rng, shape, kind, dtype=np.float32, ignored=-100):
    """``(logits, target, options)``; a third of the class numbers is ``ignored``."""
    x = logits(rng, shape, dtype)
    if kind == "probabilities":
        return x, probabilities(rng, shape, dtype), {"label_smoothing": 0.1}
    return x, with_ignored(rng, class_index(rng, shape), ignored), {"label_smoothing": 0.1 if kind == "smoothed" else 0.0}


def results(x, y, weight=None, g=1.0, **options):
    """The loss alone, loss and gradient, and the gradient alone of the cross entropy; loss and gradient of the NLL."""
    of_nll = {k: v for k, v in options.items() if k not in ("label_smoothing", "lse_square_scale")}
    return (
        F.cross_entropy(x, y, weight, **options),
        *F.cross_entropy_value_and_grad(x, y, weight, grad_output=g, **options),
        F.cross_entropy_backward(g, x, y, weight, **options),
        F.nll_loss(x, y, weight, **of_nll),
        F.nll_loss_backward(g, x, y, weight, **of_nll),
    )


def size_of(loss, x, target, weight, options):
    """The loss's size: weights of both signs cancel in a sum."""
    own = options["sample_weight"]
    return loss(x, target, weight, **options | {"sample_weight": None if own is None else np.abs(own)})


def check(rng, x, target, weight, **options):
    """The cross entropy and its gradients, by all its functions."""
    note, size = (x.shape, options), size_of(reference.cross_entropy, x, target, weight, options)
    expected = reference.cross_entropy(x, target, weight, **options)
    ulps = 8 if work(x.dtype) == np.float32 else 32 + np.sqrt(class_count(x.shape)) / 8
    tolerance = ulps * eps(work(x.dtype)) * size + tiny(work(x.dtype))
    g = upstream_like(rng, expected)
    assert_within(F.cross_entropy(x, target, weight, **options), expected, tolerance, note)
    loss, grad = F.cross_entropy_value_and_grad(x, target, weight, **options)
    assert_within(loss, expected, tolerance, note)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, target, weight, **options), note)
    terms = reference.cross_entropy_terms(g, x, target, weight, **options)
    assert_gradient(F.cross_entropy_backward(g, x, target, weight, **options), x, *terms, note)
    with_g = F.cross_entropy_value_and_grad(x, target, weight, grad_output=g, **options)[1]
    assert_gradient(with_g, x, *terms, note)


# ---- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@every_kind
@every_shape
def test_every_combination_with_the_other_options(shape, kind, dtype, rng):
    w, soft = weights(rng, class_count(shape), dtype), kind == "probabilities"
    every = list(product([False, True], [-100] if soft else [-100, 1], [None, "own", "signed"], [None, 7.5], ["mean", "sum", "none"]))
    for weighted, ignored, kind_of_weight, divisor, reduction in every[:: 1 if np.prod(shape) < 100 else 3]:
        if (divisor and reduction != "mean") or (kind_of_weight == "signed" and reduction == "mean" and not divisor):
            continue
        x, y, options = problem(rng, shape, kind, dtype, ignored)
        own = kind_of_weight and row_weights(rng, shape, kind_of_weight == "signed")
        options |= {"sample_weight": own, "divisor": divisor, "reduction": reduction, "lse_square_scale": 0.0}
        if not soft:
            options["ignore_index"] = ignored
        check(rng, x, y, w if weighted else None, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["class numbers", "probabilities"])
@every_shape
def test_nll_loss(shape, kind, dtype, rng):
    _, y, _ = problem(rng, shape, kind, dtype)
    logp, w = log_probs(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    for weighted, reduction, divisor in product([False, True], ["mean", "sum", "none"], [None, 7.5]):
        if divisor and reduction != "mean":
            continue
        weight, own = w if weighted else None, row_weights(rng, shape, signed=reduction != "mean")
        options = {"sample_weight": own, "divisor": divisor, "reduction": reduction}
        expected, size = reference.nll_loss(logp, y, weight, **options), size_of(reference.nll_loss, logp, y, weight, options)
        ulps = 8 if work(dtype) == np.float32 else 32 + np.sqrt(class_count(shape)) / 8
        assert_within(F.nll_loss(logp, y, weight, **options), expected, ulps * eps(work(dtype)) * size, options)
        g = upstream_like(rng, expected)
        gradient = reference.nll_loss_backward(g, logp, y, weight, **options)
        tolerance = 4 * eps(dtype) * np.abs(gradient) + floor(dtype)
        assert_within(F.nll_loss_backward(g, logp, y, weight, **options), gradient, tolerance, options)


@every_kind
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12)], ids=name)
def test_with_the_square_of_the_log_sum_exp(shape, kind, rng):
    """The row's weight multiplies the new term, too."""
    x, y, options = problem(rng, shape, kind)
    options |= {"lse_square_scale": 0.1, "reduction": "none"}
    own = row_weights(rng, shape, signed=True)
    loss, grad = F.cross_entropy_value_and_grad(x, y, **options, sample_weight=own)
    plain = F.cross_entropy_value_and_grad(x, y, **options)
    assert_allclose(loss, plain[0] * own, rtol=1e-6, atol=1e-6)
    assert_allclose(grad, plain[1] * np.expand_dims(own, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (49,), (1, 3), (1, 1), (4, 1), (2, 1, 5), (2, 3, 4, 5, 2)], ids=name)
def test_one_row_one_class_and_many_dimensions(shape, rng):
    x = logits(rng, shape)
    for target in (class_index(rng, shape), probabilities(rng, shape)):
        own = np.abs(row_weights(rng, shape)) + np.float32(0.5)
        for reduction in REDUCTIONS:
            check(rng, x, target, None, sample_weight=own, reduction=reduction)
    assert F.cross_entropy(np.float32([1, 1]), 0, sample_weight=2, reduction="sum") == np.float32(2 * np.log(2))


def test_every_dtype_is_a_sample_weight(rng):
    x, y = logits(rng, (70, 10)), class_index(rng, (70, 10))
    own = rng.integers(0, 2, 70)
    expected = results(x, y, sample_weight=own.astype(np.float32))
    for dtype in ["?", "b", "B", "h", "i", "Q", "e", "f", "d", ">f8", ">i2"]:
        assert_same_bits(results(x, y, sample_weight=own.astype(dtype)), expected, dtype)
    assert_same_bits(results(x, y, sample_weight=own.tolist()), expected)


@every_kind
def test_float64_weights_of_float32_rows_are_rounded_first(kind, rng):
    """So the sum of the weights is that of the weights that multiply."""
    x, y, options = problem(rng, (70, 10), kind)
    own = rng.random(70)
    assert_same_bits(results(x, y, sample_weight=own, **options), results(x, y, sample_weight=own.astype(np.float32), **options))
    assert_allclose(
        F.cross_entropy(x, y, sample_weight=own, **options), reference.cross_entropy(x, y, sample_weight=own, **options), rtol=1e-6
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@every_kind
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12)], ids=name)
def test_torch_gives_the_same_by_hand(shape, kind, reduction, rng):
    torch = pytest.importorskip("torch")
    x, y, options = problem(rng, shape, kind, np.float64)
    w, own = weights(rng, class_count(shape), np.float64), row_weights(rng, shape).astype(np.float64)
    given = torch.tensor(x, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(given, torch.tensor(y), torch.tensor(w), reduction="none", **options)
    losses = losses * torch.tensor(own)
    counted = own if kind == "probabilities" else np.where(y == -100, 0, own * w[np.maximum(y, 0)])
    total = {"mean": losses.sum() / counted.sum(), "sum": losses.sum(), "none": losses}[reduction]
    total.sum().backward()
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, sample_weight=own, reduction=reduction, **options)
    assert_allclose(loss, total.detach().numpy(), rtol=1e-12)
    assert_allclose(grad, given.grad.numpy(), rtol=1e-10, atol=1e-15)


# ---- laws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@every_kind
@pytest.mark.parametrize("shape", [(40, 10), (20, 60)], ids=name)
def test_integer_weights_are_rows_that_are_there_several_times(shape, kind, dtype, rng):
    x, y, options = problem(rng, shape, kind, dtype)
    times, w = rng.integers(0, 4, shape[0]), weights(rng, shape[1], dtype)
    often, many = np.repeat(x, times, axis=0), np.repeat(y, times, axis=0)
    for reduction in ("mean", "sum"):
        loss, grad = F.cross_entropy_value_and_grad(x, y, w, sample_weight=times, reduction=reduction, **options)
        again, each = F.cross_entropy_value_and_grad(often, many, w, reduction=reduction, **options)
        assert_allclose(loss, again, rtol=4 * eps(dtype))
        ends = np.cumsum(times)
        summed = np.stack([each[end - n : end].sum(axis=0) for end, n in zip(ends, times, strict=True)])
        assert_allclose(grad, summed, rtol=32 * eps(dtype), atol=4 * eps(dtype) * np.abs(grad).max())
        assert_allclose(
            F.nll_loss(x, y, w, sample_weight=times, reduction=reduction), F.nll_loss(often, many, w, reduction=reduction),
            rtol=16 * eps(dtype), atol=16 * eps(dtype),
        )  # fmt: skip


@every_kind
@every_shape
def test_a_weight_of_0_is_an_ignored_row_whatever_the_row_holds(shape, kind, rng):
    """Of class numbers the bits are those of ignored rows."""
    x, y, options = problem(rng, shape, kind)
    w = weights(rng, class_count(shape))
    own = np.where(rng.random(rows_shape(shape)) < 0.4, 0, 1).astype(np.float32)
    own.flat[0] = 0
    expected = {}
    for reduction in ("mean", "sum", "none"):
        if kind == "probabilities":
            expected[reduction] = results(x, y, w, sample_weight=own, reduction=reduction, **options)
        else:
            expected[reduction] = results(x, np.where(own == 0, -100, y), w, reduction=reduction, **options)
    bad = np.where(np.expand_dims(own, 1) == 0, rng.choice([np.nan, np.inf, -np.inf], x.shape), x).astype(np.float32)
    target = np.where(np.expand_dims(own, 1) == 0, np.nan, y).astype(np.float32) if kind == "probabilities" else y
    for reduction in ("mean", "sum", "none"):
        got = results(bad, target, w, sample_weight=own, reduction=reduction, **options)
        assert_same_bits(got, expected[reduction], reduction)
        with general_path():
            assert_same_bits(results(bad, target, w, sample_weight=own, reduction=reduction, **options), expected[reduction], reduction)
        for gradient in (got[2], got[3], got[5]):
            assert (np.moveaxis(gradient, 1, -1)[own == 0] == 0).all()
        if reduction == "none":
            assert (got[0][own == 0] == 0).all() and (got[4][own == 0] == 0).all()


def test_a_weight_of_0_also_undoes_a_class_weight_that_is_not_finite():
    x, y, own = np.zeros((3, 2), np.float32), np.array([0, 1, 1]), np.float32([1, 0, 0])
    for loss, grad in (
        F.cross_entropy_value_and_grad(x, y, np.float32([1, bad]), sample_weight=own, reduction=reduction)
        for bad, reduction in product([np.inf, np.nan], ["mean", "sum"])
    ):
        assert_allclose(loss, np.log(2), rtol=1e-6)
        assert_array_equal(grad, [[-0.5, 0.5], [0, 0], [0, 0]])


@pytest.mark.parametrize("kind", ["class numbers", "smoothed"])
@every_shape
def test_the_weights_of_ignored_rows_are_not_read(shape, kind, rng):
    x, y, options = problem(rng, shape, kind)
    own = row_weights(rng, shape)
    for weight, reduction in product([None, weights(rng, class_count(shape))], ["mean", "sum", "none"]):
        expected = results(x, y, weight, sample_weight=own, reduction=reduction, **options)
        for bad in (np.nan, np.inf):
            odd = np.where(y == -100, bad, own).astype(np.float32)
            assert_same_bits(results(x, y, weight, sample_weight=odd, reduction=reduction, **options), expected)
            with general_path():
                assert_same_bits(results(x, y, weight, sample_weight=odd, reduction=reduction, **options), expected)


@every_kind
def test_losses_and_gradients_are_linear_in_the_weights(kind, rng):
    x, y, options = problem(rng, (70, 10), kind, np.float64)
    a, b = (row_weights(rng, x.shape, signed=True).astype(np.float64) for _ in range(2))

    def of(own):
        return F.cross_entropy_value_and_grad(x, y, sample_weight=own, reduction="sum", **options)

    for mixed, first, second in zip(of(2 * a - 3 * b), of(a), of(b), strict=True):
        assert_allclose(mixed, 2 * first - 3 * second, rtol=1e-12, atol=1e-13)


@every_kind
@every_shape
def test_a_common_factor_of_the_weights_leaves_the_mean(shape, kind, rng):
    """Powers of two are exact."""
    x, y, options = problem(rng, shape, kind)
    own = row_weights(rng, shape) + np.float32(0.125)
    expected = results(x, y, sample_weight=own, **options)[:4]
    assert_same_bits(results(x, y, sample_weight=own * np.float32(4), **options)[:4], expected)


@every_kind
@pytest.mark.parametrize("dtype", DTYPES)
@every_shape
def test_neutral_values_give_the_same_bits(shape, dtype, kind, rng):
    x, y, options = problem(rng, shape, kind, dtype)
    w = weights(rng, class_count(shape), work(dtype))
    for weight, path in product([None, w], [False, True]):
        own = None if kind == "probabilities" else np.where(y == -100, 0, 1 if weight is None else weight[np.maximum(y, 0)])
        neutral = (
            {"sample_weight": np.ones(rows_shape(shape))},
            {"divisor": y.shape[0] * np.prod(y.shape[2:]) if own is None else own.sum()},
        )
        for reduction in ("mean", "sum", "none"):
            expected = results(x, y, weight, reduction=reduction, **options)
            for more in (*neutral[: 2 if reduction == "mean" else 1], {"empty": "zero"}, {"divisor": None}):
                more = {"sample_weight": np.ones(rows_shape(shape), bool)} if path and "sample_weight" in more else more
                assert_same_bits(results(x, y, weight, reduction=reduction, **options, **more), expected, (more, reduction))
                with general_path():
                    assert_same_bits(results(x, y, weight, reduction=reduction, **options, **more), expected, (more, reduction))


@compiled
@every_kind
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_every_layout_and_both_paths_have_the_same_bits(shape, kind, rng):
    x, y, options = problem(rng, shape, kind)
    own = row_weights(rng, shape)
    for reduction, divisor in (("mean", None), ("mean", 12.5), ("none", None)):
        options |= {"reduction": reduction, "divisor": divisor}
        expected = results(x, y, sample_weight=own, **options)
        with general_path():
            assert_same_bits(results(x, y, sample_weight=own, **options), expected)
        for layout, lay in LAYOUTS.items():
            assert_same_bits(results(lay(x), y, sample_weight=lay(own), **options), expected, layout)


@compiled
@every_kind
@pytest.mark.parametrize("shape", [(40_000, 10), (9001, 60), (3, 21, 90, 90)], ids=name)
def test_the_bits_do_not_depend_on_the_number_of_threads(shape, kind, rng):
    x, y, options = problem(rng, shape, kind)
    own = rng.random(rows_shape(shape)).astype(np.float32)

    def by_both_paths():
        fast = results(x, y, sample_weight=own, **options)
        with general_path():
            return fast, results(x, y, sample_weight=own, **options)

    first, *others = [found for pair in by_one_thread_and_two(by_both_paths) for found in pair]
    for other in others:
        assert_same_bits(other, first)


@every_kind
@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 17, 4), (4, 49)], ids=name)
def test_the_gradient_is_the_derivative_by_central_differences(shape, kind, rng):
    x, y, options = problem(rng, shape, kind, np.float64)
    own = np.asarray(rng.uniform(0.1, 2, rows_shape(shape)))
    for more in ({"divisor": 3.5}, {"reduction": "sum"}, {}):
        options |= {"sample_weight": own, **more}
        if kind != "probabilities" and not more and not (y != -100).any():
            continue
        grad, step = F.cross_entropy_backward(1.0, x, y, **options), 1e-5
        for _ in range(3):
            v = rng.normal(size=shape)
            ahead, behind = (reference.cross_entropy(x + d * v, y, **options) for d in (step, -step))
            assert_allclose((grad * v).sum(), float((ahead - behind) / (2 * step)), rtol=1e-6, atol=1e-9)
        options.pop("divisor", None), options.pop("reduction", None)


def test_probabilities_of_one_class_agree_with_class_numbers(rng):
    """Also the divisors do, where there are no class weights."""
    x, y, own = logits(rng, (70, 10)), class_index(rng, (70, 10)), row_weights(rng, (70, 10))
    soft = np.eye(10, dtype=np.float32)[y]
    for reduction in ("mean", "sum", "none"):
        numbers = results(x, y, sample_weight=own, reduction=reduction)
        for a, b in zip(numbers, results(x, soft, sample_weight=own, reduction=reduction), strict=True):
            assert_allclose(a, b, rtol=2e-6, atol=1e-7)


# ---- divisor -------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12)], ids=name)
def test_a_divisor_divides_the_sum(shape, dtype, kind, rng):
    x, y, options = problem(rng, shape, kind, dtype)
    total = results(x, y, reduction="sum", **options)
    for divisor in (1, 3, np.float32(0.5), np.int64(70), 1e6):
        for ours, whole in zip(results(x, y, divisor=divisor, **options), total, strict=True):
            expected = whole / float(divisor)
            assert_allclose(ours, expected, rtol=2 * eps(dtype), atol=2 * eps(dtype) * np.abs(expected).max())
    assert_same_bits(results(x, y, divisor=1, **options), total)


def test_micro_batches_over_the_number_of_all_targets_are_the_whole_batch(rng):
    x, y = logits(rng, (64, 10), np.float64), with_ignored(rng, class_index(rng, (64, 10)), -100)
    whole, gradient = F.cross_entropy_value_and_grad(x, y)
    count = (y != -100).sum()
    parts = [F.cross_entropy_value_and_grad(x[k : k + 16], y[k : k + 16], divisor=count) for k in range(0, 64, 16)]
    assert_allclose(sum(loss for loss, _ in parts), whole, rtol=1e-14)
    assert_allclose(np.concatenate([grad for _, grad in parts]), gradient, rtol=1e-14)


def test_the_sum_is_divided_before_it_is_rounded(rng):
    """One rounding: float32 losses whose sum in float32 over the divisor would be another number."""
    x, y = logits(rng, (300, 10)), class_index(rng, (300, 10))
    each = F.cross_entropy(x, y, reduction="none")
    exact = sum(map(Fraction, each.tolist()))
    for divisor in range(1, 200):
        expected = np.float32(float(exact / divisor))
        assert F.cross_entropy(x, y, divisor=divisor) == expected
        with general_path():
            assert F.cross_entropy(x, y, divisor=divisor) == expected


@every_loss
@pytest.mark.parametrize("target", [Y, P], ids=["index", "probability"])
@pytest.mark.parametrize("bad", [0, -1, 0.0, -0.5, np.nan, np.inf, -np.inf, np.float32(-2), False], ids=str)
def test_a_divisor_that_is_not_positive_and_finite_is_a_value_error(bad, target, call):
    call(X, target, divisor=2.0)  # a call that was made before does not let it through
    with refused(ValueError) as info:
        call(X, target, divisor=bad)
    assert str(info.value) == f"divisor should be a positive finite number; got {bad}"


@every_loss
@pytest.mark.parametrize("reduction", ["sum", "none", None])
def test_a_divisor_without_a_mean_is_a_value_error(reduction, call):
    call(X, Y, reduction=reduction)
    with refused(ValueError) as info:
        call(X, Y, reduction=reduction, divisor=2.0)
    assert str(info.value) == f"divisor should be None unless reduction is 'mean'; got reduction={reduction or 'none'!r}"


@every_loss
@pytest.mark.parametrize("bad", ["2", b"2", [2.0], np.ones(2), 1j, 10**400], ids=lambda bad: repr(bad)[:9])
def test_a_divisor_that_is_no_number_is_a_type_error(bad, call):
    with refused(TypeError, "divisor", "a number", repr(bad)):
        call(X, Y, divisor=bad)


# ---- empty ---------------------------------------------------------------------------------------------------------------

NOTHING = {
    "all ignored": lambda n: (np.full(n, -100), {}),
    "sample weights of 0": lambda n: (np.zeros(n, int), {"sample_weight": np.zeros(n)}),
    "class weights of 0": lambda n: (np.zeros(n, int), {"weight": np.zeros(3)}),
    "sample weights of sum 0": lambda n: (np.zeros(n, int), {"sample_weight": np.where(np.arange(n) % 2, 1.0, -1.0)}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("count", [2, 400])
def test_a_mean_over_nothing(count, nothing, smoothing, dtype, rng):
    x, (y, options) = logits(rng, (count, 3), dtype), NOTHING[nothing](count)
    some = smoothing and nothing == "class weights of 0"  # of a weight of 0 for all classes no row has a gradient
    for path in (False, True):
        if path:
            with general_path():
                nan, zero = (results(x, y, **options, label_smoothing=smoothing, empty=empty) for empty in ("nan", "zero"))
        else:
            nan, zero = (results(x, y, **options, label_smoothing=smoothing, empty=empty) for empty in ("nan", "zero"))
        assert np.isnan(nan[0]) and np.isnan(nan[1]) and np.isnan(nan[4])
        assert zero[0] == zero[1] == zero[4] == 0
        assert all((gradient == 0).all() for gradient in (zero[2], zero[3], zero[5]))
        if nothing == "sample weights of sum 0":
            assert all(np.isnan(gradient).any() for gradient in (nan[2], nan[3], nan[5]))
        elif not some:
            assert all((gradient == 0).all() for gradient in (nan[2], nan[3], nan[5]))


def test_a_mean_over_nothing_is_0_also_where_smoothing_gives_the_rows_a_loss(rng):
    x, y, w = logits(rng, (5, 3)), np.zeros(5, int), np.float32([0, 1, 1])
    x[2] = np.nan
    assert np.isnan(F.cross_entropy(x, y, w, label_smoothing=0.1))
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, label_smoothing=0.1, empty="zero")
    assert loss == 0 and (grad == 0).all()


@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0)], ids=name)
def test_no_rows_at_all(shape):
    x = np.zeros(shape, np.float32)
    for y in (np.zeros(rows_shape(shape), int), np.zeros(shape, np.float32)):
        assert np.isnan(F.cross_entropy(x, y)) and F.cross_entropy(x, y, empty="zero") == 0
        assert np.isnan(F.nll_loss(x, y)) and F.nll_loss(x, y, empty="zero") == 0
        assert F.cross_entropy(x, y, divisor=3) == 0
        assert F.cross_entropy(x, y, empty="zero", sample_weight=np.zeros(rows_shape(shape))) == 0


@every_loss
def test_with_a_divisor_a_mean_over_ignored_rows_is_0(call):
    for result in (call(X, np.full(2, -100), divisor=3), call(X, Y, divisor=3, sample_weight=[0, 0])):
        for part in result if isinstance(result, tuple) else (result,):
            assert (part == 0).all()


@every_loss
def test_empty_changes_nothing_else(call, rng):
    """A nan of the logits stays one."""
    x = X.copy()
    x[0, 0] = np.nan
    for reduction in ("mean", "sum", "none"):
        np.testing.assert_equal(call(x, Y, reduction=reduction, empty="zero"), call(x, Y, reduction=reduction))


@every_kind
def test_a_mean_over_weights_of_negative_sum_is_nan(kind, rng):
    x, y, options = problem(rng, (20, 3), kind)
    own = -1.0 - row_weights(rng, (20, 3))
    for empty in ("nan", "zero"):
        for loss in (F.cross_entropy(x, y, sample_weight=own, empty=empty, **options), F.nll_loss(x, y, sample_weight=own, empty=empty)):
            assert np.isnan(loss)
    over = F.cross_entropy(x, y, sample_weight=own, divisor=20, **options)
    assert_allclose(over, reference.cross_entropy(x, y, sample_weight=own, divisor=20, **options), rtol=1e-6)


@every_loss
@pytest.mark.parametrize("bad", ["none", "NAN", "", 0, None, np.nan, ["nan"], np.zeros(2)], ids=str)
def test_another_empty_is_a_value_error(bad, call):
    call(X, Y, empty="zero")
    with refused(ValueError) as info:
        call(X, Y, empty=bad)
    assert str(info.value) == f"empty should be 'nan' or 'zero'; got {bad!r}"


# ---- errors of sample weights ----------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1), (2, 3)], ids=name)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_sample_weights_of_another_shape_are_a_value_error(reduction, shape, call):
    for target in (Y, P):
        call(X, target, sample_weight=np.ones(2), reduction=reduction)
        with refused(ValueError) as info:
            call(X, target, sample_weight=np.ones(shape), reduction=reduction)
        assert str(info.value) == f"sample_weight should have the loss's shape (2,); got {shape}"


@every_loss
@pytest.mark.parametrize("dtype", [complex, object, "U3"], ids=str)
def test_sample_weights_of_no_real_type_are_a_type_error(dtype, call):
    with refused(TypeError, "sample_weight"):
        call(X, Y, sample_weight=np.ones(2, dtype))


@every_loss
def test_weights_of_rows_as_class_weights_are_told_their_argument(call):
    with refused(ValueError, "weight should have shape (3,)", "use sample_weight="):
        call(X, Y, np.ones(2, np.float32))


@every_writer
@pytest.mark.parametrize("target", [Y, P], ids=["index", "probability"])
def test_out_may_not_overlap_sample_weights(target, call):
    memory = np.ones(6, np.float32)
    for _ in range(2):
        with refused(ValueError, "out", "sample_weight"):
            call(X, target, sample_weight=memory[:2], out=memory.reshape(2, 3))
        call(X, target, sample_weight=memory[:2])  # a call that was made before does not let it through
    assert (memory == 1).all()


@every_writer
def test_out_is_filled_also_in_place(call, rng):
    x, y, own = logits(rng, (32, 10)), class_index(rng, (32, 10)), row_weights(rng, (32, 10))
    expected = call(x, y, sample_weight=own, divisor=7)
    for out in (np.full_like(x, 9), x):
        result = call(x, y, sample_weight=own, divisor=7, out=out)
        gradient = result[1] if isinstance(result, tuple) else result
        assert gradient is out
        np.testing.assert_equal(result, expected)


def test_a_bad_target_is_an_error_whatever_its_weight(rng):
    for call in LOSSES.values():
        with refused(IndexError, "target", "5", "(1,)"):
            call(X, np.array([0, 5]), sample_weight=[1, 0])


def test_numbers_above_0_are_not_judged_where_rows_have_weights(recwarn):
    F.nll_loss(np.full((4, 3), 5.0), np.zeros(4, int), sample_weight=np.ones(4))
    with general_path():
        F.nll_loss(np.full((4, 3), 5.0), np.zeros(4, int), sample_weight=np.ones(4))
    assert not recwarn.list
