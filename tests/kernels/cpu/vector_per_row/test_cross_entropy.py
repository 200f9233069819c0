"""Vector per row: label smoothing and probabilities of every storage type against the oracle, and what confident rows keep."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import FLOATS, assert_gradient, assert_loss, class_index, eps, logits, probabilities, weights, with_ignored, work

numba = pytest.importorskip("numba")

if numba.config.DISABLE_JIT:
    pytest.skip("the NumPy reference has one way for every layout", allow_module_level=True)

import nbloss.functional as F  # noqa: E402
from nbloss._problem import as_stored  # noqa: E402
from nbloss.kernels.cpu import kernel_set  # noqa: E402
from nbloss.kernels.math.epilogue import RowOptions  # noqa: E402

COUNTS = [49, 64, 100, 257, 1000]  # whole vectors, four of them, a last one that overlaps, a block of one class


def canonical(array):
    return as_stored(array)[:, :, None]


def soft(x, y, w, smoothing=0.0, lam=0.0, upstream=1.0):
    """(losses, gradient) of the kernel for probabilities. The losses of the one without a gradient are the same, checked for float32."""
    (rows, count), dtype = x.shape, work(x.dtype)
    losses, alone, grad = np.empty(rows, dtype), np.empty(rows, dtype), np.empty_like(x)
    g, options = np.full(1, upstream, dtype), RowOptions(lam) if lam else None
    given = canonical(x), canonical(y), w, 1 - smoothing, smoothing / count, None, 0, None, None, options
    kernel_set.cross_entropy_soft(*given, g, losses, canonical(grad))
    if x.dtype == y.dtype == np.float32:
        kernel_set.cross_entropy_soft(*given, None, alone, None)
        assert_array_equal(alone, losses)
    return losses, grad


def smoothed(x, target, w, smoothing, lam=0.0, upstream=1.0, ignore_index=-100):
    """The same of smoothed class numbers."""
    (rows, count), dtype = x.shape, work(x.dtype)
    losses, alone, grad = np.empty(rows, dtype), np.empty(rows, dtype), np.empty_like(x)
    counts = target != ignore_index
    scale = np.where(counts, (1 - smoothing) * (1 if w is None else w[np.where(counts, target, 0)]), 0).astype(dtype)
    spread = np.where(counts, smoothing / count, 0).astype(dtype)
    g, options = np.full(1, upstream, dtype), RowOptions(lam) if lam else None
    given = canonical(x), None, w, 0.0, 0.0, target, -1, scale, spread, options
    kernel_set.cross_entropy_soft(*given, g, losses, canonical(grad))
    if x.dtype == np.float32:
        kernel_set.cross_entropy_soft(*given, None, alone, None)
        assert_array_equal(alone, losses)
    return losses, grad


def check(x, target, w, smoothing, result, ulps=5, **options):
    losses, grad = result
    known = {"reduction": "none", "label_smoothing": smoothing, **options}
    note = (x.shape, x.dtype, w is not None, known)
    assert_loss(losses, reference.cross_entropy(x, target, w, **known), x.dtype, ulps=ulps, note=note, terms=x.shape[1])
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, target, w, **known), note)


@pytest.mark.parametrize("target_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_probabilities_of_every_dtype_with_logits_of_every_dtype(dtype, target_dtype, rng):
    for count in COUNTS:
        x, y = logits(rng, (7, count), dtype), probabilities(rng, (7, count), target_dtype)
        y[0] = np.arange(count) == 3
        x[0, 5] = -np.inf  # where the target is 0, it adds 0
        x[1, 4] += 30
        y[2] = 0
        read = y.astype(work(dtype))
        check(x, read, None, 0.0, soft(x, y, None))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_smoothed_probabilities_and_row_options(dtype, rng):
    for count in COUNTS:
        x, y, w = logits(rng, (5, count), dtype), probabilities(rng, (5, count), dtype), weights(rng, count, dtype)
        for smoothing in (0.1, 1.0):
            check(x, y, w, smoothing, soft(x, y, w, smoothing))
            check(x, y, None, smoothing, soft(x, y, None, smoothing))
        if dtype == np.float32:
            check(x, y, w, 0.1, soft(x, y, w, 0.1, lam=1e-3), ulps=8, lse_square_scale=1e-3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_smoothing_with_and_without_class_weights(dtype, rng):
    for count in COUNTS:
        x, y = logits(rng, (19, count), dtype), with_ignored(rng, class_index(rng, (19, count)), -100)
        x[3, 4] += 30
        y[3], y[4] = 4, -100
        x[5, 7] += 30
        y[5] = 8
        w = weights(rng, count, work(dtype))
        for smoothing in (0.1, 1.0):
            check(x, y, None, smoothing, smoothed(x, y, None, smoothing))
            if dtype == np.float32:
                check(x, y, w, smoothing, smoothed(x, y, w, smoothing))
            assert_array_equal(smoothed(x, y, None, smoothing)[1][y == -100], 0)


def test_a_class_of_weight_0_may_have_no_logit_and_may_be_the_target(rng):
    for count in COUNTS:
        x, y, w = logits(rng, (6, count)), class_index(rng, (6, count)), weights(rng, count)
        w[[1, 5]] = 0
        x[:, 1] = -np.inf
        y[0], y[1] = 5, 1
        for smoothing in (0.1, 1.0):
            check(x, y, w, smoothing, smoothed(x, y, w, smoothing))
        zeros = np.zeros(count, np.float32)
        losses, grad = smoothed(x, y, zeros, 0.1)
        assert_array_equal(losses, 0)
        assert_array_equal(grad, 0)


def test_a_class_without_a_logit_makes_a_smoothed_loss_infinite(rng):
    x, y = logits(rng, (4, 100)), class_index(rng, (4, 100))
    x[1, 7] = -np.inf
    y[1] = 8
    for w in (None, weights(rng, 100)):
        losses, grad = smoothed(x, y, w, 0.1)
        assert_array_equal(np.isinf(losses), [False, True, False, False])
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("margin", [1, 5, 12, 25, 60, 88, 104])
def test_smoothing_of_confident_rows_right_and_wrong(margin, count, rng):
    x, y = logits(rng, (8, count), scale=1.0), class_index(rng, (8, count))
    x[np.arange(8), y] += margin + x.max(axis=1)
    wrong = (y + 1) % count
    for target in (y, wrong):
        for smoothing in (0.1, 1.0):
            check(x, target, None, smoothing, smoothed(x, target, None, smoothing))
    one_hot = (np.arange(count) == y[:, None]).astype(np.float32)
    for q in (one_hot, np.roll(one_hot, 1, axis=1)):
        losses, grad = soft(x, q, None)
        numbers = q.argmax(axis=1)
        plain, plain_grad = F.cross_entropy_value_and_grad(x, numbers, reduction="none")
        np.testing.assert_allclose(losses, plain, rtol=4 * eps(np.float32))
        hit = np.arange(8), numbers
        np.testing.assert_allclose(grad[hit], plain_grad[hit], rtol=8 * eps(np.float32), atol=1e-38)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("margin", [*range(1, 20, 3), 25, 40, 60, 80, 88, 100, 104])
def test_confident_losses_are_within_4_ulp_with_a_gradient_and_without(margin, kind, rng):
    pytest.importorskip("mpmath", reason="the rule is stated against mpmath")
    dtype = next(np.dtype(d) for d in FLOATS if np.dtype(d).name == kind)
    for count in (49, 130, 1000):
        x = rng.normal(0, 1, (3, count))
        x[:, 2] = x.max(axis=1) + margin
        x = x.astype(dtype)
        y = np.full(3, 2)
        exact = reference.exact_rows(x, y)[1]
        loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none")
        assert_array_equal(F.cross_entropy(x, y, reduction="none"), loss)
        unit = np.spacing(np.maximum(exact, np.finfo(np.float32).tiny).astype(np.float32)).astype(float)
        assert (np.abs(loss - exact) <= 4 * unit).all(), (count, (loss - exact) / unit)
        if kind == "float32" and margin < 80:
            total = np.abs(grad.astype(float)).sum(axis=1)
            assert (np.abs(grad.astype(float).sum(axis=1)) <= 16 * eps(np.float32) * total).all()


def test_long_rows_keep_nothing_until_a_row_is_confident(rng):
    """Rows of more than LONG_ROW_BYTES; the bits of a row do not depend on the rows before it."""
    x, y = logits(rng, (9, 100_003)), class_index(rng, (9, 100_003))
    for row in (2, 3, 6):
        x[row, y[row]] = 40
    for smoothing in (0.0, 0.1):
        options = {"reduction": "none", "label_smoothing": smoothing}
        loss, grad = F.cross_entropy_value_and_grad(x, y, **options)
        assert_array_equal(F.cross_entropy(x, y, **options), loss)
        for row in range(9):
            alone = slice(row, row + 1)
            one_loss, one_grad = F.cross_entropy_value_and_grad(x[alone], y[alone], **options)
            assert_array_equal(one_loss, loss[alone])
            assert_array_equal(one_grad, grad[alone])
        in_place = x.copy()
        F.cross_entropy_value_and_grad(in_place, y, out=in_place, **options)
        assert_array_equal(in_place, grad)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_beside_a_row_is_written_and_ignored_rows_are_0(dtype, rng):
    for count in COUNTS:
        x, y = logits(rng, (6, count), dtype), class_index(rng, (6, count))
        y[[1, 4]] = -100
        buffer = np.full(6 * count + 40, 7, dtype)
        for smoothing in (0.0, 0.1):
            buffer[...] = 7
            out = buffer[20:-20].reshape(6, count)
            F.cross_entropy_value_and_grad(x, y, label_smoothing=smoothing, out=out)
            assert_array_equal(buffer[:20], 7)
            assert_array_equal(buffer[-20:], 7)
            assert_array_equal(out[[1, 4]], 0)
