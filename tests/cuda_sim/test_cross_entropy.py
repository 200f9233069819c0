"""Cross entropy of the CUDA kernels against the oracle: every kind of target, argument and kernel."""

import calls
import numpy as np
import problems
import pytest
import reference
import simulator
from problems import DTYPES, INTEGERS, WIDE_DTYPES, name, work

# (outer, C, inner): one class, short, odd and long rows; strided classes in registers and in chunks, more positions than threads of a block
ROWS = [(3, 1, 1), (9, 3, 1), (5, 7, 1), (4, 10, 1), (2, 33, 1), (3, 130, 1), (2, 403, 1)]
CHANNELS_FIRST = [(2, 1, 3), (2, 3, 70), (3, 7, 5), (2, 21, 3), (1, 32, 4), (2, 33, 3), (1, 100, 5)]
EMPTY = [(0, 5, 1), (0, 5, 3)]
OPTIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"label_smoothing": 0.1}, id="smooth"),
    pytest.param({"weighted": True, "ignore_index": 0}, id="weighted"),
    pytest.param({"weighted": True, "ignore_index": 1, "label_smoothing": 0.3}, id="weighted-smooth"),
]


def made(rng, shape, dtype, weighted=False, soft=False, **options):
    """``(logits, target, weights, options of the call)``."""
    outer, classes, inner = shape
    x = problems.logits(rng, shape, dtype)
    w = problems.weights(rng, classes, work(dtype)) if weighted else None
    if soft:
        return x, problems.probabilities(rng, shape, work(dtype)), w, options
    ignored = options.get("ignore_index", -100)
    return x, problems.with_ignored(rng, rng.integers(0, classes, (outer, inner)), ignored), w, options


def assert_right(x, target, w, options, loss, gradient, g=1.0, reduction="none"):
    """Losses are within 4 ulp, gradients within the rounding errors of their two terms; of ignored positions both are exactly 0."""
    expected = reference.cross_entropy(x, target, w, reduction=reduction, **options)
    problems.assert_loss(loss, expected, x.dtype, terms=x.shape[1], note=options)
    if gradient is not None:
        spread, hit = reference.cross_entropy_terms(g, x, target, w, reduction=reduction, **options)
        problems.assert_gradient(gradient, x, spread, hit, options)
        ignored = target == options.get("ignore_index", -100) if target.shape != x.shape else np.zeros((x.shape[0], x.shape[2]), bool)
        assert (gradient.transpose(0, 2, 1)[ignored] == 0).all()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", ROWS + CHANNELS_FIRST + EMPTY, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_class_numbers(rng, dtype, shape, options):
    x, target, w, options = made(rng, shape, dtype, **options)
    g = rng.uniform(0.5, 2, target.shape)
    loss, gradient = calls.cross_entropy(x, target, w, g=g, **options)
    assert_right(x, target, w, options, loss, gradient, g.astype(work(dtype)))
    alone, nothing = calls.cross_entropy(x, target, w, gradient=False, **options)
    assert nothing is None
    np.testing.assert_array_equal(alone, loss)


@pytest.mark.parametrize("options", [{}, {"weighted": True, "label_smoothing": 0.1}, {"label_smoothing": 1.0}], ids=str)
@pytest.mark.parametrize("shape", ROWS + CHANNELS_FIRST + EMPTY, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities(rng, dtype, shape, options):
    x, target, w, options = made(rng, shape, dtype, soft=True, **options)
    g = rng.uniform(0.5, 2, (shape[0], shape[2]))
    loss, gradient = calls.cross_entropy(x, target, w, g=g, **options)
    assert_right(x, target, w, options, loss, gradient, g.astype(work(dtype)))
    np.testing.assert_array_equal(calls.cross_entropy(x, target, w, gradient=False, **options)[0], loss)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(5, 7, 1), (2, 3, 70), (2, 40, 3)], ids=name)
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_reductions(rng, dtype, shape, reduction, soft):
    x, target, w, options = made(rng, shape, dtype, weighted=True, soft=soft, label_smoothing=0.1)
    loss, gradient = calls.cross_entropy(x, target, w, reduction=reduction, g=-1.5, **options)
    assert_right(x, target, w, options, loss[()], gradient, -1.5, reduction)


@pytest.mark.parametrize("offset", [1, 3, 6])
@pytest.mark.parametrize("shape", [(3, 37, 1), (2, 203, 1), (2, 5, 3), (1, 40, 3)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_addresses(rng, dtype, shape, offset):
    x, target, w, options = made(rng, shape, dtype)
    out = calls.with_offset(x, (offset * 3) % 8)
    assert_right(x, target, w, options, *calls.cross_entropy(calls.with_offset(x, offset), target, w, out=out, **options))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"soft": True}], ids=str)
@pytest.mark.parametrize("shape", [(3, 7, 1), (3, 130, 1), (2, 7, 3), (2, 40, 3)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_may_overwrite_the_logits(rng, dtype, shape, options):
    x, target, w, options = made(rng, shape, dtype, **options)
    loss, gradient = calls.cross_entropy(x, target, w, **options)
    both = x.copy()
    again, _ = calls.cross_entropy(both, target, w, out=both, **options)
    np.testing.assert_array_equal(calls.stored(both), calls.stored(gradient))
    np.testing.assert_array_equal(again, loss)


@pytest.mark.parametrize("layout", ["transposed", "reversed", "every other", "sliced", "one row for all"])
@pytest.mark.parametrize("shape", [(4, 6, 5), (6, 40, 1)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_with_any_strides(rng, dtype, shape, layout):
    outer, classes, inner = shape
    if layout == "transposed":
        x = problems.logits(rng, (inner, classes, outer), dtype).transpose(2, 1, 0)
    elif layout == "reversed":
        x = problems.logits(rng, shape, dtype)[::-1, ::-1]
    elif layout == "every other":
        x = problems.logits(rng, (outer, 2 * classes, inner), dtype)[:, ::2]
    elif layout == "sliced":
        x = problems.logits(rng, (outer, classes + 3, inner + 2), dtype)[:, 2:-1, :inner]
    else:
        x = np.broadcast_to(problems.logits(rng, (1, classes, inner), dtype), shape)
    target = rng.integers(0, classes, (outer, inner))
    assert_right(x, target, None, {}, *calls.cross_entropy(x, target))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=["plain", "smooth"])
@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 70, 1), (2, 5, 3), (2, 40, 3)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(rng, dtype, shape, options):
    """-inf has probability 0. A row with nan, with +inf or with -inf only is nan, and no other row. An ignored row may hold anything."""
    outer, classes, inner = shape
    x, target, w, options = made(rng, shape, dtype)
    rows, y = x.transpose(0, 2, 1).reshape(-1, classes).copy(), target.reshape(-1)
    y[:] = np.arange(6) % 3
    rows[0, 3] = -np.inf
    rows[1, 4] = np.nan
    rows[2, 0] = np.inf
    rows[3] = -np.inf
    rows[4], y[4] = np.nan, -100
    rows[5, :-1], y[5] = -np.inf, classes - 1
    x = np.ascontiguousarray(rows.reshape(outer, inner, classes).transpose(0, 2, 1))
    loss, gradient = calls.cross_entropy(x, target, w, **options)
    with np.errstate(all="ignore"):
        expected = reference.cross_entropy(x, target, reduction="none", **options).reshape(-1)
    assert np.isnan(loss.reshape(-1)[1:4]).all() and loss.reshape(-1)[4] == 0
    np.testing.assert_allclose(loss.reshape(-1)[[0, 5]].astype(float), expected[[0, 5]].astype(float), rtol=1e-6)
    gradient = gradient.transpose(0, 2, 1).reshape(-1, classes).astype(float)
    assert np.isnan(gradient[1:4]).all()
    assert (gradient[4] == 0).all()
    assert np.isfinite(gradient[0]).all()
    if not options:
        assert gradient[0, 3] == 0 and (gradient[5] == 0).all() and expected[5] == 0


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 70, 1), (1, 3, 2), (1, 70, 2)], ids=name)
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_a_target_of_probability_0_has_an_infinite_loss(rng, dtype, shape):
    x, target, w, _ = made(rng, shape, dtype)
    target[...] = 1
    x[:, 1] = -np.inf
    loss, gradient = calls.cross_entropy(x, target, w)
    assert (loss == np.inf).all()
    assert np.isfinite(np.delete(gradient, 1, axis=1)).all()


@pytest.mark.parametrize("shape", [(4, 5, 1), (4, 70, 1), (2, 5, 2), (2, 40, 2)], ids=name)
def test_a_target_probability_of_0_at_minus_infinity_adds_0(rng, shape):
    x, target, w, _ = made(rng, shape, np.float32, soft=True)
    x[:, 2], target[:, 2] = -np.inf, 0
    assert_right(x, target, w, {}, *calls.cross_entropy(x, target, w))


@pytest.mark.parametrize("shape", [(4, 3, 1), (4, 70, 1), (2, 3, 2), (2, 40, 2)], ids=name)
@pytest.mark.parametrize("margin", [0.5, 5.25, 20.125, 60.3])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.125}], ids=["plain", "smooth"])
def test_a_confident_row_keeps_its_digits(rng, shape, margin, options):
    """The gradient at the target is as exact as the others: 8 ulp of its own size, not of 1."""
    x, target, w, options = made(rng, shape, np.float32, **options)
    target[...] = 1
    x /= 10
    x[:, 1] += np.float32(margin)
    loss, gradient = calls.cross_entropy(x, target, w, **options)
    problems.assert_loss(loss, reference.cross_entropy(x, target, reduction="none", **options), x.dtype)
    if not options:
        expected = reference.cross_entropy_backward(np.ones(target.shape), x, target, reduction="none")
        others = -np.delete(expected, 1, axis=1).sum(axis=1)  # p - 1 without cancellation
        expected[:, 1] = others
        np.testing.assert_allclose(gradient.astype(reference.WIDE), expected, rtol=8 * problems.eps(np.float32), atol=1e-37)


def test_a_large_common_offset_loses_no_digits():
    x = np.full((2, 2, 1), 1e8, np.float32)
    loss, _ = calls.cross_entropy(x, np.zeros((2, 1), np.int64))
    np.testing.assert_allclose(loss, np.log(2), rtol=2e-7)


@pytest.mark.parametrize("dtype", INTEGERS, ids=name)
@pytest.mark.parametrize("shape", [(4, 6, 1), (2, 6, 3), (2, 40, 3)], ids=name)
def test_targets_of_every_integer_dtype(rng, dtype, shape):
    x, target, w, _ = made(rng, shape, np.float32)
    target = np.where(target < 0, 5, target).astype(dtype)
    assert_right(x, target, w, {"ignore_index": 5}, *calls.cross_entropy(x, target, w, ignore_index=5))


@pytest.mark.parametrize("shape", [(3, 7, 1), (2, 300, 1), (2, 7, 3), (1, 40, 3)], ids=name)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"soft": True}], ids=str)
def test_the_bits_do_not_depend_on_the_order_of_threads(rng, shape, options):
    x, target, w, options = made(rng, shape, np.float32, **options)
    first = calls.cross_entropy(x, target, w, **options)
    for seed in range(3):
        simulator.seed(seed)
        again = calls.cross_entropy(x, target, w, **options)
        np.testing.assert_array_equal(again[0], first[0])
        np.testing.assert_array_equal(again[1], first[1])


@pytest.mark.parametrize("shape", [(2, 700, 3), (1, 3000, 2), (1, 5000, 1)], ids=name)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"soft": True}], ids=str)
def test_many_classes(rng, shape, options):
    x, target, w, options = made(rng, shape, np.float32, **options)
    assert_right(x, target, w, options, *calls.cross_entropy(x, target, w, **options))


@pytest.mark.parametrize("order", ["rising", "falling"])
@pytest.mark.parametrize("inner", [1, 2])
def test_the_maximum_changes_in_every_chunk(rng, order, inner):
    """Every chunk, thread and block has a larger maximum than the one before, or none has."""
    ramp = np.linspace(-30, 30, 600).astype(np.float32)[:: 1 if order == "rising" else -1]
    x = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (2, 600, inner)))
    target = rng.integers(0, 600, (2, inner))
    assert_right(x, target, None, {}, *calls.cross_entropy(x, target))
