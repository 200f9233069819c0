"""The fast path gives the bits and the errors of the general one, which takes what the fast path leaves."""

from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from problems import FLOATS, class_count, class_index, general_path, logits, name, rows_shape, weights, with_ignored, work

import nbloss.functional as F
from nbloss.kernels.cpu.compile import jit

SHAPES = [
    (1, 1),
    (33, 10),
    (8193, 3),
    (5, 65),
    (700, 200),
    (20000, 7),
    (4, 5, 6),
    (3, 70, 9),
    (9, 21, 40, 40),
    (2, 4097, 3),
    (140_000, 2),
    (262_145, 1),
]

OTHERS = [(33, 10), (5, 65)]  # for the other dtypes


def both_paths(x, y, weight, **options):
    """(loss alone, loss, gradient) by the fast path, then by the general one."""
    for path in (nullcontext, general_path):
        with path():
            yield (
                F.cross_entropy(x, y, weight, **options),
                *F.cross_entropy_value_and_grad(x, y, weight, **options, out=np.full_like(x, 9)),
                F.cross_entropy_backward(-1.7, x, y, weight, **options, out=np.full_like(x, 9)),
                F.nll_loss(x, y, weight, **options),
                F.nll_loss_backward(-1.7, x, y, weight, **options, out=np.full_like(x, 9)),
            )


CASES = [pytest.param(np.float32, s, id=f"float32-{name(s)}") for s in SHAPES]
CASES += [pytest.param(np.float16, (9, 21, 40, 40), id="float16-9x21x40x40")]
CASES += [pytest.param(d, s, id=f"{np.dtype(d).name}-{name(s)}") for d in FLOATS if d != np.float32 for s in OTHERS]


@pytest.mark.parametrize(("dtype", "shape"), CASES)
def test_both_paths_give_the_same_bits(shape, dtype, rng):
    x = logits(rng, shape, dtype)
    for weighted, ignored, reduction in product([False, True], [-100, 0], ["mean", "sum", "none"]):
        y = with_ignored(rng, class_index(rng, shape), ignored)
        weight = weights(rng, class_count(shape), work(dtype)) if weighted else None
        fast, full = both_paths(x, y, weight, ignore_index=ignored, reduction=reduction)
        for ours, theirs in zip(fast, full, strict=True):
            assert_array_equal(ours, theirs, err_msg=f"{weighted} {ignored} {reduction}")
            assert type(ours) is type(theirs)
            assert ours.dtype == theirs.dtype
            assert np.shape(ours) == np.shape(theirs)
        assert_array_equal(fast[0], fast[1])


@pytest.mark.parametrize("shape", [(32, 10), (4096, 100), (12, 21, 30, 30)], ids=name)
@pytest.mark.parametrize("at", [0, -1])
def test_a_bad_target_is_reported_before_anything_is_written(shape, at, rng):
    x, y = logits(rng, shape), class_index(rng, shape)
    y.flat[at] = shape[1]
    out = np.full_like(x, 9)
    for reduction in ("mean", "sum", "none"):
        with pytest.raises(IndexError, match=f"got {shape[1]} at index") as fast:
            F.cross_entropy_value_and_grad(x, y, reduction=reduction, out=out)
        with general_path(), pytest.raises(IndexError) as full:
            F.cross_entropy(x, y, reduction=reduction)
        assert str(fast.value) == str(full.value)
    assert (out == 9).all()


@pytest.mark.parametrize("shape", [(50, 6), (3000, 70), (5, 6, 200)], ids=name)
def test_ignored_rows_hold_anything(shape, rng):
    x, y = logits(rng, shape), np.zeros(rows_shape(shape), np.int64)
    y[::2] = -100
    x[::2] = np.nan
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    assert np.isfinite(loss)
    assert (grad[::2] == 0).all()
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 3, 1), (2, 3)], ids=name)
@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 3.0]])
def test_a_row_alone_that_is_ignored_is_not_read(weight, reduction, shape):
    """A scale of one number may stand for all rows, or for the only one."""
    x, y = np.full(shape, -np.inf, np.float32), np.ones(rows_shape(shape), int)
    w = None if weight is None else np.array(weight, np.float32)
    options = {"ignore_index": 1, "reduction": reduction}
    for path in (nullcontext, general_path):
        with path():
            for loss in (F.nll_loss, F.cross_entropy):
                assert (loss(x, y, w, **options) == 0).all()
            for gradient in (F.nll_loss_backward, F.cross_entropy_backward):
                assert (gradient(1.0, x, y, w, **options) == 0).all()


@pytest.mark.parametrize("shape", [(300_001, 2), (3, 5, 301, 307)], ids=name)
@pytest.mark.parametrize("ignored", [-100, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [F.nll_loss, F.cross_entropy])
def test_a_sum_in_one_pass_has_no_largest_size(loss, weighted, ignored, shape, rng):
    """Its sums are those of the general path at every level of their tree, and it checks every target."""
    x, y = logits(rng, shape), with_ignored(rng, class_index(rng, shape), ignored)
    weight = weights(rng, class_count(shape), np.float32) if weighted else None
    for reduction in ("mean", "sum"):
        options = {"ignore_index": ignored, "reduction": reduction}
        fast = loss(x, y, weight, **options)
        with general_path():
            assert_array_equal(loss(x, y, weight, **options), fast)
    for bad in (0, y.size // 2, y.size - 1):
        wrong = y.copy()
        wrong.flat[bad:] = shape[1]
        with pytest.raises(IndexError, match=f"; {y.size - bad} of {y.size} targets are out of range") as fast:
            loss(x, wrong, weight, ignore_index=ignored)
        with general_path(), pytest.raises(IndexError) as full:
            loss(x, wrong, weight, ignore_index=ignored)
        assert str(fast.value) == str(full.value)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("shape", [(2, 1, 70), (3, 2, 9, 21), (2, 10, 28, 28), (1, 21, 700), (5, 47, 129), (2, 48, 40, 41)], ids=name)
def test_losses_alone_of_channels_first_are_those_of_rows_and_of_calls_with_gradients(shape, dtype, rng):
    """Also where exponentials without the maximum would overflow: far from 0, one class above all others, nothing finite."""
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    positions = np.moveaxis(x, 1, -1).reshape(-1, shape[1])  # a copy
    positions[3::50] += 90
    positions[5::50] -= 300
    positions[7::50, 0] += 40
    positions[11::500] = -np.inf
    positions[13::500] = np.nan
    x = np.ascontiguousarray(np.moveaxis(positions.reshape(*rows_shape(shape), shape[1]), -1, 1))
    alone = F.cross_entropy(x, y, reduction="none")
    assert_array_equal(alone.reshape(-1), F.cross_entropy(positions, y.reshape(-1), reduction="none"))
    assert_array_equal(alone, F.cross_entropy_value_and_grad(x, y, reduction="none")[0])
    assert_array_equal(F.cross_entropy(x, y, reduction="sum"), F.cross_entropy_value_and_grad(x, y, reduction="sum")[0])
    y = np.where(np.isfinite(alone), y, -100)
    assert np.isfinite(F.cross_entropy(x, y))
    assert_array_equal(F.cross_entropy(x, y), F.cross_entropy_value_and_grad(x, y)[0])


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_nll_of_rows_in_any_layout(dtype, rng):
    large, y = logits(rng, (1400, 30), dtype), class_index(rng, (700, 10))
    packed = np.zeros(700, [("a", "u1"), ("x", dtype, 10)])
    packed["x"] = large[:700, :10]  # an odd number of bytes apart
    ways = [large[::2, ::3], large[:700, 20:9:-1][:, :10], np.asfortranarray(large)[700:, 3:13], large[-1:699:-1, 5:15], packed["x"]]
    ways += [np.broadcast_to(large[0, :10], (700, 10))]
    for x in ways:
        for options in ({}, {"ignore_index": 3}, {"reduction": "sum"}):
            expected = F.nll_loss(np.ascontiguousarray(x), y, **options)
            assert_array_equal(F.nll_loss(x, y, **options), expected)
            with general_path():
                assert_array_equal(F.nll_loss(x, y, **options), expected)


@pytest.mark.parametrize("shape", [(50, 6), (3000, 70), (5, 6, 200)], ids=name)
def test_in_place(shape, rng):
    x, y = logits(rng, shape), class_index(rng, shape)
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    again, same = F.cross_entropy_value_and_grad(x, y, out=x)
    assert same is x
    assert again == loss
    assert_array_equal(x, grad)


@pytest.mark.parametrize("weight", [[0.0, 0.0], [1.0, -1.0], [-1.0, -2.0], [np.nan, 1.0]])
def test_weights_without_a_positive_sum_take_the_general_path(weight, rng):
    x, y, w = logits(rng, (20, 2)), np.arange(20) % 2, np.array(weight, np.float32)
    for reduction in ("mean", "sum"):
        fast, full = both_paths(x, y, w, reduction=reduction)
        for ours, theirs in zip(fast, full, strict=True):
            assert_array_equal(ours, theirs)
        in_place = x.copy()
        loss, _ = F.cross_entropy_value_and_grad(in_place, y, w, reduction=reduction, out=in_place)
        assert_array_equal(loss, fast[1])
        assert_array_equal(in_place, fast[2])


@pytest.mark.parametrize("dim", [-1, 0])
def test_a_number_alone_and_empty_rows_take_the_general_path(dim):
    assert F.log_softmax(np.float32(3), dim) == 0
    assert F.log_softmax(np.array(3.0), dim) == 0
    assert F.log_softmax(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert F.log_softmax(np.zeros((3, 0), np.float32)).shape == (3, 0)


AXES = [((7,), 0), ((32, 10), 1), ((32, 10), 0), ((3, 4, 5), 2), ((3, 4, 5), 1), ((2, 70, 3, 9), 1), ((9, 300), 1), ((5000, 3), 0)]


@pytest.mark.parametrize("function", [F.log_softmax, F.softmax], ids=["log_softmax", "softmax"])
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_log_softmax_and_softmax_are_those_of_the_general_path(dtype, function, rng):
    for shape, axis in AXES:
        x = logits(rng, shape, dtype)
        with general_path():
            full = function(x, axis)
        out = np.empty_like(x)
        assert function(x, axis, out=out) is out
        for ours in (function(x, axis), function(x, axis - len(shape)), out, function(x, axis, out=x)):
            assert_array_equal(ours, full)
            assert ours.dtype == x.dtype


@pytest.mark.parametrize(
    ("function", "backward"), [(F.log_softmax, F.log_softmax_backward), (F.softmax, F.softmax_backward)], ids=["log_softmax", "softmax"]
)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_the_gradients_of_log_softmax_and_softmax_are_those_of_the_general_path(dtype, function, backward, rng):
    for shape, axis in AXES:
        y, g = function(logits(rng, shape, dtype), axis), logits(rng, shape, dtype)
        with general_path():
            full = backward(g, y, axis)
        out = np.empty_like(y)
        assert backward(g, y, axis, out=out) is out
        over_y, over_g = y.copy(), g.copy()
        backward(g, over_y, axis, out=over_y)
        backward(over_g, y, axis, out=over_g)
        for ours in (backward(g, y, axis), backward(g, y, axis - len(shape)), out, over_y, over_g):
            assert_array_equal(ours, full)
            assert ours.dtype == y.dtype
        assert_array_equal(backward(1.0, y, axis), backward(np.ones_like(y), y, axis))


# ------------------------------ calls that were made before ------------------------------


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(np.float16, (32, 10)), *((np.float32, shape) for shape in [(32, 10), (20, 1), (1, 6), (12, 70), (4, 3, 5)])],
    ids=lambda value: name(np.dtype(value) if isinstance(value, type) else value),
)
def test_a_call_has_the_bits_of_the_general_path_however_often_it_is_made(shape, dtype, rng, monkeypatch):
    """In every order of axes, with an upstream gradient of every kind, and with an ``out`` of another order than the logits."""
    monkeypatch.setattr(jit, "ready", {})
    given, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    per_row = logits(rng, rows_shape(shape), work(dtype))
    for order, out_order, g in product("CF", "CF", [1.0, 3, np.float32(0.5), per_row, per_row[::-1], -per_row]):
        results = []
        for path in (nullcontext, nullcontext, nullcontext, general_path):
            x, out = np.array(given, order=order), np.full(shape, 9, dtype, order=out_order)
            with path():
                loss, gradient = F.cross_entropy_value_and_grad(x, y, reduction="none", grad_output=g, out=out)
                results.append((loss, gradient.copy(), F.cross_entropy_backward(g, x, y, reduction="none"), F.nll_loss(x, y)))
            assert gradient is out
        for again in results[1:]:
            for first, other in zip(results[0], again, strict=True):
                assert_array_equal(first, other)


def test_an_upstream_gradient_of_another_shape_is_an_error_after_calls_of_the_right_one(rng):
    x, y = logits(rng, (32, 10)), class_index(rng, (32, 10))
    for _ in range(2):
        F.cross_entropy_backward(np.ones(32, np.float32), x, y, reduction="none")
    for wrong in (np.ones(31, np.float32), np.ones((32, 1), np.float32)):
        with pytest.raises(ValueError, match="grad_output"):
            F.cross_entropy_backward(wrong, x, y, reduction="none")


def test_a_call_with_another_order_of_out_does_not_choose_the_kernel_of_later_calls(rng, monkeypatch):
    monkeypatch.setattr(jit, "ready", {})
    x, y = logits(rng, (12, 70)), class_index(rng, (12, 70))
    F.cross_entropy_value_and_grad(x, y, out=np.empty((12, 70), np.float32, order="F"))
    assert not jit.ready
    F.cross_entropy_value_and_grad(x, y)
    assert len(jit.ready) == 1


@pytest.mark.parametrize("axis", [1, 2])
def test_axes_are_walked_in_the_order_in_which_they_lie_in_memory(axis):
    """Otherwise positions that are neighbours in memory would not be neighbours for the kernel."""
    x = np.zeros((60, 100, 70), np.float32, order="F")
    with jit.dry_run() as wanted:
        F.log_softmax(x, axis)
    with jit.dry_run() as wanted_of_transpose:
        F.log_softmax(x.T, 2 - axis)
    assert list(wanted) == list(wanted_of_transpose)
