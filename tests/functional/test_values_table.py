"""The contract's table of values at the edges, row by row, with every warning turned into an error."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import (
    DTYPES,
    REDUCTIONS,
    assert_gradient,
    assert_loss,
    class_index,
    logits,
    name,
    probabilities,
    weights,
    work,
)

import nbloss.functional as F

pytestmark = pytest.mark.filterwarnings("error")
INF, NAN = np.inf, np.nan
EXTREMES = [-(2**63), -(2**31) - 1, -1, 2**31, 2**62, 2**63 - 1]
BACKWARDS = [F.cross_entropy_backward, F.nll_loss_backward]
FORWARDS = [F.cross_entropy, F.nll_loss]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (5, 65), (3, 7, 4), (2, 7, 3, 5)], ids=name)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_every_row_ignored_gives_mean_nan_sum_0_and_gradients_exactly_0(shape, dtype, weighted, rng, device):
    x = np.full(shape, NAN, dtype)
    y = np.full_like(class_index(rng, shape), -100)
    w = weights(rng, 7 if 7 in shape else 65, dtype) if weighted else None
    for forward, backward in zip(FORWARDS, BACKWARDS, strict=True):
        assert np.isnan(forward(x, y, w, device=device))
        assert forward(x, y, w, reduction="sum", device=device) == 0
        assert (forward(x, y, w, reduction="none", device=device) == 0).all()
        for reduction in REDUCTIONS:
            assert (backward(1.0, x, y, w, reduction=reduction, device=device) == 0).all()
    for smoothing in (0.0, 0.1):
        loss, grad = F.cross_entropy_value_and_grad(x, y, w, label_smoothing=smoothing, device=device)
        assert np.isnan(loss)
        assert (grad == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 7), (0, 7, 4), (3, 7, 0), (0, 1), (0, 0)], ids=name)
@pytest.mark.parametrize("soft", [False, True], ids=["index", "probability"])
def test_no_row_at_all_is_an_empty_result(shape, dtype, soft, device):
    x = np.zeros(shape, dtype)
    rows = (shape[0], *shape[2:])
    y = np.zeros(shape, dtype) if soft else np.zeros(rows, int)
    for forward, backward in zip(FORWARDS, BACKWARDS, strict=True):
        assert forward(x, y, reduction="none", device=device).shape == rows
        assert np.isnan(forward(x, y, device=device))
        assert forward(x, y, reduction="sum", device=device) == 0
        for reduction in REDUCTIONS:
            grad = backward(1.0, x, y, reduction=reduction, device=device)
            assert (grad.shape, grad.dtype) == (shape, np.dtype(dtype))
    assert np.isnan(F.cross_entropy_value_and_grad(x, y, device=device)[0])


@pytest.mark.parametrize("ignored", [*range(7), *EXTREMES, -100, 7])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignore_index_works_anywhere_in_int64(ignored, reduction, smoothing, rng, device):
    x, y = logits(rng, (6, 7)), class_index(rng, (6, 7))
    y[1] = y[4] = ignored
    options = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    loss, grad = F.cross_entropy_value_and_grad(x, y, **options, device=device)
    assert_loss(loss, reference.cross_entropy(x, y, **options), x.dtype)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, y, **options))
    assert (grad[[1, 4]] == 0).all()


def test_ignore_index_0_is_a_class_like_any_other(rng, device):
    x = logits(rng, (3, 7))
    assert F.cross_entropy(x, [0, 0, 0], ignore_index=0, reduction="sum", device=device) == 0
    assert F.cross_entropy(x, [0, 1, 2], ignore_index=0, reduction="none", device=device)[0] == 0


@pytest.mark.parametrize("ignored", EXTREMES)
@pytest.mark.parametrize("integer", [np.uint8, np.int8, np.uint32, np.uint64])
def test_an_ignore_index_that_the_target_cannot_hold_matches_nothing(ignored, integer, rng, device):
    x, y = logits(rng, (6, 7)), class_index(rng, (6, 7), integer)
    assert_array_equal(F.cross_entropy(x, y, ignore_index=ignored, device=device), F.cross_entropy(x, y, device=device))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kept_row_of_weight_0_adds_nothing_to_either_sum(dtype, rng, device):
    x, y, w = logits(rng, (6, 7), dtype), np.array([0, 1, 2, 3, 1, 0]), np.array([2, 0, 1, 1, 1, 1, 1]).astype(dtype)
    keep = y != 1
    for forward, backward in zip(FORWARDS, BACKWARDS, strict=True):
        np.testing.assert_allclose(forward(x, y, w, device=device), forward(x[keep], y[keep], w, device=device), rtol=1e-6)
        assert (forward(x, y, w, reduction="none", device=device)[~keep] == 0).all()
        assert (backward(1.0, x, y, w, device=device)[~keep] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_all_0_give_mean_nan_and_sum_0(dtype, rng, device):
    x, y, w = logits(rng, (6, 7), dtype), class_index(rng, (6, 7)), np.zeros(7, dtype)
    for forward in FORWARDS:
        assert np.isnan(forward(x, y, w, device=device))
        assert forward(x, y, w, reduction="sum", device=device) == 0
    assert (F.cross_entropy_backward(1.0, x, y, w, reduction="sum", device=device) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 7, 65])
def test_a_mean_over_no_weight_is_nan_though_its_rows_count_by_their_smoothing(count, dtype, rng, device):
    x, y, w = logits(rng, (6, count), dtype), np.zeros(6, int), np.eye(count, dtype=dtype)[1]
    y[1] = -100
    options = {"label_smoothing": 0.1, "device": device}
    loss, both = F.cross_entropy_value_and_grad(x, y, w, **options)
    assert np.isnan([loss, F.cross_entropy(x, y, w, **options)]).all()
    for gradient in (both, F.cross_entropy_backward(1.0, x, y, w, **options)):
        assert np.isnan(gradient[y == 0].astype(float)).all() and (gradient[1] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [3, 7, 65, 2000])
@pytest.mark.parametrize("axes", ["rows", "channels first"])
def test_an_ignored_row_of_nan_or_inf_is_exactly_0(axes, count, smoothing, bad, dtype, rng, device):
    x = logits(rng, (6, count) if axes == "rows" else (2, count, 3), dtype)
    y = class_index(rng, x.shape)
    row = (1, slice(None)) if axes == "rows" else (1, slice(None), 2)
    at = 1 if axes == "rows" else (1, 2)
    x[row], y[at] = bad, -100
    clean = x.copy()
    clean[row] = 0
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "label_smoothing": smoothing}
        loss, grad = F.cross_entropy_value_and_grad(x, y, **options, device=device)
        assert_loss(loss, reference.cross_entropy(clean, y, **options), dtype)
        assert (grad[row] == 0).all()
        assert_gradient(grad, clean, *reference.cross_entropy_terms(1.0, clean, y, **options))
        assert_array_equal(F.cross_entropy_backward(1.0, x, y, **options, device=device), grad)
        assert_loss(
            F.nll_loss(x, y, reduction=reduction, device=device) * 0,
            reference.nll_loss(x, y, reduction=reduction) * 0,
            dtype,
        )
        assert (F.nll_loss_backward(1.0, x, y, reduction=reduction, device=device)[row] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [3, 7, 65, 2000])
def test_masked_classes_have_probability_0_and_gradient_0(count, dtype, rng, device):
    x, y = logits(rng, (6, count), dtype), np.zeros(6, int)
    mask = rng.random((6, count)) < 0.4
    mask[:, 0], mask[:, -1] = False, True
    x[mask] = -INF
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", device=device)
    assert_loss(loss, reference.cross_entropy(x, y, reduction="none"), dtype)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, y, reduction="none"))
    assert (grad[mask] == 0).all()
    logp = F.log_softmax(x, device=device)
    assert (logp[mask] == -INF).all()
    assert np.isfinite(logp[~mask]).all()
    assert np.isfinite(F.log_softmax_backward(np.ones_like(logp), logp, device=device)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [3, 7, 65, 2000])
def test_a_masked_target_costs_inf_and_pulls_with_all_its_weight(count, dtype, rng, device):
    x, y = logits(rng, (4, count), dtype), np.ones(4, int)
    x[2, 1] = -INF
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none", device=device)
    assert loss[2] == INF
    assert np.isfinite(np.delete(loss, 2)).all()
    assert grad[2, 1] == -1
    assert np.isfinite(grad).all()
    assert F.cross_entropy(x, y, device=device) == INF
    assert F.nll_loss(F.log_softmax(x, device=device), y, device=device) == INF


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("bad", "whole"), [(-INF, True), (INF, True), (INF, False), (NAN, True), (NAN, False)],
    ids=["row_of_-inf", "row_of_inf", "one_inf", "row_of_nan", "one_nan"],
)  # fmt: skip
@pytest.mark.parametrize("count", [2, 7, 16, 65, 2000])
@pytest.mark.parametrize("axes", ["rows", "channels first"])
@pytest.mark.parametrize("soft", [False, True], ids=["index", "probability"])
def test_a_spoilt_row_is_nan_and_no_other_row_is_touched(soft, axes, count, whole, bad, dtype, rng, device):
    x = logits(rng, (19, count) if axes == "rows" else (2, count, 9), dtype)
    y = probabilities(rng, x.shape, dtype) if soft else class_index(rng, x.shape)
    at = (1,) if axes == "rows" else (1, 4)
    row = (at[0], slice(None) if whole else count - 1, *at[1:])
    clean = {"reduction": "none", "device": device}
    plain = F.cross_entropy_value_and_grad(x, y, **clean), F.log_softmax(x, 1, device=device)
    x[row] = bad
    loss, grad = F.cross_entropy_value_and_grad(x, y, **clean)
    logp = F.log_softmax(x, 1, device=device)
    spoilt = (at[0], slice(None), *at[1:])
    assert np.isnan(loss[at])
    assert np.isnan(grad[spoilt]).all()
    assert np.isnan(logp[spoilt]).all()
    loss[at], grad[spoilt], logp[spoilt] = plain[0][0][at], plain[0][1][spoilt], plain[1][spoilt]
    assert_array_equal(loss, plain[0][0])
    assert_array_equal(grad, plain[0][1])
    assert_array_equal(logp, plain[1])
    assert_array_equal(F.cross_entropy(x, y, **clean)[at], NAN)


# Bits of other nans: all ones, signalling ones, and, in float64, R's missing value.
NANS = {
    "float16": (np.uint16, [0x7E01, 0xFFFF, 0x7C01]),
    "bfloat16": (np.uint16, [0x7FC1, 0xFFFF, 0x7F81]),
    "float32": (np.uint32, [0x7FC00001, 0x7FC12345, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001]),
    "float64": (np.uint64, [0x7FF8000000000001, 0x7FF800000000FFFF, 0xFFFFFFFFFFFFFFFF, 0x7FF00000000007A2]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 7, 16, 65, 2000])
@pytest.mark.parametrize("axes", ["rows", "channels first"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=["plain", "smoothed"])
def test_a_nan_of_any_bits_stays_nan(options, axes, count, dtype, rng, device):
    kind, patterns = NANS[np.dtype(dtype).name]
    x = logits(rng, (19, count) if axes == "rows" else (2, count, 9), dtype)
    y = class_index(rng, x.shape)
    at = (1,) if axes == "rows" else (1, 4)
    spoilt = (at[0], slice(None), *at[1:])
    with np.errstate(invalid="ignore"):  # NumPy warns of signalling ones
        for bits in patterns:
            for place in {0, count - 1, int(y[at])}:
                z = x.copy()
                z.view(kind)[at[0], place, *at[1:]] = bits
                loss, grad = F.cross_entropy_value_and_grad(z, y, reduction="none", device=device, **options)
                others = F.cross_entropy(z, y, reduction="none", device=device, **options)
                logp = F.log_softmax(z, 1, device=device)
                back = F.log_softmax_backward(np.ones_like(z), z, 1, device=device)
                for found in (grad[spoilt], logp[spoilt], back[at[0], place, *at[1:]], loss[at], others[at]):
                    assert np.isnan(found).all(), (hex(bits), place)
                assert np.isfinite(np.delete(loss.ravel(), np.ravel_multi_index(at, loss.shape))).all()
                assert np.isfinite(np.delete(grad, at[0], 0).astype(float)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [3, 7, 65, 2000])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_probability_of_0_at_a_masked_class_adds_0(weighted, count, dtype, rng, device):
    x, y = logits(rng, (6, count), dtype), probabilities(rng, (6, count), dtype)
    x[:, 1], y[:, 1] = -INF, 0
    w = weights(rng, count, dtype) if weighted else None
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, reduction="none", device=device)
    assert_loss(loss, reference.cross_entropy(x, y, w, reduction="none"), dtype)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, y, w, reduction="none"))
    assert np.isfinite(loss).all()
    assert (grad[:, 1] == 0).all()
    logp = F.log_softmax(x, device=device)
    assert_loss(F.nll_loss(logp, y, w, device=device), reference.nll_loss(logp, y, w), dtype)


def test_a_probability_above_0_at_a_masked_class_costs_inf(device):
    x, y = np.float32([[0, -INF, 1]]), np.float32([[0.5, 0.5, 0]])
    assert F.cross_entropy(x, y, device=device) == INF
    assert F.cross_entropy(x, np.float32([[1, 0, 0]]), label_smoothing=0.1, device=device) == INF
    assert F.cross_entropy(x, np.array([0]), label_smoothing=0.1, device=device) == INF


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (5, 1), (3, 1, 4), (200, 1)], ids=name)
@pytest.mark.parametrize("value", [0.0, -3.5, 60000.0])
def test_a_single_class_costs_0(value, shape, dtype, device):
    x = np.full(shape, value, dtype)
    y = np.zeros((shape[0], *shape[2:]) if len(shape) > 1 else (), int)
    for target in (y, np.ones(shape, dtype)):
        for reduction in REDUCTIONS:
            loss, grad = F.cross_entropy_value_and_grad(x, target, reduction=reduction, label_smoothing=0.1, device=device)
            assert np.all(loss == 0)
            assert (grad == 0).all()
            assert loss.dtype == work(dtype)
    assert (F.log_softmax(x, 1 if len(shape) > 1 else 0, device=device) == 0).all()


@pytest.mark.parametrize("function", [*FORWARDS, F.cross_entropy_value_and_grad])
@pytest.mark.parametrize(("shape", "rows"), [((3, 0), (3,)), ((3, 0, 2), (3, 2)), ((0,), ())], ids=name)
def test_rows_without_a_class_are_a_value_error(shape, rows, function, device):
    with pytest.raises(ValueError, match="class"):
        function(np.zeros(shape, np.float32), np.full(rows, -100), device=device)


def test_log_softmax_over_an_empty_axis_is_empty(device):
    assert F.log_softmax(np.zeros((3, 0), np.float32), device=device).shape == (3, 0)
