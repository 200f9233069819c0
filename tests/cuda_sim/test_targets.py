"""CUDA kernels without a reduction over logits: checks of the targets, sums over positions, the NLL loss."""

import calls
import numpy as np
import problems
import pytest
import reference
import simulator
from problems import DTYPES, INTEGERS, WIDE_DTYPES, name, work

COUNTS = [1, 2, 127, 129, 4096, 4097, 9001]  # a block adds 4096


def divisor(report):
    return report[:1].view(np.float64)[0]


def report_of(divisor, empty=np.nan):
    """A report without bad targets."""
    return np.array([np.float64(divisor).view(np.int64), 0, -1, 0, 0, np.float64(empty).view(np.int64)])


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_row_scale(rng, count, weighted, smoothing):
    w = rng.uniform(0.1, 2, 11).astype(np.float32) if weighted else None
    target = problems.with_ignored(rng, rng.integers(0, 11, count), 4)
    scale, spread, report = calls.row_scale(target, 11, np.float32, w, 4, smoothing)
    kept = target != 4
    each = np.where(kept, 1 if w is None else w.astype(np.float64)[target], 0)
    np.testing.assert_array_equal(scale, ((1 - smoothing) * each).astype(np.float32))
    if smoothing:
        np.testing.assert_array_equal(spread, np.where(kept, np.float32(smoothing / 11), 0))
    assert divisor(report) == pytest.approx(each.sum(), rel=1e-15 * np.sqrt(count))
    np.testing.assert_array_equal(report[1:5], [0, -1, 0, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [1, 130, 9001])
def test_row_scale_of_sample_weights(rng, count, weighted, smoothing):
    """Those of ignored rows are nan; a weight of 0 undoes a class weight of inf."""
    w = rng.uniform(0.1, 2, 11).astype(np.float32) if weighted else None
    target, own = problems.with_ignored(rng, rng.integers(0, 10, count), 4), rng.uniform(0, 2, count).astype(np.float32)
    own[count // 2] = 0
    if weighted:
        w[10] = np.inf
        target[count // 2] = 10
    kept = target != 4
    of_class = np.ones(count) if w is None else np.where(np.isinf(w), 0, w).astype(np.float64)[target]
    each = np.where(kept, own.astype(np.float64) * of_class, 0)
    own[~kept] = np.nan
    scale, spread, report = calls.row_scale(target, 11, np.float32, w, 4, smoothing, sample_weight=own, empty=0.0)
    np.testing.assert_array_equal(scale, ((1 - smoothing) * each).astype(np.float32))
    if smoothing:
        np.testing.assert_array_equal(spread, np.where(kept, smoothing / 11 * own.astype(np.float64), 0).astype(np.float32))
    assert divisor(report) == pytest.approx(each.sum(), rel=1e-15 * np.sqrt(count), abs=0)
    np.testing.assert_array_equal(report[1:], [0, -1, 0, 0, 0])
    own[kept] = -own[kept] - 1
    assert np.isnan(divisor(calls.row_scale(target, 11, np.float32, w, 4, smoothing, sample_weight=own)[2])) == kept.any()
    report = calls.row_scale(target, 11, np.float32, w, 4, smoothing, sample_weight=own, over=2.5)[2]
    assert divisor(report) == 2.5


@pytest.mark.parametrize("count", [1, 4097, 9001])
def test_the_report_of_soft_targets(rng, count):
    own, report = rng.uniform(0, 2, count).astype(np.float32), calls.unwritten(6, np.int64)
    calls.kernels.weight_sum(own, 0.0, report)
    assert divisor(report) == pytest.approx(own.sum(dtype=np.float64), rel=1e-15 * np.sqrt(count))
    assert report[1] == report[4] == report[5] == 0
    calls.kernels.weight_sum(-own, np.nan, report)
    assert np.isnan(divisor(report)) and np.isnan(report[5:].view(np.float64)[0])


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_weigh(rng, dtype):
    values, own = rng.normal(size=300).astype(dtype), rng.integers(-3, 4, 300).astype(dtype)
    values[own == 0] = np.nan
    expected = np.where(own == 0, 0, values * own)
    out = calls.unwritten(300, dtype)
    calls.kernels.weigh(values, own, out)
    np.testing.assert_array_equal(out, expected)
    calls.kernels.weigh(values, own, values)
    np.testing.assert_array_equal(values, expected)
    calls.kernels.weigh(np.array([0.5], dtype), own, out)
    np.testing.assert_array_equal(out, own * dtype(0.5))


@pytest.mark.parametrize("count", [4096, 9001])
def test_the_bits_of_the_divisor_do_not_depend_on_the_order_of_threads(rng, count):
    w = rng.uniform(0.1, 2, 11).astype(np.float32)
    target = rng.integers(0, 11, count)
    first = calls.row_scale(target, 11, np.float32, w)[2]
    for seed in range(3):
        simulator.seed(seed)
        np.testing.assert_array_equal(calls.row_scale(target, 11, np.float32, w)[2], first)


@pytest.mark.parametrize("dtype", INTEGERS, ids=name)
def test_row_scale_takes_every_integer_dtype(rng, dtype):
    """Unsigned targets keep their value: a uint64 of 2**63 or more is neither a class nor ignore_index."""
    target = rng.integers(0, 100, 40).astype(dtype)
    scale, _, report = calls.row_scale(target, 100, np.float32, ignore_index=7)
    np.testing.assert_array_equal(scale, target != 7)
    assert report[1] == 0
    largest = np.iinfo(dtype).max
    target[11] = largest
    index = int(np.array(largest).astype(np.int64)) if dtype.itemsize == 8 else -1
    scale, _, report = calls.row_scale(target, 100, np.float32, ignore_index=-1 if dtype == np.uint64 else index - 1)
    assert report[1] == 1 and report[2] == 11 and scale[11] == 0
    assert np.int64(report[3]).astype(dtype) == largest


@pytest.mark.parametrize("ignore_index", [-(2**63), -100, 0, 5, 6, 2**40, 2**63 - 1])
def test_ignore_index_may_be_any_number(ignore_index):
    target = np.array([0, 5, ignore_index, 1])
    scale, _, report = calls.row_scale(target, 6, np.float64, ignore_index=ignore_index)
    np.testing.assert_array_equal(scale, target != ignore_index)
    assert report[1] == 0 and divisor(report) == (target != ignore_index).sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("count", [1, 130, 9001])
@pytest.mark.parametrize("where", ["first", "last", "random"])
def test_bad_targets(rng, count, where, smoothing):
    """The report counts them and names the first; their weight is 0; ``sticky`` keeps the first call that found any."""
    target = problems.with_ignored(rng, rng.integers(0, 5, count), -100)
    bad = {"first": [0], "last": [count - 1], "random": np.unique(rng.integers(0, count, 7))}[where]
    target[bad] = rng.choice([-1, 5, 2**40, -(2**63)], len(bad))
    sticky = np.zeros(6, np.int64)
    scale, spread, report = calls.row_scale(target, 5, np.float32, None, -100, smoothing, sticky, 17)
    first = bad[0]
    np.testing.assert_array_equal(report[1:5], [len(bad), first, target[first], 0])
    np.testing.assert_array_equal(sticky, [17, len(bad), first, target[first], 5, 1])
    assert (scale[bad] == 0).all() and (not smoothing or (spread[bad] == 0).all())
    kept = (target != -100) & ~np.isin(np.arange(count), bad)
    assert (scale[kept] > 0).all() and divisor(report) == kept.sum()
    calls.row_scale(np.array([99]), 5, np.float32, sticky=sticky, serial=18)
    assert sticky[0] == 17
    calls.row_scale(np.array([1]), 5, np.float32, sticky=(clean := np.zeros(6, np.int64)), serial=18)
    assert (clean == 0).all()


# ------------------------------ sums ------------------------------


@pytest.mark.parametrize("count", [0, *COUNTS])
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_reduced(rng, dtype, count):
    """The sum is taken in float64: it is exact where float32 would round."""
    losses = rng.integers(0, 2**20, count).astype(dtype)
    report = report_of(7)
    assert calls.reduced(losses, report, "sum") == dtype(losses.astype(np.float64).sum())
    assert calls.reduced(losses, report, "mean") == dtype(losses.astype(np.float64).sum() / 7)
    assert calls.reduced(losses, None, "mean", 3.0) == dtype(losses.astype(np.float64).sum() / 3)
    assert calls.reduced(losses, None, "sum", 3.0) == dtype(losses.astype(np.float64).sum())
    report[1] = 2  # bad targets make the result nan
    assert np.isnan(calls.reduced(losses, report, "sum")) and np.isnan(calls.reduced(losses, report, "mean"))


@pytest.mark.parametrize("size", [0, 1])
def test_a_mean_over_nothing_is_nan(size):
    report = report_of(0)
    assert np.isnan(calls.reduced(np.full(3, size, np.float32), report, "mean"))
    assert np.isnan(calls.upstream(float(size), report, "mean", np.float32))
    assert np.isnan(calls.reduced(np.zeros(0, np.float32), None, "mean", 0.0))
    report = report_of(0, empty=0.0)
    assert calls.reduced(np.full(3, size, np.float32), report, "mean") == 0
    assert calls.upstream(float(size), report, "mean", np.float32) == 0
    assert calls.reduced(np.zeros(0, np.float32), None, "mean", 0.0, empty=0.0) == 0


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_ratio(dtype):
    report = report_of(3)
    for g in (-1.5, np.array([-1.5], dtype)):
        assert calls.upstream(g, report, "mean", dtype) == dtype(-1.5 / 3)
        assert calls.upstream(g, report, "sum", dtype) == dtype(-1.5)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("count", [7, 9001])
def test_the_check_of_the_targets_writes_the_upstream_gradient(rng, count, dtype):
    target, w = rng.integers(0, 5, count), rng.uniform(0.5, 2, 5).astype(dtype)
    for divides in (False, True):
        out = calls.unwritten(1, dtype)
        _, _, report = calls.row_scale(target, 5, dtype, w, upstream=(-1.5, divides, out))
        assert out[0] == dtype(-1.5 / divisor(report) if divides else -1.5)
    nothing = calls.unwritten(1, dtype)
    calls.row_scale(np.full(count, -100), 5, dtype, w, upstream=(1.0, True, nothing))
    assert np.isnan(nothing[0])  # no row reads it: each has weight 0


# ------------------------------ NLL ------------------------------

SHAPES = [(5, 1, 1), (7, 9, 1), (3, 70, 1), (2, 4, 70), (3, 33, 5), (0, 4, 1)]


def nll_problem(rng, shape, dtype):
    outer, classes, inner = shape
    w = problems.weights(rng, classes, work(dtype))
    target = problems.with_ignored(rng, rng.integers(0, classes, (outer, inner)), -100)
    return problems.log_probs(rng, shape, dtype), target, w, rng.uniform(0.5, 2, (outer, inner)).astype(work(dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nll(rng, dtype, shape):
    logp, target, w, g = nll_problem(rng, shape, dtype)
    logp.transpose(0, 2, 1)[target == -100] = np.nan
    scale, _, _ = calls.row_scale(target, shape[1], dtype, w)
    losses, out = calls.unwritten(target.size, work(dtype)), calls.unwritten(shape, dtype)
    calls.kernels.nll(calls.stored(logp), target.reshape(-1), -1, scale, losses)
    clean = np.nan_to_num(logp)
    problems.assert_loss(losses.reshape(target.shape), reference.nll_loss(clean, target, w, reduction="none"), dtype)
    for up in (g, g[:1, :1]):
        calls.kernels.nll_backward(target.reshape(-1), -1, scale, up.reshape(-1), calls.stored(out))
        expected = reference.nll_loss_backward(np.broadcast_to(up, g.shape) if up.size else g, clean, target, w, reduction="none")
        problems.assert_within(out, expected, 2 * problems.eps(dtype) * np.abs(expected))


@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nll_of_probabilities(rng, dtype, shape):
    logp, _, w, g = nll_problem(rng, shape, dtype)
    y = problems.probabilities(rng, shape, work(dtype))
    if y.size:
        y[0, 0], logp[0, 0] = 0, -np.inf  # a class with y = 0 adds 0, even at -inf
    losses, out = calls.unwritten(shape[0] * shape[2], work(dtype)), calls.unwritten(shape, dtype)
    calls.kernels.nll_soft(calls.stored(logp), y, w, losses)
    problems.assert_loss(losses.reshape(g.shape), reference.nll_loss(logp, y, w, reduction="none"), dtype)
    calls.kernels.nll_soft_backward(y, w, g.reshape(-1), calls.stored(out))
    expected = reference.nll_loss_backward(g, logp, y, w, reduction="none")
    problems.assert_within(out, expected, 2 * problems.eps(dtype) * np.abs(expected) + problems.floor(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("layout", ["C", "transposed", "reversed", "every other"])
def test_nll_takes_any_strides(rng, dtype, layout):
    logp = problems.log_probs(rng, (6, 200, 4), np.float32)
    logp = {"C": logp, "transposed": logp.T, "reversed": logp[::-1, ::-1, ::-1], "every other": logp[::2, ::2]}[layout]
    outer, classes, inner = logp.shape
    target = rng.integers(0, min(classes, 128), (outer, inner)).astype(dtype)
    scale, _, _ = calls.row_scale(target, classes, np.float32)
    losses = calls.unwritten(target.size, np.float32)
    calls.kernels.nll(logp, *calls.signed(target)[:2], scale, losses)
    problems.assert_loss(losses.reshape(target.shape), reference.nll_loss(logp, target, reduction="none"), np.float32)
