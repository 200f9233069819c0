"""``softcap`` and ``logit_scale``: the loss is that of u = k tanh(a x / k), or of a x without a cap, and the gradient is that of u times
du / dx. Everything else is as without the options."""

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

MAPS = [{"softcap": 5.0}, {"softcap": 30.0, "logit_scale": 0.7}, {"softcap": 1.5, "logit_scale": 3.0}, {"logit_scale": 0.3}]
SHAPES = [(5, 3), (70, 10), (9, 48), (9, 49), (33, 1000), (3, 4099), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5)]

FORMS = {
    "cross_entropy": F.cross_entropy,
    "cross_entropy_backward": lambda *a, **k: F.cross_entropy_backward(1.0, *a, **k),
    "cross_entropy_value_and_grad": F.cross_entropy_value_and_grad,
    "CrossEntropyLoss": lambda x, y, weight=None, **k: nbloss.CrossEntropyLoss(weight, **k)(x, y),
}
every_form = pytest.mark.parametrize("call", FORMS.values(), ids=FORMS)
same_bits = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="NumPy's sums depend on the layout")


def map_name(options):
    return " ".join(f"{option}={value}" for option, value in options.items())


every_map = pytest.mark.parametrize("given", MAPS, ids=map_name)


def some(combinations, shape):
    """All of them for a small shape; every seventh for a large one."""
    combinations = list(combinations)
    return combinations[:: 1 if np.prod(shape) < 1000 else 7]


def sizes(g, x, target, weight, softcap=None, logit_scale=1.0, lse_square_scale=0.0, **options):
    """What the loss and the gradient are as accurate as: (size of the loss, of the gradient), in ulps of the arithmetic.

    A mapped logit has an error of 4 ulp of its own size. It moves log-probabilities by twice the largest error of the row, and the gradient
    of u by that times its terms. du / dx = a (1 - tanh(v)²) has an error of 4 ulp, and of 4 |v| ulp more where v is rounded.
    """
    rows = reference.classes_last(x)
    u, slope = reference.mapped(rows, softcap, logit_scale)
    lam = reference.WIDE(lse_square_scale)
    q, keep, divisor = reference.target_distribution(
        x, target, weight, options.get("ignore_index", -100), options.get("label_smoothing", 0.0),
        **{n: options[n] for n in ("sample_weight", "divisor") if n in options},
    )  # fmt: skip
    q, divisor, reduction = np.abs(q), np.abs(divisor), options.get("reduction", "mean")
    up = np.abs(reference.upstream(g, keep.shape, divisor, reduction))[..., None]
    with np.errstate(all="ignore"):
        logp, total = reference.log_softmax(u), q.sum(axis=-1)
        largest = np.abs(u).max(axis=-1)
        lse = largest + np.log(u.shape[-1])
        loss = reference.row_losses(logp, q, keep) * 8 + np.where(keep, total * (8 * largest + lam * (24 * lse**2)), 0)
        v = np.abs(rows * reference.WIDE(logit_scale) / (np.inf if softcap is None else softcap))
        factor = 16 + 16 * largest[..., None] + 4 * v + np.sqrt(u.shape[-1]) / 8
        terms = (total * (1 + 2 * lam * lse))[..., None] * np.exp(logp) + q
        gradient = np.where(keep[..., None], up * terms * slope * factor, 0)
    return reference.reduced(loss, divisor, reduction), reference.classes_back(gradient, x)


def check(rng, x, target, weight=None, **options):
    """The loss, the gradient of the loss times an upstream gradient, and both at once."""
    note, unit = (x.shape, options, weight is not None), eps(work(x.dtype))
    expected = reference.cross_entropy(x, target, weight, **options)
    g = upstream_like(rng, expected)
    loss_size, size = sizes(g, x, target, weight, **options)

    def assert_gradient(actual, g, size):
        spread, hit = reference.cross_entropy_terms(g, x, target, weight, **options)
        exact = spread - hit
        stored = eps(x.dtype) * np.abs(exact) if x.dtype != work(x.dtype) else 0
        assert actual.dtype == x.dtype, note
        assert_within(actual, exact, unit * size + stored + floor(x.dtype), note)

    def assert_loss(actual):
        assert actual.dtype == work(x.dtype), note
        assert_within(actual, expected, unit * loss_size + tiny(work(x.dtype)), note)

    assert_loss(F.cross_entropy(x, target, weight, **options))
    assert_gradient(F.cross_entropy_backward(g, x, target, weight, **options), g, size)
    loss, grad = F.cross_entropy_value_and_grad(x, target, weight, **options)
    assert_loss(loss)
    assert_gradient(grad, 1.0, sizes(1.0, x, target, weight, **options)[1])


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
    every = product(MAPS, [False, True], [-100, 1], [0.0, 0.1], [0.0, 0.01], ["mean", "sum", "none"])
    for given, weighted, ignored, smoothing, lam, reduction in some(every, shape):
        target = with_ignored(rng, y, ignored) if ignored == 1 else y
        options = {"label_smoothing": smoothing, "ignore_index": ignored, "lse_square_scale": lam, "reduction": reduction}
        check(rng, x, target, w if weighted else None, **given, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_probabilities_with_every_combination_of_options(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), probabilities(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    every = product(MAPS, [False, True], [0.0, 0.1, 1.0], [0.0, 0.01], ["mean", "sum", "none"])
    for given, weighted, smoothing, lam, reduction in some(every, shape):
        options = {"label_smoothing": smoothing, "lse_square_scale": lam, "reduction": reduction}
        check(rng, x, y, w if weighted else None, **given, **options)


@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (2, 21, 12, 12)], ids=name)
def test_sample_weights_and_a_divisor(shape, dtype, given, rng):
    x, y, own = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), rng.uniform(0, 2, rows_shape(shape))
    own.flat[0] = 0
    for target in (y, probabilities(rng, shape, dtype)):
        check(rng, x, target, sample_weight=own.astype(work(dtype)), **given)
        check(rng, x, target, sample_weight=own.astype(work(dtype)), divisor=100.0, **given)
        check(rng, x, target, divisor=7.0, **given)


@pytest.mark.parametrize("shape", [(3,), (49,), (1, 3), (1, 1), (4, 1), (2, 1, 5), (2, 3, 4, 5, 2)], ids=name)
def test_one_row_one_class_and_many_dimensions(shape, rng):
    x = logits(rng, shape)
    for target in (class_index(rng, shape), probabilities(rng, shape)):
        for reduction, given in product(REDUCTIONS, MAPS):
            check(rng, x, target, reduction=reduction, **given)


@pytest.mark.parametrize("integer", INTEGERS, ids=name)
def test_every_integer_type_is_a_target(integer, rng):
    x, y = logits(rng, (70, 60)), class_index(rng, (70, 60))
    assert_same_bits(results(x, y.astype(integer), softcap=4.0), results(x, y, softcap=4.0))


def test_an_example_by_hand():
    """Two logits of which the first is capped to k tanh 1 = 2 tanh 1, and the other is 0."""
    u = 2 * np.tanh(1.0)
    loss, grad = F.cross_entropy_value_and_grad(np.array([[1.0, 0.0]]), np.array([0]), softcap=2.0, logit_scale=2.0)
    p = 1 / (1 + np.exp(u))
    assert_allclose(loss, np.log1p(np.exp(-u)), rtol=1e-15)
    assert_allclose(grad, [[-p * 2 / np.cosh(1.0) ** 2, p * 2]], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [10, 100])
def test_the_map_of_one_logit_at_every_size(classes, dtype, rng):
    """Beside a class without probability, the loss of the other logits is 0, and beside a 0 the loss shows u: log(1 + exp(-u))."""
    v = np.concatenate([np.logspace(-30, 2.5, 400), np.linspace(0.3, 1.5, 400)])
    x = np.full((2 * v.size, classes), -np.inf, dtype)
    x[:, 0], x[:, 1] = np.concatenate([v, -v]) * 3, 0
    y, unit = np.zeros(len(x), int), eps(dtype)
    loss, grad = F.cross_entropy_value_and_grad(x, y, softcap=3.0, reduction="none")
    u, slope = reference.mapped(x[:, 0].astype(reference.WIDE), 3.0)
    exact = np.log1p(np.exp(-u))
    assert_within(loss, exact, unit * (2 * exact + 3 * np.abs(u)))
    p = np.exp(-u) / (1 + np.exp(-u))
    size = np.abs(x[:, 0].astype(reference.WIDE)) / 3
    assert_within(grad[:, 0], -p * slope, unit * (8 + 4 * size + 3 * np.abs(u)) * p * slope + tiny(dtype))
    assert (grad[:, 2:] == 0).all()


# ---- infinite, nan, saturated and extreme numbers ------------------------------------------------------------------------


@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 10), (6, 100), (2, 10, 70), (2, 60, 9)], ids=name)
def test_minus_infinity_is_a_class_without_probability(shape, dtype, given, rng):
    """A cap must not make it a class with the logit -k."""
    x, y = logits(rng, shape, dtype), class_index(rng, shape) % (class_count(shape) - 1) + 1
    x[:, 0] = -np.inf
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", **given)
    assert (grad[:, 0] == 0).all()
    rest, its_grad = F.cross_entropy_value_and_grad(np.ascontiguousarray(x[:, 1:]), y - 1, reduction="none", **given)
    assert_allclose(loss, rest, rtol=8 * eps(work(dtype)), atol=8 * eps(work(dtype)))
    assert_allclose(grad[:, 1:].astype(float), its_grad.astype(float), rtol=64 * eps(work(dtype)) + 2 * eps(dtype), atol=floor(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [10, 100])
def test_a_target_of_minus_infinity_has_an_infinite_loss_and_no_gradient_across_a_cap(classes, dtype, rng):
    x, y = logits(rng, (4, classes), dtype), np.zeros(4, int)
    x[:, 0] = -np.inf
    loss, grad = F.cross_entropy_value_and_grad(x, y, softcap=5.0, reduction="none")
    assert (loss == np.inf).all() and (grad[:, 0] == 0).all() and np.isfinite(grad.astype(float)).all()
    loss, grad = F.cross_entropy_value_and_grad(x, y, logit_scale=0.5, reduction="none")
    assert (loss == np.inf).all() and (grad[:, 0] == -0.5).all()


@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.inf, np.nan], ids=str)
@pytest.mark.parametrize("shape", [(6, 10), (6, 100), (6, 10, 70)], ids=name)
def test_infinity_and_nan_make_their_row_nan_and_no_other(shape, bad, dtype, given, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    good = results(x, y, **given)
    x[2, 3] = bad
    for target in (y, probabilities(rng, shape, dtype)):
        for result in results(x, target, **given):
            assert np.isnan(result[2].astype(float)).all()
    for result, clean in zip(results(x, y, **given), good, strict=True):
        assert_array_equal(np.delete(result, 2, 0), np.delete(clean, 2, 0))


@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 10), (6, 100), (6, 10, 70), (2, 60, 9)], ids=name)
def test_ignored_rows_and_rows_of_weight_0_are_0_whatever_their_logits_are(shape, dtype, given, rng):
    x, y, own = logits(rng, shape, dtype), class_index(rng, shape), np.ones(rows_shape(shape))
    for bad in (np.nan, np.inf, -np.inf):
        x[1] = bad
        y[1], own[1] = -100, 0
        for target in (y, np.where(y < 0, 0, y)):
            for smoothing in (0.0, 0.1):
                options = {"sample_weight": None if target is y else own, "label_smoothing": smoothing}
                for result in results(x, target, **given, **options):
                    assert (result[1] == 0).all() and np.isfinite(result.astype(float)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 10), (6, 100), (6, 10, 70)], ids=name)
def test_saturated_logits_have_finite_losses_and_the_derivative_of_the_cap(shape, dtype, rng):
    """x = 1e4 with a cap of 30: tanh is 1 to the last digit, and its derivative is 4 exp(-667), which float32 rounds to 0."""
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    x[:, 0], x[:, 1] = 1e4, -1e4
    loss, grad = F.cross_entropy_value_and_grad(x, y, softcap=30.0, reduction="none")
    assert np.isfinite(loss).all() and (np.abs(grad[:, :2]) <= (1e-280 if dtype == np.float64 else 0)).all()
    check(rng, x, y, softcap=30.0)
    x[:, 0], x[:, 1] = 320, -250  # 1 - tanh² would be 0 in float32; exp(-2 · 320 / 30) is not
    check(rng, x, y, softcap=30.0, reduction="sum")
    grad = F.cross_entropy_backward(1.0, x.astype(work(dtype)), y, softcap=30.0, reduction="sum")
    assert (grad[:, 0] != 0).all()


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("classes", [10, 100])
def test_extreme_options_and_logits(classes, dtype, rng):
    x, y = logits(rng, (9, classes), dtype), class_index(rng, (9, classes))
    huge, largest = 1e30, float(np.finfo(dtype).max)
    for given in ({"softcap": huge}, {"softcap": 1e300}):  # so large a cap changes nothing
        assert_allclose(F.cross_entropy(x, y, **given), F.cross_entropy(x, y), rtol=16 * eps(dtype))
        assert_allclose(F.cross_entropy_backward(1.0, x, y, **given), F.cross_entropy_backward(1.0, x, y), rtol=64 * eps(dtype), atol=1e-9)
    for given in ({"softcap": 1e-30}, {"softcap": 1e-300}, {"logit_scale": 1e-30}, {"logit_scale": 1e-300}):  # all u are nearly 0
        assert_allclose(F.cross_entropy(x, y, **given), np.log(classes), rtol=4 * eps(dtype))
        assert np.isfinite(F.cross_entropy_backward(1.0, x, y, **given)).all()
    x[1, 1], x[2, 2] = largest, -largest
    for given in ({"softcap": 5.0, "logit_scale": 1e30}, {"softcap": 5.0, "logit_scale": 1e300}, {"softcap": 1e-300, "logit_scale": 1e300}):
        loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", **given)
        assert np.isfinite(loss).all() and np.isfinite(grad).all()
    check(rng, x, y, softcap=5.0)


# ---- laws ----------------------------------------------------------------------------------------------------------------


NEUTRAL = [{"softcap": None}, {"logit_scale": 1.0}, {"logit_scale": 1}, {"softcap": None, "logit_scale": np.float32(1)}]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neutral", NEUTRAL, ids=map_name)
def test_neutral_values_are_the_loss_without_the_options(neutral, dtype, rng):
    for shape in SHAPES:
        x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
        for target, options in (
            (y, {}),
            (y, {"label_smoothing": 0.1}),
            (probabilities(rng, shape, dtype), {}),
            (y, {"lse_square_scale": 0.1}),
        ):
            assert_same_bits(results(x, target, w, **neutral, **options), results(x, target, w, **options))


@pytest.mark.parametrize("number", [2, np.float32(2), np.float64(2), np.array(2.0), np.int8(2)], ids=repr)
def test_every_kind_of_number_is_taken(number):
    for target, option in product((Y, P), ("softcap", "logit_scale")):
        assert_same_bits(results(X, target, **{option: number}), results(X, target, **{option: 2.0}))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_a_scale_of_a_power_of_two_is_that_of_the_logits(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    for target in (y, probabilities(rng, shape, dtype)):
        options = {"lse_square_scale": 0.01}  # both then take the same sums
        loss, grad = F.cross_entropy_value_and_grad(x, target, logit_scale=0.25, **options)
        of_scaled = F.cross_entropy_value_and_grad(x / 4, target, **options)
        assert loss == of_scaled[0]
        assert_array_equal(grad, of_scaled[1] / 4)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 17, 4), (4, 49)], ids=name)
@every_map
def test_the_gradient_is_the_derivative_by_central_differences(given, shape, dtype, rng):
    """Differences of the oracle, in its wider numbers."""
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    for y, smoothing in ((class_index(rng, shape), 0.0), (class_index(rng, shape), 0.2), (probabilities(rng, shape, dtype), 0.0)):
        options = given | {"label_smoothing": smoothing, "lse_square_scale": 0.05, "reduction": "sum"}
        grad = F.cross_entropy_backward(1.0, x, y, w, **options)
        step = reference.WIDE(1e-6)
        wide = x.astype(reference.WIDE)
        for _ in range(4):
            v = rng.normal(size=shape)
            ahead, behind = (reference.cross_entropy(wide + d * v, y, w, **options) for d in (step, -step))
            exact = (ahead - behind) / (2 * step)
            size = (np.abs(v) * sizes(1.0, x, y, w, **options)[1]).sum()
            assert_within((grad.astype(reference.WIDE) * v).sum(), exact, eps(dtype) * size + 1e-8 * (1 + np.abs(exact)))


# ---- the same bits, however a call is made --------------------------------------------------------------------------------


@same_bits
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (33, 300), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_every_layout_has_the_same_bits(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape), dtype)
    soft = probabilities(rng, shape, dtype)
    for target, smoothing in ((y, 0.0), (y, 0.1), (soft, 0.0)):
        for given in MAPS[1::2]:
            options = given | {"label_smoothing": smoothing}
            expected = results(x, target, w, **options)
            for layout, lay in LAYOUTS.items():
                assert_same_bits(results(lay(x), lay(target), lay(w), **options), expected, (layout, options))


@same_bits
@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(301, 10), (101, 48), (101, 49), (31, 300)], ids=name)
def test_rows_and_channels_first_have_the_same_bits(shape, dtype, given, rng):
    x, y, w = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape), dtype)
    for smoothing in (0.0, 0.1):
        options = given | {"label_smoothing": smoothing}
        rows = results(x, y, w, **options)
        channels = results(np.ascontiguousarray(x.T)[None], y[None], w, **options)
        assert_same_bits([a[0].T if a.ndim == 3 else a[0] for a in channels], rows, smoothing)


@same_bits
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(dtype, rng):
    """Near and saturated logits may share a vector."""
    for classes in (10, 100):
        x, y = logits(rng, (40, classes), dtype, 8.0), class_index(rng, (40, classes))
        together = results(x, y, softcap=9.0)
        for at in (0, 7, 39):
            assert_same_bits(results(x[at : at + 1], y[at : at + 1], softcap=9.0), [a[at : at + 1] for a in together], at)
        for shift in (3, 17):
            grad = F.cross_entropy_backward(1.0, np.roll(x, shift, 1), (y + shift) % classes, softcap=9.0, reduction="none")
            assert_allclose(np.roll(grad, -shift, 1).astype(float), together[2].astype(float), rtol=32 * eps(dtype), atol=floor(dtype))


@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_out_is_filled_also_in_place(shape, dtype, given, rng):
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = with_ignored(rng, class_index(rng, shape), -100)
    for target, smoothing in ((y, 0.0), (y, 0.1), (probabilities(rng, shape, dtype), 0.0)):
        options = given | {"label_smoothing": smoothing}
        loss, grad = F.cross_entropy_value_and_grad(x, target, w, **options)
        for out in (np.full_like(x, 9), x.copy()):
            again, result = F.cross_entropy_value_and_grad(x, target, w, **options, out=out)
            assert result is out and again == loss
            assert_array_equal(out, grad)
        for function in (F.cross_entropy_value_and_grad, lambda *a, **k: F.cross_entropy_backward(1.0, *a, **k)):
            over = x.copy()
            result = function(over, target, w, **options, out=over)
            assert (result[1] if isinstance(result, tuple) else result) is over
            assert_array_equal(over, grad)


@pytest.mark.parametrize("shape", [(3000, 10), (700, 200), (64, 4099), (9, 21, 40, 40), (4, 60, 70, 9)], ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_one_thread_and_two_give_the_same_bits(kind, shape, rng):
    x = logits(rng, shape)
    y = probabilities(rng, shape) if kind == "probabilities" else with_ignored(rng, class_index(rng, shape), -100)
    options = {"label_smoothing": 0.1 if kind == "smoothed" else 0.0, "softcap": 6.0}
    assert_same_bits(*by_one_thread_and_two(lambda: (*results(x, y, **options), *results(x, y, reduction="mean", **options))))


@every_map
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 10), (5, 65), (3, 21, 70)], ids=name)
def test_both_paths_have_the_same_bits(shape, dtype, given, rng):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    for reduction in REDUCTIONS:
        fast = results(x, y, reduction=reduction, **given)
        with general_path():
            assert_same_bits(fast, results(x, y, reduction=reduction, **given))


def test_the_loss_alone_has_the_bits_of_the_loss_with_its_gradient(rng):
    for shape, given in product(SHAPES, MAPS[1::2]):
        x, y = logits(rng, shape), with_ignored(rng, class_index(rng, shape), -100)
        for target, reduction in product([y, probabilities(rng, shape)], REDUCTIONS):
            alone, loss, grad, forced = results(x, target, reduction=reduction, **given)
            assert_array_equal(alone, loss)
            assert_array_equal(grad, forced)


# ---- errors --------------------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("target", [Y, P], ids=["class numbers", "probabilities"])
@pytest.mark.parametrize("bad", [-1.0, 0, 0.0, np.nan, np.inf, -np.inf, np.float32(-0.5)], ids=str)
def test_a_number_that_is_not_positive_and_finite_is_a_value_error(bad, target, call):
    with refused(ValueError) as info:
        call(X, target, softcap=bad)
    assert str(info.value) == f"softcap should be None or a positive finite number; got {float(bad)}"
    with refused(ValueError) as info:
        call(X, target, logit_scale=bad)
    assert str(info.value) == f"logit_scale should be a positive finite number; got {float(bad)}"


@every_form
@pytest.mark.parametrize("target", [Y, P], ids=["class numbers", "probabilities"])
@pytest.mark.parametrize("bad", ["x", "0.1", b"1", 1j, [0.1], np.ones(1)], ids=repr)
def test_what_is_no_number_is_a_type_error(bad, target, call):
    with refused(TypeError) as info:
        call(X, target, softcap=bad)
    assert str(info.value) == f"softcap should be a number, positive and finite, or None; got {bad!r}"
    with refused(TypeError) as info:
        call(X, target, logit_scale=bad)
    assert str(info.value) == f"logit_scale should be a number, positive and finite; got {bad!r}"


@every_form
def test_a_scale_of_none_is_a_type_error(call):
    with refused(TypeError, "logit_scale", "None"):
        call(X, Y, logit_scale=None)


def test_a_refused_option_leaves_out_as_it_was():
    out = np.full_like(X, 9)
    for option, (bad, error) in product(("softcap", "logit_scale"), ((-1.0, ValueError), ("x", TypeError))):
        with refused(error, option):
            F.cross_entropy_value_and_grad(X, Y, out=out, **{option: bad})
        with refused(error, option):
            F.cross_entropy_backward(1.0, X, Y, out=out, **{option: bad})
    assert (out == 9).all()


@pytest.mark.parametrize("option", ["softcap", "logit_scale"])
@pytest.mark.parametrize("call", [F.nll_loss, F.focal_loss, nbloss.NLLLoss, nbloss.FocalLoss])
def test_other_losses_have_no_such_option(call, option):
    with pytest.raises(TypeError, match=option):
        call(X, Y, **{option: 2.0})


# ---- the module ----------------------------------------------------------------------------------------------------------


@every_map
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_module_equals_the_functions(reduction, given, rng):
    x, y, w = logits(rng, (70, 10)), with_ignored(rng, class_index(rng, (70, 10)), 3), weights(rng, 10)
    for target, rest in ((y, {"ignore_index": 3}), (y, {"ignore_index": 3, "label_smoothing": 0.1}), (probabilities(rng, (70, 10)), {})):
        options = given | {"reduction": reduction} | rest
        module = nbloss.CrossEntropyLoss(w, **options)
        assert_array_equal(module(x, target), F.cross_entropy(x, target, w, **options))
        assert_array_equal(module.backward(), F.cross_entropy_backward(1.0, x, target, w, **options))


def test_the_module_keeps_and_shows_the_options(rng):
    module = nbloss.CrossEntropyLoss(softcap=30, logit_scale=0.5)
    assert (module.softcap, module.logit_scale) == (30.0, 0.5)
    assert "softcap=30.0, logit_scale=0.5" in repr(module)
    plain = nbloss.CrossEntropyLoss()
    assert plain.softcap is None and plain.logit_scale == 1
    assert "softcap" not in repr(plain) and "logit_scale" not in repr(plain)
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    for other in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(other) == repr(module)
        assert_array_equal(other(x, y), F.cross_entropy(x, y, softcap=30.0, logit_scale=0.5))


# ---- PyTorch and JAX -----------------------------------------------------------------------------------------------------


@every_map
@pytest.mark.parametrize("shape", [(7,), (5, 7), (6, 65), (3, 4, 5), (2, 3, 4, 5)], ids=name)
@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
def test_values_and_gradients_are_those_of_pytorch_s_autograd(kind, shape, given, rng):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    x, w = logits(rng, shape, np.float64), weights(rng, class_count(shape), np.float64)
    y = probabilities(rng, shape, np.float64) if kind == "probabilities" else class_index(rng, shape)
    if kind != "probabilities" and y.size > 1:
        y.flat[0] = -100
    smoothing, cap, scale = 0.1 if kind == "smoothed" else 0.0, given.get("softcap"), given.get("logit_scale", 1.0)
    for weight, reduction in product([None, w], ["mean", "sum", "none"]):
        leaf = torch.tensor(x, requires_grad=True)
        u = leaf * scale if cap is None else torch.tanh(leaf * scale / cap) * cap
        options = {"label_smoothing": smoothing, "reduction": reduction}
        value = torch.nn.functional.cross_entropy(u, torch.tensor(y), None if weight is None else torch.tensor(weight), **options)
        g = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
        value.backward(g)
        ours = options | given
        assert_allclose(F.cross_entropy(x, y, weight, **ours), value.detach().numpy(), rtol=1e-13, atol=1e-14)
        grad = F.cross_entropy_backward(g.numpy(), x, y, weight, **ours)
        assert_allclose(grad, leaf.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_gradients_are_those_of_jax_in_float64(rng):
    jax = pytest.importorskip("jax", reason="the comparison is with JAX")
    x, y = logits(rng, (6, 65), np.float64), class_index(rng, (6, 65))
    with jax.enable_x64(True):
        for given in MAPS:
            cap, scale = given.get("softcap"), given.get("logit_scale", 1.0)

            def loss(x, cap=cap, scale=scale):
                u = x * scale if cap is None else jax.numpy.tanh(x * scale / cap) * cap
                return -jax.numpy.take_along_axis(jax.nn.log_softmax(u), y[:, None], 1).mean()

            value, grad = jax.value_and_grad(loss)(x)
            ours = F.cross_entropy_value_and_grad(x, y, **given)
            assert_allclose(ours[0], value, rtol=1e-13)
            assert_allclose(ours[1], grad, rtol=1e-12, atol=1e-14)
