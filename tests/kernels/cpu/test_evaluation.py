"""The kernels of `nbloss.evaluate`: numbers of each row, and what they add up to."""

import math

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nbloss.functional as F
from nbloss._problem import as_stored
from nbloss.backends.cpu import CPU

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def evaluation(x, y, scale=None):
    """``(log_prob, entropy, rank, confidence, is_argmax)`` of an (outer, C, inner) array."""
    real = np.float64 if x.dtype == np.float64 else np.float32
    results = [np.empty(y.size, dtype) for dtype in (real, real, np.int64, real, bool)]
    CPU.kernels.evaluation(as_stored(x), y, -1, np.ones(1, real) if scale is None else scale.astype(real), *results)
    return results


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(50, 2, 1), (50, 48, 1), (50, 49, 1), (7, 1000, 1), (3, 4099, 1), (3, 10, 80), (2, 60, 9)], ids=str)
def test_numbers_of_a_row_are_those_of_cross_entropy_stats(shape, dtype, rng):
    """The same bits, where both have a number; ranks and confidences are compared with the logits."""
    for scale in (1, 20):  # 20: confident rows
        x = (scale * rng.standard_normal(shape)).astype(dtype)
        y = rng.integers(0, shape[1], (shape[0], shape[2]))
        stats = F.cross_entropy_stats(x, y)
        log_prob, entropy, rank, confidence, is_argmax = evaluation(x, y.ravel())
        wide = x.astype(np.float64)
        assert_array_equal(log_prob, stats.log_prob.ravel())
        assert_array_equal(entropy, stats.entropy.ravel())
        assert_array_equal(rank, (wide > np.take_along_axis(wide, y[:, None], 1)).sum(1).ravel())
        assert_array_equal(is_argmax, (stats.argmax == y).ravel())
        exact = 1 / np.exp(wide - wide.max(1, keepdims=True)).sum(1)
        assert_allclose(confidence, exact.ravel(), rtol=2e-15 * shape[1] if dtype == np.float64 else 5e-7)


@pytest.mark.parametrize("classes", [5, 60, 2000])
def test_ties_ignored_rows_and_nan(classes, rng):
    x = np.floor(rng.standard_normal((40, classes, 1)) * 2).astype(np.float32)
    y, scale = rng.integers(0, classes, 40), np.ones(40)
    x[np.arange(0, 40, 2), y[::2]] = x[::2].max(1)
    x[4, 1], x[7], x[10, 0] = np.nan, -np.inf, np.inf
    scale[[3, 10, 16]], x[3, 2] = 0, np.nan
    log_prob, entropy, rank, confidence, is_argmax = evaluation(x, y, scale)
    for p in range(40):
        row, numbers = x[p, :, 0], (log_prob[p], entropy[p], confidence[p])
        if scale[p] == 0:
            assert (numbers, rank[p], is_argmax[p]) == ((0, 0, 0), -1, False)
        elif p in (4, 7):
            assert np.isnan(numbers).all() and rank[p] == classes and not is_argmax[p]
        else:
            assert rank[p] == (row > row[y[p]]).sum() and is_argmax[p] == (row.argmax() == y[p])


@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 30000])
def test_a_tally(count, rng):
    rank = rng.integers(-1, 9, count)
    losses, entropy = (10.0 ** rng.integers(-9, 9, count) * rng.random(count) for _ in range(2))
    confidence, is_argmax = 1 - rng.random(count), rng.random(count) < 0.5
    confidence[::5] = np.nan
    counts, totals = CPU.kernels.tally(-losses, entropy, rank, confidence, is_argmax, np.array([1, 8]), 10)
    kept, index = rank >= 0, np.ceil(np.nan_to_num(confidence) * 10) - 1
    binned = [kept & (index == b) for b in range(10)]
    wanted = [kept.sum(), (rank[kept] < 1).sum(), (rank[kept] < 8).sum(), *(b.sum() for b in binned), *(is_argmax[b].sum() for b in binned)]
    assert counts.tolist() == wanted
    for column, numbers in zip(totals.T, [losses[kept], entropy[kept], *(confidence[b] for b in binned)], strict=True):
        exact = math.fsum(numbers)
        assert abs(math.fsum(column) - exact) <= np.finfo(float).eps / 2 * exact


def test_a_confidence_beside_its_range_is_in_the_nearest_bin():
    """Rounding can give 1 + eps. No number may lead out of the table."""
    confidence = np.array([-5, -1e-9, 1 + 1e-7, 3, 1e15])
    zeros = np.zeros(5)
    counts, _ = CPU.kernels.tally(zeros, zeros, np.zeros(5, np.int64), confidence, np.ones(5, np.bool_), np.array([1]), 4)
    assert counts.tolist() == [5, 5, 2, 0, 0, 3, 2, 0, 0, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [49, 300, 1000])
def test_a_row_has_the_same_bits_after_a_confident_row(classes, dtype, rng):
    """Confident rows are computed again. Gaps around the smallest exponential that is not 0, and -inf."""
    n, gaps = 160, (100, 107, 109, 109.5, 109.56, 109.5605, 109.57, 110, 112, 740, 745.9, 746.1, 760, np.inf)
    x = rng.standard_normal((n, classes))
    x[: n // 2] -= np.array(gaps)[np.arange(n // 2) % len(gaps), None]  # one class, or two that share the probability, are ahead
    x[np.arange(n // 2), 3] = 0
    x[np.arange(0, n // 2, 3), classes - 1] = 0
    x[n // 2 :, ::7] = -np.inf
    x = rng.permutation(x)[:, :, None].astype(dtype)
    y = np.where(rng.random(n) < 0.5, x[:, :, 0].argmax(1), rng.integers(0, classes, n))
    together = evaluation(x, y)
    for p in range(n):
        for whole, alone in zip(together, evaluation(x[p : p + 1], y[p : p + 1]), strict=True):
            assert_array_equal(whole[p], alone[0])
    assert_array_equal(together[0], -F.cross_entropy(x[:, :, 0], y, reduction="none"))
    lse = x - np.logaddexp.reduce(x.astype(np.longdouble), axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        entropy = -np.where(x > -np.inf, np.exp(lse) * lse, 0).sum((1, 2))
    assert_allclose(together[1], entropy.astype(dtype), rtol=200 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
