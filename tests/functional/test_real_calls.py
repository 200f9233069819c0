"""Calls that people make: shifted logits of language models, boosting buffers, soft targets of another precision, late training."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from problems import assert_loss, class_index, logits, probabilities

import nbloss.functional as F


def peak_of(call):
    """Bytes that a call allocates at most, beside its result."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("classes", [20, 1000])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_next_token_shift_has_the_bits_of_the_copy(classes, reduction, rng):
    whole, ids = logits(rng, (4, 17, classes)), rng.integers(0, classes, (4, 17))
    shifted, target = np.swapaxes(whole[:, :-1], 1, 2), ids[:, 1:]
    copy = np.ascontiguousarray(np.moveaxis(shifted, 1, 2).reshape(-1, classes))
    loss, grad = F.cross_entropy_value_and_grad(shifted, target, reduction=reduction)
    flat_loss, flat_grad = F.cross_entropy_value_and_grad(copy, target.reshape(-1), reduction=reduction)
    if classes > 48:
        assert_array_equal(np.ravel(loss), np.ravel(flat_loss))
        assert_array_equal(np.moveaxis(grad, 1, 2).reshape(-1, classes), flat_grad)
    assert_allclose(np.ravel(loss), np.ravel(reference.cross_entropy(shifted, target, reduction=reduction)).astype(float), rtol=1e-6)
    assert grad.strides == np.empty_like(shifted).strides


def test_the_next_token_shift_copies_nothing(rng):
    whole, ids = logits(rng, (4, 129, 4000)), rng.integers(0, 4000, (4, 129))
    shifted, target = np.swapaxes(whole[:, :-1], 1, 2), ids[:, 1:]
    out = np.empty_like(shifted)
    assert peak_of(lambda: F.cross_entropy(shifted, target)) < 64 * target.size + 2**20
    assert peak_of(lambda: F.cross_entropy_value_and_grad(shifted, target, out=out)) < 64 * target.size + 2**20
    assert peak_of(lambda: F.cross_entropy_value_and_grad(shifted, target)) < shifted.nbytes + 64 * target.size + 2**20


PAIRS = [(np.float32, np.float64), (np.float16, np.float16), (ml_dtypes.bfloat16, ml_dtypes.bfloat16), (np.float64, np.float32)]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{np.dtype(pair[0])}-{np.dtype(pair[1])}")
def test_soft_targets_of_another_precision_are_not_copied(pair, rng):
    shape = (64, 16000)
    x, y = logits(rng, shape, pair[0]), probabilities(rng, shape, np.float32).astype(pair[1])
    out = np.empty_like(x)
    assert peak_of(lambda: F.cross_entropy_value_and_grad(x, y, out=out)) < 64 * shape[0] + 2**20
    assert_loss(F.cross_entropy(x, y, reduction="none"), reference.cross_entropy(x, y, reduction="none"), pair[0], terms=shape[1])


def test_the_fortran_ordered_buffer_of_a_boosting_objective_is_written(rng):
    """LightGBM's objective gets margins and gives gradients class after class."""
    margins, target = rng.standard_normal(50 * 3), rng.integers(0, 3, 50)
    buffer = np.full(50 * 3 + 2, 7.0)
    grad = buffer[1:-1].reshape((50, 3), order="F")
    loss, result = F.cross_entropy_value_and_grad(margins.reshape((50, 3), order="F"), target, reduction="sum", out=grad)
    assert result is grad and buffer[0] == buffer[-1] == 7
    x = np.ascontiguousarray(margins.reshape((50, 3), order="F"))
    assert_array_equal(grad, F.cross_entropy_value_and_grad(x, target, reduction="sum")[1])
    assert loss == F.cross_entropy(x, target, reduction="sum")


def test_row_options_of_every_layout_give_the_same_bits(rng):
    x, y = logits(rng, (6, 9)), class_index(rng, (6, 9))
    options = {"lse_square_scale": 1e-3, "label_smoothing": 0.1}
    expected = F.cross_entropy_value_and_grad(x, y, **options)
    for view in (np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, 1)[:, ::2]):
        for a, b in zip(F.cross_entropy_value_and_grad(view, y, **options), expected, strict=True):
            assert_array_equal(a, b)


def test_arguments_that_are_converted_give_the_same_bits(rng):
    """Lists, class weights of another dtype and targets that are not contiguous, in small calls, which take the fast path."""
    x, y, w = logits(rng, (6, 9)), class_index(rng, (6, 9)), rng.random(9) + 0.5
    expected = F.cross_entropy_value_and_grad(x, y, w.astype(np.float32))
    for target, weight in ((y.tolist(), w), (np.repeat(y, 2)[::2], w), (y, np.repeat(w, 3)[::3])):
        for _ in range(3):  # what a call leaves for the next one must fit it
            for a, b in zip(F.cross_entropy_value_and_grad(x, target, weight), expected, strict=True):
                assert_array_equal(a, b)
    one = F.cross_entropy_value_and_grad(x[0], int(y[0]), w)
    assert_array_equal(one[1], F.cross_entropy_value_and_grad(x[:1], y[:1], w)[1][0])
    assert np.ndim(one[0]) == 0 and F.cross_entropy(x[0], y[0], reduction="none").shape == ()


def test_a_call_that_was_made_before_is_checked_where_it_differs(rng):
    """The same shapes, dtypes and options, but other strides, values or an `out` that does not fit."""
    x, y = logits(rng, (6, 9)), class_index(rng, (6, 9))
    wide, twice = np.repeat(x, 2, 1), np.repeat(y, 2)
    expected = F.cross_entropy_value_and_grad(x, y)
    for view, target in ((x, y), (wide[:, ::2], y), (x, twice[::2]), (np.asfortranarray(x), twice[::2]), (x[::-1], y[::-1]), (x, y)):
        for _ in range(2):
            loss, grad = F.cross_entropy_value_and_grad(view, target)
            assert loss == expected[0] or view.strides[0] < 0
            assert_array_equal(grad, expected[1][::-1] if view.strides[0] < 0 else expected[1])
            assert F.cross_entropy(view, target) == loss
    bad = y.copy()
    bad[3] = 9
    for _ in range(2):
        with pytest.raises(IndexError, match=r"got 9 at index \(3,\)"):
            F.cross_entropy(x, bad)
        with pytest.raises(ValueError, match="out should have shape"):
            F.cross_entropy_value_and_grad(x, y, out=np.empty((9, 6), np.float32))
        with pytest.raises(ValueError, match="overlap"):
            F.cross_entropy_value_and_grad(wide.ravel()[:54].reshape(6, 9), y, out=wide.ravel()[1:55].reshape(6, 9))
        with pytest.raises(TypeError, match="ignore_index"):
            F.cross_entropy(x, y, ignore_index=-100.0)
        with pytest.raises((TypeError, ValueError), match="reduction"):
            F.cross_entropy(x, y, reduction=["mean"])


@pytest.mark.parametrize("classes", [3, 60])
def test_strides_that_are_no_whole_numbers_of_elements(classes, rng):
    """Fields of records, as logits, as probabilities and as the result: nothing beside a field is read or written."""
    records = np.zeros(5, [("flag", np.int8), ("x", np.float32, classes), ("y", np.float32, classes), ("grad", np.float32, classes)])
    x, p, y = logits(rng, (5, classes)), probabilities(rng, (5, classes)), class_index(rng, (5, classes))
    records["x"], records["y"], records["flag"] = x, p, 7
    for target, of_record in ((y, y), (p, records["y"])):
        expected = F.cross_entropy_value_and_grad(x, target)
        for _ in range(2):
            for source in (x, records["x"]):
                out = records["grad"]
                loss, grad = F.cross_entropy_value_and_grad(source, of_record, out=out)
                assert grad is out and loss == expected[0]
                assert_array_equal(records["grad"], expected[1])
                assert_array_equal(records["x"], x)
                assert_array_equal(records["y"], p)
                assert (records["flag"] == 7).all()


@pytest.mark.parametrize("classes", [3, 60])
def test_a_row_that_is_repeated_by_a_stride_of_0(classes, rng):
    row, y = logits(rng, (1, classes)), rng.integers(0, classes, 8)
    whole = np.broadcast_to(row, (8, classes))
    expected = F.cross_entropy_value_and_grad(whole.copy(), y)
    for _ in range(3):
        for a, b in zip(F.cross_entropy_value_and_grad(whole, y), expected, strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("call", [F.cross_entropy_backward, F.nll_loss_backward])
def test_no_upstream_gradient_is_refused(call):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(TypeError, match="grad_output"):
        call(None, x, y)
    with pytest.raises(TypeError, match="grad_output"):
        F.cross_entropy_value_and_grad(x, y, grad_output=None)
