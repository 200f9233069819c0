"""`nbloss.partial`: blocks of classes merge to the losses and gradients of all classes, in every split and order, with all digits."""

import pickle
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from problems import DTYPES, logits

import nbloss.functional as F
from nbloss.partial import Partial, gradient, losses, merge, summarize

DOUBLE = [np.float32, np.float64]


def cuts_of(classes, blocks):
    return np.linspace(0, classes, blocks + 1).astype(int)


def parts_of(x, y, cuts, weight=None, **options):
    """The partial of each block of classes."""
    return [summarize(x[:, a:b], y, a, spread_weight=None if weight is None else weight[a:b], **options) for a, b in pairwise(cuts)]


def merged(parts):
    return reduce(merge, parts, Partial.empty(len(parts[0].top)))


def gradient_of(x, y, cuts, partial, weight=None, **options):
    return np.concatenate(
        [gradient(partial, x[:, a:b], y, a, spread_weight=None if weight is None else weight[a:b], **options) for a, b in pairwise(cuts)],
        axis=1,
    )


def ulps(actual, true):
    """The largest error in units of the last place of the true losses."""
    unit = np.spacing(np.abs(true).astype(actual.dtype)).astype(np.longdouble)
    return float((np.abs(actual - true) / unit).max())


def problem(scale, classes, dtype, confident=False, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((rows, classes)) * scale).astype(dtype), rng.integers(0, classes, rows)
    if confident:
        x[np.arange(rows), y] = 1.1 * np.abs(x).max() + 20
    return x, y


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DOUBLE)
@pytest.mark.parametrize("confident", [False, True])
@pytest.mark.parametrize("scale", [1, 10, 1e4])
@pytest.mark.parametrize("classes", [1, 2, 7, 60, 400])
def test_losses_keep_their_digits_in_every_split(dtype, confident, scale, classes):
    x, y = problem(scale, classes, dtype, confident)
    true, whole = reference.cross_entropy(x, y, reduction="none"), F.cross_entropy(x, y, reduction="none")
    for blocks in {1, 2, min(5, classes), classes}:
        actual = losses(merged(parts_of(x, y, cuts_of(classes, blocks))))
        assert actual.dtype == dtype
        assert ulps(actual, true) <= 5
        assert ulps(actual, whole) <= 8


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_every_dtype(dtype):
    x, y = logits(np.random.default_rng(0), (30, 9), dtype), np.arange(30) % 9
    part = merged(parts_of(x, y, [0, 2, 9]))
    actual, whole = losses(part), F.cross_entropy(x, y, reduction="none")
    assert actual.dtype == whole.dtype
    assert ulps(actual, whole) <= 8
    grad = gradient_of(x, y, [0, 2, 9], part)
    assert grad.dtype == x.dtype
    unit = {"float16": 1e-3, "bfloat16": 8e-3}.get(np.dtype(dtype).name, 1e-6)
    assert_allclose(grad.astype(float), F.cross_entropy_backward(1.0, x, y, reduction="sum").astype(float), rtol=unit, atol=1e-7)


def test_a_confident_row_in_blocks():
    """log-sum-exp minus the target's logit would be 0."""
    x = np.array([[20, 0, 0]], np.float32)
    part = merged(parts_of(x, np.array([0]), [0, 1, 2, 3]))
    assert_allclose(losses(part), 2 * np.exp(-20), rtol=1e-6)
    assert_allclose(gradient_of(x, np.array([0]), [0, 1, 3], part)[0, 0], -2 * np.exp(-20), rtol=1e-6)


def test_large_logits():
    x = np.full((1, 2), 1e8)
    assert_allclose(losses(merged(parts_of(x, np.array([1]), [0, 1, 2]))), np.log(2), rtol=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=12, max_size=12), min_size=1, max_size=4),
    st.lists(st.integers(0, 12), max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_split_in_any_order(rows, inner, random):
    x = np.array(rows)
    y = np.array([random.randrange(12) for _ in rows])
    parts = parts_of(x, y, [0, *sorted(inner), 12])  # some are empty
    random.shuffle(parts)
    true = reference.cross_entropy(x, y, reduction="none")
    assert_allclose(losses(merged(parts)), true.astype(float), rtol=8 * 2.3e-16, atol=1e-307)


def test_sums_of_many_blocks_of_growing_logits():
    """Each merge rescales what was summed before."""
    x, y = np.sort(np.random.default_rng(0).normal(0, 2, (20, 800)), axis=1), np.zeros(20, int)
    x[:, 0] = 60
    true = reference.cross_entropy(x, y, reduction="none")
    assert ulps(losses(merged(parts_of(x, y, range(801)))), true) <= 8


# ---- laws ------------------------------------------------------------------------------------------------------------


def same(a, b):
    """Two partials are of the same classes."""
    for name in ("top", "hit", "found", "ignored"):
        assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.dtype == b.dtype
    assert_allclose(a.rest + a.carry, b.rest + b.carry, rtol=2e-15)
    assert_allclose(a.mass, b.mass, rtol=1e-14)
    assert (a.gaps is None) == (b.gaps is None)
    if a.gaps is not None:
        assert_allclose(a.gaps, b.gaps, rtol=1e-13)


@pytest.fixture
def three():
    x, y = problem(5, 30, np.float32)
    y[::7] = -100
    return parts_of(x, y, [0, 8, 20, 30], np.linspace(0.1, 2, 30))


def test_merging_is_associative_and_commutative(three):
    a, b, c = three
    same(merge(merge(a, b), c), merge(a, merge(b, c)))
    same(merge(a, b), merge(b, a))


def test_the_empty_partial_is_the_identity(three):
    for part in three:
        empty = Partial.empty(len(part.top))
        for both in (merge(part, empty), merge(empty, part)):
            for name in ("top", "rest", "hit", "found", "ignored", "gaps"):
                assert_array_equal(getattr(both, name), getattr(part, name))
            assert (both.dtype, both.mass) == (part.dtype, part.mass)
            assert not np.any(both.carry)


def test_a_block_of_no_class_is_the_empty_partial():
    part = summarize(np.empty((3, 0), np.float32), [0, 1, -100], 5)
    same(part, merge(Partial.empty(3), part))
    assert_array_equal(part.top, Partial.empty(3).top)
    assert len(losses(summarize(np.empty((0, 4)), np.empty(0, int)))) == 0


def test_partials_pickle(three):
    same(pickle.loads(pickle.dumps(three[0])), three[0])


# ---- weights, smoothing, z-loss: what the losses of all options are made of ------------------------------------------------


@pytest.mark.parametrize("dtype", DOUBLE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1e-2])
def test_the_terms_of_all_options(dtype, weighted, smoothing, scale):
    x, y = problem(3, 13, dtype)
    w = np.linspace(0, 2, 13) if weighted else np.ones(13)  # the first class has weight 0
    x[:, 0] = -np.inf if weighted else x[:, 0]
    options = {"hit": (1 - smoothing) * w[y], "spread": smoothing / 13, "lse_square_scale": scale}
    given = {"weight": w, "label_smoothing": smoothing, "lse_square_scale": scale, "reduction": "none"}
    y[y == 0] = 1
    options["hit"] = (1 - smoothing) * w[y]
    cuts = [0, 1, 5, 13]
    part, g = merged(parts_of(x, y, cuts, w)), np.linspace(-1, 2, 40)
    eps = np.finfo(dtype).eps
    assert_allclose(losses(part, **options), reference.cross_entropy(x, y, **given).astype(float), rtol=8 * eps)
    true = reference.cross_entropy_backward(g, x, y, **given).astype(float)
    actual = gradient_of(x, y, cuts, part, w, grad_output=g, **options)
    assert_allclose(actual, true, rtol=30 * eps, atol=8 * eps)
    assert_array_equal(actual[g == 0], 0)


def test_the_gradient_may_replace_the_logits():
    x, y = problem(2, 9, np.float32)
    part, want = summarize(x, y), F.cross_entropy_backward(1.0, x, y, reduction="sum")
    result = gradient(part, x, y, out=x)
    assert result is x
    assert_allclose(x, want, rtol=1e-5, atol=1e-8)


# ---- edge cases of the contract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DOUBLE)
@pytest.mark.parametrize("cuts", [[0, 4], [0, 2, 4], [0, 1, 2, 3, 4]])
def test_edge_cases_are_those_of_the_whole_rows(dtype, cuts):
    inf, nan = np.inf, np.nan
    x = np.array(
        [
            [-inf, 1, 2, -inf],  # masked classes
            [-inf, -inf, 1, 2],  # a masked block
            [-inf, -inf, -inf, -inf],
            [-inf, -inf, 3, -inf],  # nothing but the target
            [1, 2, -inf, 3],  # the target is masked
            [1, -inf, -inf, -inf],  # the target is masked, and with it its block
            [1, nan, 2, 3],
            [1, 2, nan, 3],  # at the target
            [inf, 1, 2, 3],
            [1, 2, inf, 3],
            [nan, inf, -inf, 1],  # ignored
            [2, 2, 2, 2],
            [1e4, -1e4, 1e4, 0],
            [-0.0, 0.0, -0.0, 0.0],
        ],
        dtype,
    )
    y = np.full(len(x), 2)
    y[10] = -100
    part = merged(parts_of(x, y, cuts))
    assert_allclose(losses(part), F.cross_entropy(x, y, reduction="none"), rtol=1e-6)
    want = F.cross_entropy_backward(1.0, x, y, reduction="sum")
    assert_allclose(gradient_of(x, y, cuts, part), want, rtol=1e-6, atol=1e-12)
    assert_array_equal(gradient_of(x, y, cuts, part)[10], 0)
    smoothed = merged(parts_of(x, y, cuts, np.ones(4)))
    want = F.cross_entropy(x, y, reduction="none", label_smoothing=0.2)
    assert_allclose(losses(smoothed, hit=0.8, spread=0.2 / 4), want, rtol=1e-6)


def test_another_ignore_index():
    x, y = problem(1, 5, np.float64)
    cuts = [0, 3, 5]
    assert_allclose(losses(merged(parts_of(x, y, cuts, ignore_index=2))), F.cross_entropy(x, y, ignore_index=2, reduction="none"))


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_target_in_no_block_is_an_index_error():
    x = np.zeros((2, 3))
    with pytest.raises(IndexError, match=r"in none at index \(1,\); 1 of 2"):
        losses(summarize(x, [0, 3]))
    with pytest.raises(IndexError, match=r"got -1 at index \(0,\)"):
        summarize(x, [-1, 3])
    with pytest.raises(IndexError, match="18446744073709551615"):
        summarize(x, np.array([0, 2**64 - 1], np.uint64))


def test_overlapping_blocks_are_a_value_error():
    part = summarize(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError, match="no class in common; got the target of row 0 in both"):
        merge(part, part)
    with pytest.raises(ValueError, match="same rows; got 2 and 3"):
        merge(part, Partial.empty(3))


@pytest.mark.parametrize(
    ("kind", "words", "logits", "target", "options"),
    [
        (ValueError, r"logits should have shape \(N, c\)", np.zeros(3), [0], {}),
        (TypeError, "logits should have dtype", np.zeros((1, 3), int), [0], {}),
        (TypeError, "target should hold class numbers", np.zeros((1, 3)), [0.0], {}),
        (ValueError, r"target should have shape \(1,\)", np.zeros((1, 3)), [0, 1], {}),
        (ValueError, r"spread_weight should have shape \(3,\)", np.zeros((1, 3)), [0], {"spread_weight": [1.0]}),
        (TypeError, "ignore_index should be an integer", np.zeros((1, 3)), [0], {"ignore_index": 0.5}),
    ],
)
def test_bad_arguments(kind, words, logits, target, options):
    with pytest.raises(kind, match=words):
        summarize(logits, target, **options)


def test_a_gradient_of_other_rows_or_into_another_array():
    x, y = problem(1, 5, np.float32)
    with pytest.raises(ValueError, match="partial should be of the 40 rows of logits; got 3"):
        gradient(Partial.empty(3), x, y)
    with pytest.raises(ValueError, match="out should have shape"):
        gradient(summarize(x, y), x, y, out=np.empty((40, 4), np.float32))
