"""The accuracy rule: float32 log_softmax elements and losses within 4 ulp of fifty-digit arithmetic, relative to themselves."""

import numpy as np
import pytest
import reference
from problems import assert_gradient, eps, floor

import nbloss.functional as F

pytest.importorskip("mpmath", reason="the accuracy rules are stated against mpmath")

SHIFTS = [0.0, 1e4, -1e4, 1e5, 1e6, -1e6, 1e7, 1e8, -1e8]
MARGINS = [5, 8, 12, 16, 20, 30, 50, 80, 87, 100]
COUNTS = [2, 3, 7, 16, 17, 33, 65, 127]


def ulps(actual, exact):
    """Distance in units in the last place of the exact value's own float32; below the normal range, of the smallest normal."""
    exact = np.asarray(exact, np.float64)
    unit = np.spacing(np.maximum(np.abs(exact), np.finfo(np.float32).tiny).astype(np.float32)).astype(np.float64)
    return np.abs(np.asarray(actual, np.float64) - exact) / unit


def assert_within_4_ulp(actual, exact, note=""):
    assert actual.dtype == np.float32
    off = ulps(actual, exact)
    at = np.unravel_index(np.argmax(off), off.shape)
    assert off[at] <= 4, f"{off[at]:.1f} ulp at {tuple(map(int, at))}: {actual[at]!r}, exactly {np.asarray(exact)[at]!r} {note}"


def check(x, target, device):
    """Both rules on rows of logits, by every public function that gives these numbers."""
    logp, losses, _ = reference.exact_rows(x, target)
    assert_within_4_ulp(F.log_softmax(x, device=device), logp, "log_softmax")
    columns = np.ascontiguousarray(x.T)
    assert_within_4_ulp(F.log_softmax(columns, 0, device=device).T, logp, "log_softmax over columns")
    none = {"reduction": "none", "device": device}
    assert_within_4_ulp(F.cross_entropy(x, target, **none), losses, "cross_entropy")
    loss, grad = F.cross_entropy_value_and_grad(x, target, **none)
    assert_within_4_ulp(loss, losses, "value_and_grad")
    channels = np.ascontiguousarray(x.T)[None]
    assert_within_4_ulp(F.cross_entropy(channels, target[None], **none)[0], losses, "cross_entropy, channels first")
    counts = losses > 1e-44  # below, the gradient may round to 0
    assert (grad[counts, target[counts]] < 0).all()
    mean, total = (F.cross_entropy(x, target, reduction=r, device=device) for r in ("mean", "sum"))
    assert_within_4_ulp(np.atleast_1d(mean), [losses.mean()], "mean")
    assert_within_4_ulp(np.atleast_1d(total), [losses.sum()], "sum")


def confident(rng, rows, count, margin):
    """One class leads the others by about `margin`; no value is round."""
    x = rng.normal(0, 1, (rows, count))
    lead = rng.integers(0, count, rows)
    x[np.arange(rows), lead] += margin + x.max(axis=1)
    return x.astype(np.float32), lead


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0, 30.0])
def test_ordinary_rows(count, scale, rng, device):
    check((rng.normal(0, scale, (20, count))).astype(np.float32), rng.integers(0, count, 20), device)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("hit", [True, False], ids=["right", "wrong"])
def test_confident_rows_keep_their_digits(hit, margin, count, rng, device):
    x, lead = confident(rng, 12, count, margin)
    check(x, lead if hit else (lead + 1) % count, device)


@pytest.mark.parametrize("count", [2, 7, 17, 65])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("margin", [0, 20])
def test_a_large_common_offset_costs_nothing(margin, shift, count, rng, device):
    x, lead = confident(rng, 12, count, margin)
    check((x.astype(np.float64) + shift).astype(np.float32), lead, device)


@pytest.mark.parametrize("count", [1000, 5000, 20011])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_many_classes(count, scale, rng, device):
    check(rng.normal(0, scale, (2, count)).astype(np.float32), rng.integers(0, count, 2), device)


@pytest.mark.parametrize("count", [1000, 5000])
@pytest.mark.parametrize("margin", [5, 12, 20, 40])
def test_many_classes_and_a_confident_row(count, margin, rng, device):
    x, lead = confident(rng, 2, count, margin)
    check(x, lead, device)


@pytest.mark.parametrize("ties", [1, 2, 5])
@pytest.mark.parametrize("count", [7, 17, 65])
def test_the_maximum_may_be_shared(count, ties, rng, device):
    x = rng.normal(0, 1, (10, count)).astype(np.float32) - 25
    x[:, :ties] = 3.7
    check(x, np.zeros(10, int), device)
    check(x, np.full(10, count - 1), device)


@pytest.mark.parametrize("size", [1e-3, 1e-10, 1e-30, 1e30, 1e37])
def test_logits_of_every_magnitude(size, rng, device):
    check((rng.uniform(-1, 1, (10, 7)) * size).astype(np.float32), rng.integers(0, 7, 10), device)


def test_the_contract_s_confident_row(device):
    x, y = np.float32([[20, 0, 0]]), np.array([0])
    loss, grad = F.cross_entropy_value_and_grad(x, y, device=device)
    assert_within_4_ulp(np.atleast_1d(loss), reference.exact_rows(x, y)[1])
    assert f"{loss:.1e}" == "4.1e-09"
    assert f"{grad[0, 0]:.1e}" == "-4.1e-09"
    assert_within_4_ulp(np.atleast_1d(F.cross_entropy(x, y, device=device)), reference.exact_rows(x, y)[1])
    assert f"{F.cross_entropy_backward(1.0, x, y, device=device)[0, 0]:.1e}" == "-4.1e-09"


def test_the_contract_s_two_logits_of_1e8(device):
    loss = F.cross_entropy(np.float32([[1e8, 1e8]]), [0], device=device)
    assert_within_4_ulp(np.atleast_1d(loss), [np.log(2)])
    np.testing.assert_allclose(F.log_softmax(np.float32([1e8, 1e8]), device=device), -np.log(2), rtol=4 * eps(np.float32))


@pytest.mark.parametrize("shape", ["rows", "channels first"])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("margin", [0, 5, 12, 20, 50, 80])
def test_the_gradient_of_a_confident_row_is_not_p_minus_1(margin, count, shape, rng, device):
    """Every element has its own digits: coef · p_j, and at the target -coef · s'/s."""
    x, y = confident(rng, 12, count, margin)
    exact = reference.exact_rows(x, y)[2]
    if shape == "rows":
        grad = F.cross_entropy_backward(1.0, x, y, reduction="sum", device=device)
    else:
        grad = F.cross_entropy_backward(1.0, x.T[None].copy(), y[None], reduction="sum", device=device)[0].T
    gap = np.abs(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    gap[np.arange(12), y] = np.sort(gap, axis=1)[:, 1]
    tolerance = eps(np.float32) * (8 + gap) * np.abs(exact) + floor(np.float32)
    np.testing.assert_array_less(np.abs(grad - exact), tolerance + 1e-300)
    assert (grad[np.arange(12), y] < 0).all()


@pytest.mark.parametrize("soft", [False, True], ids=["index", "probability"])
@pytest.mark.parametrize("count", [*COUNTS, 1000, 5000, 20011])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_gradient_row_sums_to_0_within_rounding(smoothing, count, soft, rng, device):
    x, y = rng.normal(0, 5, (8, count)).astype(np.float32), rng.integers(0, count, 8)
    if soft:
        y = rng.dirichlet(np.ones(count), 8).astype(np.float32)
    grad = F.cross_entropy_backward(1.0, x, y, label_smoothing=smoothing, reduction="sum", device=device).astype(float)
    np.testing.assert_array_less(np.abs(grad.sum(axis=1)), 16 * eps(np.float32) * np.abs(grad).sum(axis=1) + 1e-30)


@pytest.mark.parametrize("margin", [5, 20, 40, 200, 600])
def test_float64_keeps_the_digits_of_a_confident_row_too(margin, rng, device):
    x, y = rng.normal(0, 1, (6, 9)), rng.integers(0, 9, 6)
    x[np.arange(6), y] += margin
    logp, exact, _ = reference.exact_rows(x, y)
    np.testing.assert_allclose(F.cross_entropy(x, y, reduction="none", device=device), exact, rtol=8 * eps(np.float64))
    np.testing.assert_allclose(F.log_softmax(x, device=device), logp, rtol=8 * eps(np.float64))


@pytest.mark.parametrize("rows", [100, 9000, 130001, 1000003])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mean_of_equal_float64_losses_is_that_loss(smoothing, rows, rng, device):
    """Each addition rounds the same way, so a long sum drifts."""
    x, y, w = np.zeros((rows, 3)), np.zeros(rows, np.int8), np.array([0.1, 0.1, 0.1])
    for weight in (None, w):
        loss = F.cross_entropy(x, y, weight, label_smoothing=smoothing, device=device)
        np.testing.assert_allclose(loss, np.log(3), rtol=5 * eps(np.float64))
        total = F.cross_entropy(x, y, weight, label_smoothing=smoothing, reduction="sum", device=device)
        np.testing.assert_allclose(total, rows * np.log(3) * (1 if weight is None else 0.1), rtol=5 * eps(np.float64))


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("margin", [5, 12, 20])
def test_half_logits_have_float32_losses(margin, kind, rng, device):
    pytest.importorskip("ml_dtypes", reason="bfloat16 is ml_dtypes' type")
    x, y = confident(rng, 12, 9, margin)
    x = x.astype(kind)
    assert_within_4_ulp(F.cross_entropy(x, y, reduction="none", device=device), reference.exact_rows(x, y)[1])


@pytest.mark.parametrize("count", [18, 127, 1000, 50000])
@pytest.mark.parametrize("ties", ["all", "half"])
@pytest.mark.parametrize("kind", ["smoothed", "probability", "index"])
def test_the_gradient_of_tied_logits_is_accurate_relative_to_p(kind, ties, count, rng, device):
    """A network's first step: every logit is 0. total - q - total·rest/s would round at the total's size, not at p's."""
    x = np.zeros((3, count), np.float32)
    if ties == "half":
        x[:, ::2] = -1.5
    y = rng.dirichlet(np.ones(count), 3).astype(np.float32) if kind == "probability" else rng.integers(0, count, 3)
    options = {"label_smoothing": 0.1 if kind == "smoothed" else 0.0, "reduction": "sum"}
    terms = reference.cross_entropy_terms(1.0, x, y, **options)
    assert_gradient(F.cross_entropy_backward(1.0, x, y, **options, device=device), x, *terms)
