"""The second derivatives of cross entropy with scaled and capped logits: against the chain rule in the widest float, and PyTorch."""

from itertools import product

import numpy as np
import pytest
import reference
from bits import assert_same_bits, by_one_thread_and_two
from layouts import LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from problems import FLOATS, class_count, class_index, eps, floor, logits, name, probabilities, rows_shape, weights, with_ignored, work

import nbloss
import nbloss.functional as F

SHAPES = [(7,), (5, 3), (70, 10), (9, 49), (33, 300), (2, 21, 12, 12), (2, 60, 9, 9)]
MAPS = [{"softcap": 5.0}, {"softcap": 30.0, "logit_scale": 1.5}, {"logit_scale": 0.25}]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=name)
every_map = pytest.mark.parametrize("of_logits", MAPS, ids=str)


def chain_rule(v, x, target, *given, softcap=None, logit_scale=1.0, **options):
    """``(product, diagonal, size of the terms of each)`` in the widest float: u = k tanh(a x / k), or a x."""
    wide, a = x.astype(reference.WIDE), reference.WIDE(logit_scale)
    u, slope, bend = a * wide, a, reference.WIDE(0)
    if softcap is not None:
        k = reference.WIDE(softcap)
        tanh = np.tanh(a * wide / k)
        u, slope = k * tanh, a / np.cosh(a * wide / k) ** 2
        bend = -2 * tanh * (a / k) * slope
    g = options.pop("grad_output", 1.0)
    spread, hit = reference.cross_entropy_terms(g, u, target, *given, **options)
    of_u = reference.cross_entropy_hvp(slope * v.astype(reference.WIDE), u, target, *given, grad_output=g, **options)
    diagonal = reference.cross_entropy_hessian_diag(u, target, *given, grad_output=g, **options)
    curve = np.abs(bend) * (np.abs(spread) + np.abs(hit))
    terms = np.abs(slope * of_u) + curve * np.abs(v.astype(reference.WIDE)), np.abs(slope * slope * diagonal) + curve
    return slope * of_u + (spread - hit) * bend * v.astype(reference.WIDE), slope * slope * diagonal + (spread - hit) * bend, terms


def both(v, x, y, *given, **options):
    return F.cross_entropy_hvp(v, x, y, *given, **options), F.cross_entropy_hessian_diag(x, y, *given, **options)


def check(v, x, y, *given, **options):
    *expected, sizes = chain_rule(v, x, y, *given, **options)
    gap = np.abs(reference.classes_last(x).astype(float)).max() * options.get("logit_scale", 1.0)
    gap = min(gap, options.get("softcap", np.inf))  # an error of u is one of the exponent
    for result, wanted, terms in zip(both(v, x, y, *given, **options), expected, sizes, strict=True):
        assert result.dtype == x.dtype and result.shape == x.shape
        rows = reference.classes_last(terms)
        whole = reference.classes_back(np.broadcast_to(rows.sum(axis=-1, keepdims=True), rows.shape), x)
        tolerance = eps(work(x.dtype)) * ((16 + 4 * gap) * terms + 4 * whole) + eps(x.dtype) * np.abs(wanted)
        assert (np.abs(result.astype(reference.WIDE) - wanted) <= tolerance + 4 * floor(x.dtype)).all(), (x.shape, x.dtype, options)


@every_map
@every_shape
def test_values(rng, shape, of_logits):
    for dtype in FLOATS if len(shape) == 2 else [np.float32]:
        v, x, y = logits(rng, shape, dtype, 1.0), logits(rng, shape, dtype, 4.0), class_index(rng, shape)
        check(v, x, y, **of_logits)
        g = rng.uniform(0.5, 2.0, rows_shape(shape)).astype(np.float32)
        check(v, x, y, reduction="none", grad_output=g, lse_square_scale=0.01, **of_logits)


@every_map
@pytest.mark.parametrize("shape", [(70, 10), (9, 120), (2, 7, 5)], ids=name)
def test_every_option(rng, shape, of_logits):
    v, x, y = logits(rng, shape, np.float32, 1.0), logits(rng, shape, np.float32, 4.0), class_index(rng, shape)
    w, own = weights(rng, class_count(shape)), rng.integers(0, 17, rows_shape(shape)) / 8
    every = product([y, with_ignored(rng, y, -100), probabilities(rng, shape)], [(), (w,)], [{}, {"sample_weight": own}], [0.0, 0.1])
    for target, given, sampled, smoothing in every:
        check(v, x, target, *given, label_smoothing=smoothing, **sampled, **of_logits)
        check(v, x, target, *given, label_smoothing=smoothing, divisor=7.5, lse_square_scale=0.02, **sampled, **of_logits)


@every_map
def test_rows_that_do_not_count_are_zero_whatever_they_hold(rng, of_logits):
    for shape in ((6, 5), (6, 70)):
        v, x, y = logits(rng, shape, np.float32, 1.0), logits(rng, shape), class_index(rng, shape)
        y[1], x[1], v[1] = -100, np.nan, np.inf
        x[2] = np.inf
        own = np.ones(6, np.float32)
        own[2] = 0
        for result in both(v, x, y, sample_weight=own, **of_logits):
            assert (result[1:3] == 0).all() and np.isfinite(result).all()


@every_map
def test_a_masked_class_adds_nothing(rng, of_logits):
    for classes in (5, 70):
        v, x, y = logits(rng, (4, classes), np.float64, 1.0), logits(rng, (4, classes), np.float64), np.zeros(4, int)
        masked, narrow = x.copy(), np.delete(x, 2, axis=1)
        masked[:, 2] = -np.inf
        for result, other in zip(both(v, masked, y, **of_logits), both(np.delete(v, 2, axis=1), narrow, y, **of_logits), strict=True):
            assert (result[:, 2] == 0).all()
            assert_allclose(np.delete(result, 2, axis=1), other, rtol=1e-12, atol=1e-300)


@every_map
@pytest.mark.parametrize("shape", [(33, 10), (12, 70), (2, 5, 6), (2, 60, 6)], ids=name)
def test_same_bits_in_every_layout_and_in_place(rng, shape, of_logits):
    v, x, y = logits(rng, shape, np.float32, 1.0), logits(rng, shape), class_index(rng, shape)
    expected = both(v, x, y, **of_logits)
    for make in LAYOUTS.values():
        for result, wanted in zip(both(make(v), make(x), y, **of_logits), expected, strict=True):
            assert_array_equal(result, wanted)
    place = x.copy()
    assert F.cross_entropy_hvp(v, place, y, out=place, **of_logits) is place
    assert_array_equal(place, expected[0])
    place = v.copy()
    assert_array_equal(F.cross_entropy_hvp(place, x, y, out=place, **of_logits), expected[0])


def test_many_rows_are_the_rows_alone(rng):
    """More positions than one block holds, and with any number of threads."""
    for shape in ((9000, 70), (1, 40, 12000), (40, 11, 30, 30)):
        v, x, y = logits(rng, shape, np.float32, 1.0), logits(rng, shape), class_index(rng, shape)
        options = {"softcap": 4.0, "reduction": "sum"}
        whole, by_two = by_one_thread_and_two(lambda v=v, x=x, y=y, options=options: both(v, x, y, **options))
        assert_same_bits(whole, by_two)
        if shape[0] > 1:
            part = slice(shape[0] - 3, None)
            alone = both(v[part], x[part], y[part], **options)
            whole = [result[part] for result in whole]
        else:
            part = slice(11000, None)
            alone = both(v[..., part], x[..., part], y[..., part], **options)
            whole = [result[..., part] for result in whole]
        for a, b in zip(whole, alone, strict=True):
            assert_array_equal(a, b)


@every_map
def test_against_autograd_of_torch(rng, of_logits):
    torch = pytest.importorskip("torch", reason="a comparison with PyTorch")
    v, x, y = rng.normal(0, 1, (6, 9)), rng.normal(0, 6, (6, 9)), rng.integers(0, 9, 6)

    def loss(logits):
        u, cap = logits * of_logits.get("logit_scale", 1.0), of_logits.get("softcap")
        u = u if cap is None else cap * torch.tanh(u / cap)
        return torch.nn.functional.cross_entropy(u, torch.tensor(y), label_smoothing=0.1)

    ours = both(v, x, y, label_smoothing=0.1, **of_logits)
    wanted = torch.autograd.functional.hvp(loss, torch.tensor(x), torch.tensor(v))[1].numpy()
    hessian = torch.autograd.functional.hessian(loss, torch.tensor(x)).numpy()
    assert_allclose(ours[0], wanted, rtol=1e-11, atol=1e-14)
    assert_allclose(ours[1], np.einsum("ijij->ij", hessian), rtol=1e-11, atol=1e-14)


def test_refused_values_and_the_gradients_of_the_same_numbers():
    x, y = np.zeros((2, 3)), np.zeros(2, int)
    for options in ({"softcap": -1.0}, {"softcap": 0}, {"logit_scale": np.inf}, {"logit_scale": -2.0}):
        with pytest.raises(ValueError, match="should be"):
            F.cross_entropy_hvp(x, x, y, **options)
        with pytest.raises(ValueError, match="should be"):
            F.cross_entropy_hessian_diag(x, y, **options)
    assert nbloss.functional.cross_entropy_hvp(x, x, y, softcap=None, logit_scale=1.0).shape == (2, 3)


def test_calls_with_and_without_other_options_take_the_same_kernels_in_turns(rng):
    v, x, y = logits(rng, (9, 70), np.float32, 1.0), logits(rng, (9, 70)), class_index(rng, (9, 70))
    for lam in (0.0, 0.01, 0.0):
        check(v, x, y, softcap=8.0, lse_square_scale=lam)
        check(v, x, y, logit_scale=2.0, lse_square_scale=lam)
