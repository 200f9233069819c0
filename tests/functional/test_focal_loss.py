"""The focal loss: each row's loss is w[y] r^gamma l, where l = -log p[y] and r = 1 - p[y]. Everything else is as for cross entropy."""

import copy
import os
import pickle
from itertools import product

import numpy as np
import pytest
import reference
from bits import assert_same_bits, by_one_thread_and_two
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
    general_path,
    logits,
    name,
    rows_shape,
    tiny,
    upstream_like,
    weights,
    with_ignored,
    work,
)
from refusals import P, X, Y, refused

import nbloss
import nbloss.functional as F

GAMMAS = [0.5, 1.0, 2.0, 5.0]
SHAPES = [(5, 3), (70, 10), (9, 48), (9, 49), (33, 1000), (3, 4099), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5)]
FORMS = {
    "focal_loss": F.focal_loss,
    "focal_loss_backward": lambda *a, **k: F.focal_loss_backward(1.0, *a, **k),
    "focal_loss_value_and_grad": F.focal_loss_value_and_grad,
    "FocalLoss": lambda x, y, weight=None, **k: nbloss.FocalLoss(weight, **k)(x, y),
}
every_form = pytest.mark.parametrize("call", FORMS.values(), ids=FORMS)
compiled = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


def ulps(gamma):
    """The bound of a loss, times eps: an error of l is one of r too, to the power of gamma. (A unit in the last place may be eps / 2.)"""
    return 4 + 2 * gamma


def check(rng, x, target, weight=None, gamma=2.0, **options):
    """The loss, the gradient of the loss times an upstream gradient, and both at once."""
    note, terms = (x.shape, gamma, options), class_count(x.shape)
    expected = reference.focal_loss(x, target, weight, gamma=gamma, **options)
    tolerance = (ulps(gamma) + (np.sqrt(terms) if work(x.dtype) == np.float64 else 0)) * eps(work(x.dtype)) * np.abs(expected)
    g = upstream_like(rng, expected)
    assert_within(F.focal_loss(x, target, weight, gamma=gamma, **options), expected, tolerance + tiny(work(x.dtype)), note)

    def check_gradient(grad, g):
        spread, hit = reference.focal_loss_terms(g, x, target, weight, gamma=gamma, **options)
        size = (np.abs(spread) + np.abs(hit)) * (1 + gamma / 4)
        assert_gradient(grad, x, spread, hit, note, size)

    check_gradient(F.focal_loss_backward(g, x, target, weight, gamma=gamma, **options), g)
    loss, grad = F.focal_loss_value_and_grad(x, target, weight, gamma=gamma, **options)
    assert_within(loss, expected, tolerance + tiny(work(x.dtype)), note)
    assert loss.dtype == work(x.dtype)
    check_gradient(grad, 1.0)


def results(x, y, weight=None, **options):
    options = {"reduction": "none"} | options
    alone = F.focal_loss(x, y, weight, **options)
    loss, grad = F.focal_loss_value_and_grad(x, y, weight, **options)
    return alone, loss, grad, F.focal_loss_backward(1.0, x, y, weight, **options)


# ---- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_every_combination_of_options(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    every = list(product(GAMMAS, [False, True], [-100, 1], ["mean", "sum", "none"], [False, True], [None, 7.5]))
    for gamma, weighted, ignored, reduction, sampled, divisor in every[:: 1 if np.prod(shape) < 1000 else 7]:
        target = with_ignored(rng, y, ignored) if ignored == 1 else y
        options = {"ignore_index": ignored, "reduction": reduction}
        if sampled:
            options["sample_weight"] = rng.uniform(0, 2, y.shape).astype(dtype)
        if divisor and reduction == "mean":
            options["divisor"] = divisor
        check(rng, x, target, w if weighted else None, gamma, **options)


@pytest.mark.parametrize("shape", [(3,), (49,), (1, 3), (1, 1), (4, 1), (2, 1, 5), (2, 3, 4, 5, 2)], ids=name)
def test_one_row_one_class_and_many_dimensions(shape, rng):
    for gamma, reduction in product(GAMMAS, REDUCTIONS):
        check(rng, logits(rng, shape), class_index(rng, shape), gamma=gamma, reduction=reduction)


def test_an_example_by_hand():
    """Two logits of 0: p = r = 1/2, l = log 2; f' = r^2 (1 + 2 l)."""
    loss, grad = F.focal_loss_value_and_grad(np.zeros((1, 2)), np.array([0]))
    assert_allclose(loss, np.log(2) / 4, rtol=1e-15)
    slope = 0.25 * (1 + 2 * np.log(2))
    assert_allclose(grad, [[-slope / 2, slope / 2]], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_a_gamma_of_0_has_the_bits_of_cross_entropy(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape), dtype)
    for zero, weight, reduction in product([0.0, 0, np.float32(0)], [None, w], ["mean", "sum", "none"]):
        assert_same_bits(
            F.focal_loss_value_and_grad(x, y, weight, gamma=zero, reduction=reduction),
            F.cross_entropy_value_and_grad(x, y, weight, reduction=reduction),
        )
        alone = F.focal_loss(x, y, weight, gamma=zero, reduction=reduction), F.focal_loss_backward(1.0, x, y, weight, gamma=zero)
        assert_same_bits(alone, (F.cross_entropy(x, y, weight, reduction=reduction), F.cross_entropy_backward(1.0, x, y, weight)))


def test_the_default_gamma_is_2(rng):
    x, y = logits(rng, (9, 5)), class_index(rng, (9, 5))
    assert_same_bits(results(x, y), results(x, y, gamma=2.0))
    assert_same_bits(results(x, y), results(x, y, gamma=2))


# ---- limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 7, 49, 2000])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_sure_row_is_0_and_an_impossible_target_is_inf(gamma, count, dtype, rng):
    x = np.full((3, count), -np.inf, dtype)
    x[0, 1] = 5  # r = 0
    x[1, 0] = 3  # l = inf
    x[2] = logits(rng, (count,), dtype)
    x[2, 1] = np.nan
    loss, grad = F.focal_loss_value_and_grad(x, np.ones(3, int), gamma=gamma, reduction="none")
    assert loss[0] == 0 and (grad[0] == 0).all()
    assert loss[1] == np.inf
    assert_array_equal(grad[1], np.where(np.arange(count) == 0, 1, np.where(np.arange(count) == 1, -1, 0)))
    assert np.isnan(loss[2]) and np.isnan(grad[2]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 3), (70, 10), (9, 49), (9, 1000), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_ignored_rows_are_exactly_0_whatever_they_hold(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    ignored = rng.random(y.shape) < 0.4
    y[ignored] = -100
    plain = results(x, y)
    rows = np.moveaxis(x.copy(), 1, -1)
    rows[ignored] = rng.choice(np.array([np.nan, np.inf, -np.inf, 7], dtype), rows[ignored].shape)
    dirty = results(np.ascontiguousarray(np.moveaxis(rows, -1, 1)), y)
    assert_same_bits(dirty, plain)
    assert (dirty[0][ignored] == 0).all() and (np.moveaxis(dirty[2], 1, -1)[ignored] == 0).all()


def test_a_mean_of_no_rows(rng):
    x, y = logits(rng, (4, 3)), np.full(4, -100)
    loss, grad = F.focal_loss_value_and_grad(x, y)
    assert np.isnan(loss) and (grad == 0).all()
    assert F.focal_loss(x, y, empty="zero") == 0 and F.focal_loss(x, y, divisor=3) == 0


# ---- digits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("count", [2, 3, 17, 49, 300])
@pytest.mark.parametrize("gamma", [0.1, *GAMMAS, 3.0])
def test_losses_and_gradients_keep_their_digits(gamma, count, dtype, rng):
    """Rows from an r of about 1e-15 to an l of 90."""
    pytest.importorskip("mpmath", reason="the digits are mpmath's")
    x, y = rng.normal(0, 1, (24, count)), rng.integers(0, count, 24)
    x[np.arange(24), y] += np.linspace(-90, 35, 24)
    x = x.astype(dtype)
    losses, gradient = reference.exact_focal_rows(x, y, gamma)
    loss, grad = F.focal_loss_value_and_grad(x, y, gamma=gamma, reduction="none")
    normal = losses > tiny(dtype)
    wider = 2 * np.sqrt(count) if dtype == np.float64 else 0
    assert_within(loss[normal], losses[normal], (ulps(gamma) + wider) * eps(dtype) * losses[normal])
    gap = x.max(axis=1, keepdims=True).astype(float) - x
    gap[np.arange(24), y] = np.sort(gap, axis=1)[:, 1]
    within = (ulps(gamma) + 4 + gap + np.sqrt(count) / 8) * eps(dtype) * np.abs(gradient)
    normal = np.abs(gradient) > (1e-27 if dtype == np.float32 else 1e-280)
    assert_within(grad[normal], gradient[normal], within[normal])


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0, 3.5])
def test_the_gradient_is_the_slope_of_the_loss(gamma, rng):
    """Central differences of the formula in long double."""
    x, y = rng.normal(0, 2, (6, 5)), rng.integers(0, 5, 6)
    grad, step = F.focal_loss_backward(1.0, x, y, gamma=gamma, reduction="sum"), np.longdouble(1e-6)

    def plain(x):
        e = np.exp(x)
        p = e[np.arange(6), y] / e.sum(axis=1)
        return (-((1 - p) ** np.longdouble(gamma)) * np.log(p)).sum()

    for i, c in product(range(6), range(5)):
        up, down = x.astype(np.longdouble), x.astype(np.longdouble)
        up[i, c], down[i, c] = up[i, c] + step, down[i, c] - step
        assert_allclose(float((plain(up) - plain(down)) / (up[i, c] - down[i, c])), grad[i, c], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (6, 65), (3, 4, 5), (2, 3, 4, 5)], ids=name)
def test_values_and_gradients_are_those_of_pytorch_s_autograd(shape, rng):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    x, w, y = logits(rng, shape, np.float64), weights(rng, class_count(shape), np.float64), class_index(rng, shape)
    axis = 0 if len(shape) == 1 else 1
    if y.size > 1:
        y.flat[0] = -100
    for gamma, weight, reduction in product(GAMMAS, [None, w], ["mean", "sum", "none"]):
        leaf = torch.tensor(x, requires_grad=True)
        of_target = torch.nn.functional.cross_entropy(leaf, torch.tensor(y), reduction="none")
        counts = torch.tensor(y != -100)
        scale = counts * (torch.ones(y.shape) if weight is None else torch.tensor(weight)[torch.tensor(np.where(y == -100, 0, y))])
        value = scale * (1 - torch.exp(-of_target)) ** gamma * of_target
        value = torch.where(counts, value, 0.0)
        if reduction != "none":
            value = value.sum() / (scale.sum() if reduction == "mean" else 1)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        grad = torch.where(counts.unsqueeze(axis), grad, 0.0)
        ours = F.focal_loss_value_and_grad(x, y, weight, gamma=gamma, reduction=reduction)
        assert_allclose(ours[0], value.detach().numpy(), rtol=1e-11, atol=1e-13)
        assert_allclose(ours[1], grad.numpy(), rtol=1e-10, atol=1e-13)


# ---- one result for every path, layout and number of threads -------------------------------------------------------------


@pytest.mark.skipif(not compiled, reason="NumPy's sums depend on the layout")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 10), (17, 65), (2, 21, 70), (2, 60, 81)], ids=name)
def test_odd_strides_have_the_same_bits(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    plain = results(x, y, gamma=1.5)
    spread = np.zeros((*shape[:-1], 2 * shape[-1] + 1), dtype)[..., 1::2]
    for view in (np.asfortranarray(x), np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1), x[::-1].copy()[::-1], spread):
        view[...] = x
        assert_same_bits(results(view, y, gamma=1.5), plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 10), (5, 65), (3, 21, 70)], ids=name)
def test_both_paths_have_the_same_bits(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    for reduction in REDUCTIONS:
        fast = results(x, y, reduction=reduction)
        with general_path():
            assert_same_bits(fast, results(x, y, reduction=reduction))
        assert_array_equal(fast[0], fast[1])
        assert_array_equal(fast[2], fast[3])


@pytest.mark.parametrize("shape", [(3000, 10), (700, 200), (64, 4099), (9, 21, 40, 40), (4, 60, 70, 9)], ids=name)
def test_one_thread_and_two_give_the_same_bits(shape, rng):
    x, y = logits(rng, shape), with_ignored(rng, class_index(rng, shape), -100)
    assert_same_bits(*by_one_thread_and_two(lambda: (*results(x, y), *results(x, y, reduction="mean"))))


@pytest.mark.parametrize("shape", [(19, 10), (5, 65), (3, 21, 70)], ids=name)
def test_out_is_filled_also_in_place(shape, rng):
    x, y, w = logits(rng, shape), with_ignored(rng, class_index(rng, shape), -100), weights(rng, class_count(shape))
    loss, grad = F.focal_loss_value_and_grad(x, y, w)
    for out in (np.full_like(x, 9), x.copy()):
        again, result = F.focal_loss_value_and_grad(x, y, w, out=out)
        assert result is out and again == loss
        assert_array_equal(out, grad)
    over = x.copy()
    assert F.focal_loss_backward(1.0, over, y, w, out=over) is over
    assert_array_equal(over, grad)


def test_grad_output_multiplies_the_gradient(rng):
    x, y = logits(rng, (9, 5)), class_index(rng, (9, 5))
    loss, grad = F.focal_loss_value_and_grad(x, y, grad_output=4.0)
    assert loss == F.focal_loss(x, y)
    assert_array_equal(grad, 4 * F.focal_loss_backward(1.0, x, y))


# ---- errors --------------------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("bad", [-1e-4, -1, np.nan, np.inf, -np.inf, np.float32(-0.5)], ids=str)
def test_a_negative_or_infinite_gamma_is_a_value_error(bad, call):
    with refused(ValueError, f"gamma should be a finite number, at least 0; got {float(bad)}"):
        call(X, Y, gamma=bad)


@every_form
@pytest.mark.parametrize("bad", ["x", "0.1", b"1", None, 1j, [0.1], np.ones(1)], ids=repr)
def test_a_gamma_that_is_no_number_is_a_type_error(bad, call):
    with refused(TypeError, "gamma", repr(bad)):
        call(X, Y, gamma=bad)


@every_form
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_probabilities_are_refused(gamma, call):
    with refused(TypeError, "target should hold class numbers, of shape (2,); got probabilities, shape (2, 3)"):
        call(X, P, gamma=gamma)


@every_form
@pytest.mark.parametrize("option", ["label_smoothing", "lse_square_scale"])
def test_options_of_cross_entropy_alone_are_refused(option, call):
    with pytest.raises(TypeError, match=option):
        call(X, Y, **{option: 0.1})


def test_an_error_leaves_out_as_it_was():
    out = np.full_like(X, 9)
    for bad, error in (({"gamma": -1.0}, ValueError), ({"gamma": "x"}, TypeError), ({"divisor": 0}, ValueError)):
        with refused(error, *bad):
            F.focal_loss_value_and_grad(X, Y, **bad, out=out)
    with refused(TypeError, "probabilities"):
        F.focal_loss_backward(1.0, X, P, out=out)
    with refused(IndexError, "7", "at index (1,)"):
        F.focal_loss_value_and_grad(X, np.array([0, 7]), out=out)
    assert (out == 9).all()


@pytest.mark.parametrize("gamma", [1e30, 1e38, 1e300])
def test_a_huge_gamma_leaves_only_rows_without_hope(gamma):
    x = np.float32([[0, 0], [0, -np.inf]])
    loss, grad = F.focal_loss_value_and_grad(x, np.array([1, 1]), gamma=gamma, reduction="none")
    assert_array_equal(loss, [0, np.inf])
    assert_array_equal(grad, [[0, 0], [1, -1]])


# ---- the module ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_module_equals_the_functions(reduction, dtype, rng):
    x, y, w = logits(rng, (70, 10), dtype), with_ignored(rng, class_index(rng, (70, 10)), 3), weights(rng, 10, dtype)
    v = rng.uniform(0, 2, rows_shape(x.shape)).astype(dtype)
    options = {"gamma": 1.5, "reduction": reduction, "ignore_index": 3}
    module = nbloss.FocalLoss(w, **options)
    assert_array_equal(module(x, y, sample_weight=v), F.focal_loss(x, y, w, sample_weight=v, **options))
    assert_array_equal(module.backward(), F.focal_loss_backward(1.0, x, y, w, sample_weight=v, **options))


def test_the_module_keeps_and_shows_its_options(rng):
    module = nbloss.FocalLoss(gamma=0.5, divisor=3)
    assert repr(module) == "FocalLoss(ignore_index=-100, reduction='mean', gamma=0.5, divisor=3.0)"
    assert "gamma" not in repr(nbloss.FocalLoss())
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    for other in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(other) == repr(module)
        assert_array_equal(other(x, y), F.focal_loss(x, y, gamma=0.5, divisor=3))
