"""`cross_entropy_stats`: log-sum-exp, log-probability, argmax, correct and entropy of each row."""

import os

import numpy as np
import pytest
import reference
from bits import by_one_thread_and_two
from layouts import LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from problems import (
    DTYPES,
    INTEGERS,
    WIDE_DTYPES,
    assert_within,
    class_count,
    class_index,
    eps,
    logits,
    name,
    one_hot,
    probabilities,
    rows_shape,
    tiny,
    with_ignored,
    work,
)
from refusals import X, Y, refused

import nbloss.functional as F

SHAPES = [
    (1,), (7,), (60,),
    (5, 1), (5, 3), (70, 10), (9, 48), (9, 49), (21, 65), (33, 1000), (3, 4099), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5),
]  # fmt: skip
IGNORED = (0, 0, -1, False, 0)
interpreted = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
same_bits = pytest.mark.skipif(interpreted, reason="NumPy's sums depend on the layout")


def assert_same(actual, expected, note=""):
    """The same bits, dtypes and kinds."""
    for field, a, b in zip(F.Stats._fields, actual, expected, strict=True):
        assert type(a) is type(b), (note, field)
        if a is not None:
            assert a.dtype == b.dtype, (note, field)
            assert_array_equal(a, b, err_msg=f"{note} {field}")


def check(x, y=None, *, ignore_index=-100, ulps=4, note=""):
    """The statistics of a call, compared with the reference."""
    actual = F.cross_entropy_stats(x, y, ignore_index=ignore_index)
    expected = reference.stats(x, y, ignore_index)
    dtype = work(x.dtype)
    wanted = dtype, None if y is None else dtype, np.int64, None if y is None else np.bool_, dtype
    for a, e, kind in zip(actual, expected, wanted, strict=True):
        assert (a is None) == (e is None) == (kind is None), note
        if a is not None:
            assert a.dtype == kind and np.shape(a) == rows_shape(x.shape) and isinstance(a, np.ndarray) == (x.ndim > 1), note
    ulp = (1 if dtype == np.float32 else 2) * ulps * eps(dtype)
    with np.errstate(all="ignore"):
        top = np.nan_to_num(np.abs(np.asarray(x).astype(reference.WIDE).max(axis=reference.class_axis(x))), nan=0, posinf=0)
    assert_within(actual.lse, expected[0], ulp * (top + np.abs(np.nan_to_num(expected[0]))), (note, "lse"))
    assert_array_equal(actual.argmax, expected[2], err_msg=f"{note} argmax")
    assert_within(actual.entropy, expected[4], ulp * np.abs(expected[4]) + tiny(dtype), (note, "entropy"))
    if y is not None:
        gap = np.abs(np.where(np.isfinite(expected[1]), expected[1], 0))
        assert_within(actual.log_prob, expected[1], ulp * gap + tiny(dtype), (note, "log_prob"))
        assert_array_equal(actual.correct, expected[3], err_msg=f"{note} correct")
    return actual


# ---- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_every_shape_and_dtype(shape, dtype, rng):
    for scale, offset in ((1.0, 0), (5.0, 0), (3.0, 300)):
        x, y = (logits(rng, shape, np.float64, scale) + offset).astype(dtype), class_index(rng, shape)
        stats = check(x, y)
        alone = check(x)
        assert_same(alone, stats._replace(log_prob=None, correct=None), (shape, scale))
        assert stats.correct.any() or class_count(shape) > 5


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (33, 49), (17, 1000)], ids=name)
def test_libraries_have_the_same_numbers(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    stats = F.cross_entropy_stats(x, y)
    assert_array_equal(stats.argmax, np.argmax(x, axis=1))
    special = pytest.importorskip("scipy.special")
    assert_allclose(stats.lse, special.logsumexp(x.astype(float), axis=1), rtol=8 * eps(dtype), atol=8 * eps(dtype))
    torch = pytest.importorskip("torch")
    categorical = torch.distributions.Categorical(logits=torch.from_numpy(x).double())
    assert_allclose(stats.entropy, categorical.entropy().numpy(), rtol=64 * eps(dtype))
    assert_allclose(stats.log_prob, categorical.log_prob(torch.from_numpy(y)).numpy(), rtol=64 * eps(dtype))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("margin", [5, 10, 20, 50])
@pytest.mark.parametrize("count", [2, 3, 10, 48, 49, 127, 1000])
def test_a_confident_row_keeps_its_digits(count, margin, dtype, rng):
    """The entropy is about (margin + 1) exp(-margin): log s - sum p x would lose all of it."""
    mpmath = pytest.importorskip("mpmath")
    x, y = rng.normal(0, 1, (12, count)), rng.integers(0, count, 12)
    x[np.arange(12), y] += margin + x.max(axis=1)
    x = (x + 100 * rng.normal(0, 1, (12, 1))).astype(dtype)
    lse, log_prob, entropy = [], [], []
    with mpmath.workdps(50):
        for row, t in zip(x, y, strict=True):
            v = [mpmath.mpf(float(n)) - mpmath.mpf(float(row[t])) for n in row]
            others = mpmath.fsum(mpmath.exp(n) for c, n in enumerate(v) if c != t)
            total = 1 + others
            log_prob.append(float(-mpmath.log1p(others)))
            lse.append(float(mpmath.mpf(float(row[t])) + mpmath.log1p(others)))
            entropy.append(float(mpmath.log1p(others) - mpmath.fsum(mpmath.exp(n) * n for n in v) / total))
    stats = F.cross_entropy_stats(x, y)
    assert stats.correct.all() and (stats.argmax == y).all()
    ulp = 4 * eps(dtype) * (1 if dtype == np.float32 else 2)
    assert_allclose(stats.lse, lse, rtol=ulp)
    assert_allclose(stats.log_prob, log_prob, rtol=ulp, atol=tiny(dtype))
    assert_allclose(stats.entropy, entropy, rtol=ulp, atol=tiny(dtype))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(40, 3), (40, 10), (12, 49), (5, 1000), (2, 21, 70), (2, 60, 81)], ids=name)
@pytest.mark.parametrize("offset", [1e4, -1e4, 1e7])
def test_a_common_offset_costs_no_digits(offset, shape, dtype, rng):
    x = (logits(rng, shape, np.float64) + offset).astype(dtype)
    check(x, class_index(rng, shape))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("spread", [60, 300, 1e30])
@pytest.mark.parametrize("shape", [(40, 10), (12, 49), (5, 1000)], ids=name)
def test_probabilities_that_underflow_add_nothing(shape, spread, dtype, rng):
    check(logits(rng, shape, dtype, spread), class_index(rng, shape))


# ---- laws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_log_prob_is_the_negated_loss(shape, dtype, rng):
    """To the last bit above 48 classes. Up to 48 the loss adds without the maximum, and both are within 4 ulp."""
    for scale in (1.0, 5.0):
        x, y = logits(rng, shape, dtype, scale), with_ignored(rng, class_index(rng, shape), -100)
        loss = F.cross_entropy(x, y, reduction="none")
        log_prob = F.cross_entropy_stats(x, y).log_prob
        if class_count(shape) > 48:
            assert_array_equal(log_prob, -loss)
        else:
            assert_allclose(log_prob, -loss, rtol=(4 if work(dtype) == np.float32 else 8) * eps(work(dtype)), atol=tiny(work(dtype)))


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("count", [2, 8, 16, 48, 49, 64, 1000])
def test_equal_logits_have_the_largest_entropy(count, dtype):
    for value in (0, -3, 1e5):
        stats = F.cross_entropy_stats(np.full((3, count), value, dtype), [0, 1, count - 1])
        assert_allclose(stats.entropy, np.log(count), rtol=2 * eps(dtype))
        assert (stats.argmax == 0).all() and stats.correct.all()


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (21, 65), (2, 21, 12, 12)], ids=name)
def test_classes_of_minus_infinity_are_as_if_they_were_not_there(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    kept = rng.permutation(class_count(shape))[: class_count(shape) // 2]
    masked = np.full_like(x, -np.inf)
    masked[:, kept] = x[:, kept]
    y = kept[y % len(kept)]
    stats = check(masked, y)
    fewer = F.cross_entropy_stats(x[:, kept], np.argsort(kept)[np.searchsorted(np.sort(kept), y)])
    for a, b in zip((stats.lse, stats.log_prob, stats.entropy), (fewer.lse, fewer.log_prob, fewer.entropy), strict=True):
        assert_allclose(a, b, rtol=16 * eps(dtype), atol=8 * eps(dtype) * np.abs(x).max())
    assert_array_equal(stats.correct, fewer.correct)
    assert (F.cross_entropy_stats(masked, np.full(y.shape, np.setdiff1d(np.arange(shape[1]), kept)[0])).log_prob == -np.inf).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 3), (40, 48), (40, 49), (9, 300), (9, 2000), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_the_first_of_several_maxima_wins_and_all_are_correct(shape, dtype, rng):
    x = np.asarray(rng.integers(-2, 3, shape)).astype(dtype)
    stats = check(x, class_index(rng, shape))
    for c in (0, shape[1] - 1):
        at_c = np.moveaxis(x, 1, 0)[c] == x.max(axis=1)
        assert_array_equal(F.cross_entropy_stats(x, np.full(rows_shape(shape), c)).correct, at_c)
    assert_array_equal(stats.argmax, x.astype(float).argmax(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [49, 255, 256, 257, 300, 511, 512, 513, 1000, 2049])
def test_the_maximum_is_found_wherever_it_is(count, dtype, rng):
    """Rows follow each other, so that each is searched for its maximum while the one before it is summed."""
    x = logits(rng, (count, count), np.float64, 0.5).astype(dtype)
    x[np.arange(count), np.arange(count)] = 9
    x[np.arange(count), np.minimum(np.arange(count) + 3, count - 1)] = 9  # and once more, further on
    assert_array_equal(F.cross_entropy_stats(x).argmax, np.arange(count))


# ---- rows that are no numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 3), (40, 10), (40, 48), (40, 49), (23, 300), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_rows_with_nan_and_infinities(shape, dtype, rng):
    x = np.asarray(rng.choice([0, 1, -np.inf, np.inf, np.nan], shape, p=[0.4, 0.4, 0.16, 0.02, 0.02])).astype(dtype)
    x[0], x[-1] = -np.inf, np.nan
    stats = check(x, class_index(rng, shape))
    odd = np.isnan(x.astype(float)).any(axis=1) | (x == np.inf).any(axis=1) | (x == -np.inf).all(axis=1)
    for number in (stats.lse, stats.log_prob, stats.entropy):
        assert_array_equal(np.isnan(number), odd)


@pytest.mark.parametrize("shape", [(6, 10), (6, 65), (6, 300)], ids=name)
def test_the_first_nan_is_the_argmax(shape, rng):
    x = logits(rng, shape)
    x[:, 7], x[:, [3, 5]] = np.inf, np.nan
    stats = F.cross_entropy_stats(x, np.full(6, 3))
    assert (stats.argmax == 3).all() and not stats.correct.any()


# ---- ignored rows, targets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignore_index", [-100, 2, 10**9])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 3), (70, 10), (40, 49), (33, 300), (2, 21, 12, 12), (2, 60, 9, 9)], ids=name)
def test_an_ignored_row_has_zeros_whatever_it_holds(shape, dtype, ignore_index, rng):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), ignore_index)
    np.moveaxis(x, 1, -1)[y == ignore_index] = np.nan
    stats = check(x, y, ignore_index=ignore_index)
    for a, e in zip(stats, IGNORED, strict=True):
        assert (a[y == ignore_index] == e).all()
    kept = F.cross_entropy_stats(np.ascontiguousarray(np.moveaxis(x, 1, -1)[y != ignore_index]), y[y != ignore_index])
    if not interpreted:
        assert_same([a[y != ignore_index] for a in stats], kept)
    for a, e in zip(F.cross_entropy_stats(x, np.full_like(y, ignore_index), ignore_index=ignore_index), IGNORED, strict=True):
        assert (a == e).all()


@pytest.mark.parametrize("integer", [*INTEGERS, np.dtype(bool)], ids=name)
def test_every_integer_dtype_is_taken(integer, rng):
    for shape in ((40, 10), (40, 60)):
        x, y = logits(rng, shape), rng.integers(0, 2, 40).astype(integer)
        assert_same(F.cross_entropy_stats(x, y), F.cross_entropy_stats(x, y.astype(np.int64)))


def test_an_unbatched_input_gives_scalars(rng):
    for count in (3, 100):
        x = logits(rng, (count,))
        stats = F.cross_entropy_stats(x, 2)
        assert [type(a) for a in stats] == [np.float32, np.float32, np.int64, np.bool_, np.float32]
        assert_same(stats, [a[0] for a in F.cross_entropy_stats(x[None], [2])])


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (0, 60), (2, 3, 0), (0, 3, 4)], ids=name)
def test_no_rows_have_no_statistics(shape):
    for stats in (
        F.cross_entropy_stats(np.zeros(shape, np.float16)),
        F.cross_entropy_stats(np.zeros(shape), np.zeros(rows_shape(shape), int)),
    ):
        assert all(a is None or a.shape == rows_shape(shape) for a in stats)


def test_lists_are_taken():
    assert_same(F.cross_entropy_stats(X.tolist(), Y.tolist()), F.cross_entropy_stats(X.astype(float), Y))


# ---- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (5, 60), (2, 21, 12, 12)], ids=name)
def test_a_target_out_of_range_is_named(shape):
    y = np.zeros(rows_shape(shape), np.int64)
    y.flat[3] = y.flat[4] = 77
    with refused(IndexError, "target", "77", str(tuple(map(int, np.unravel_index(3, y.shape)))), "2 of"):
        F.cross_entropy_stats(np.zeros(shape, np.float32), y)


def test_probabilities_are_refused(rng):
    for target in (probabilities(rng, X.shape), one_hot(Y, X.shape)):
        with refused(TypeError, "target", "class numbers", "probabilities"):
            F.cross_entropy_stats(X, target)


def test_other_bad_arguments_are_refused_as_the_loss_refuses_them():
    bad = [
        (X.astype(int), Y, {}), (X, Y.astype(float), {}), (X, Y[:-1], {}), (X, Y[:, None], {}), (np.float32(1), None, {}), (X, "a", {}),
        (np.zeros((2, 0)), np.zeros(2, int), {}), (X, Y, {"ignore_index": 0.5}), (X, Y, {"ignore_index": 2**63}), (X, Y, {"device": "tpu"}),
    ]  # fmt: skip
    for x, y, options in bad:
        with pytest.raises((TypeError, ValueError)) as wanted:
            F.cross_entropy(x, 0 if y is None else y, **options)
        with pytest.raises(wanted.type, match=None) as found:
            F.cross_entropy_stats(x, y, **options)
        assert str(found.value) == str(wanted.value)
    with refused(ValueError, "at least one class"):
        F.cross_entropy_stats(np.zeros((2, 0)))


# ---- the same bits ----------------------------------------------------------------------------------------------------------


@same_bits
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 10), (9, 49), (33, 300), (2, 21, 12, 12), (2, 60, 9, 9), (3, 5, 4, 2, 3)], ids=name)
def test_every_layout_has_the_same_bits(shape, dtype, rng):
    x, y = logits(rng, shape, dtype), with_ignored(rng, class_index(rng, shape), -100)
    x.flat[5] = np.nan
    for target in (y, None):
        expected = F.cross_entropy_stats(x, target)
        for layout, lay in LAYOUTS.items():
            assert_same(F.cross_entropy_stats(lay(x), target if target is None else lay(target)), expected, layout)


@same_bits
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(301, 10), (101, 48), (101, 49), (31, 300)], ids=name)
def test_rows_and_channels_first_have_the_same_bits(shape, dtype, rng):
    x, y = logits(rng, shape, dtype, 8.0), with_ignored(rng, class_index(rng, shape), -100)
    rows = F.cross_entropy_stats(x, y)
    assert_same([a[0] for a in F.cross_entropy_stats(np.ascontiguousarray(x.T)[None], y[None])], rows)
    one_by_one = [F.cross_entropy_stats(x[k : k + 1], y[k : k + 1]) for k in range(len(x))]
    assert_same([np.concatenate(a) for a in zip(*one_by_one, strict=True)], rows)


@pytest.mark.parametrize("shape", [(3000, 10), (700, 200), (64, 4099), (9, 21, 40, 40), (4, 60, 70, 9)], ids=name)
def test_one_thread_and_two_give_the_same_bits(shape, rng):
    x, y = logits(rng, shape, scale=6.0), with_ignored(rng, class_index(rng, shape), -100)
    assert_same(*by_one_thread_and_two(lambda: F.cross_entropy_stats(x, y)))


def test_nothing_of_the_input_is_changed(rng):
    for shape in ((5, 3), (5, 60), (2, 21, 12, 12)):
        x, y = logits(rng, shape), class_index(rng, shape)
        copies = x.copy(), y.copy()
        F.cross_entropy_stats(x, y)
        assert_array_equal(x, copies[0])
        assert_array_equal(y, copies[1])
