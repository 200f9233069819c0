"""Hypothesis over shapes, dtypes, options and memory layouts: whatever the combination, the oracle's numbers."""

import numpy as np
import pytest
import reference
from layouts import LAYOUTS
from problems import FLOATS, INTEGERS, REDUCTIONS, assert_gradient, assert_loss, class_count, rows_shape, work

import nbloss.functional as F

pytest.importorskip("hypothesis", reason="the property tests are hypothesis's")
from hypothesis import given
from hypothesis import strategies as st

shapes = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(0, 40), st.integers(1, 140)),
    st.tuples(st.integers(0, 4), st.integers(1, 40), st.integers(0, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
)
ignored = st.one_of(st.integers(-200, 200), st.sampled_from([-(2**63), 2**63 - 1, -1, 0]))


@st.composite
def problems(draw, soft):
    """Input, target and weight, each in a layout of its own, the same in C order, and the options."""
    shape, rng = draw(shapes), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype, count = draw(st.sampled_from(FLOATS)), class_count(shape)
    scale = draw(st.sampled_from([0.0, 0.1, 3.0, 20.0]))
    x = np.asarray(rng.normal(0, scale, shape)).astype(dtype)
    if draw(st.booleans()):
        x = np.round(x.astype(np.float64)).astype(dtype)  # ties
    options = {
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "label_smoothing": draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])),
    }
    if soft:
        y = rng.uniform(0, 1, shape) * (rng.random(shape) < 0.7)
        y = np.asarray(y).astype(draw(st.sampled_from([dtype, np.float32])))
    else:
        kinds = INTEGERS if dtype == np.float32 else [np.dtype(np.int64)]  # every pair of types is a kernel to compile
        fits = [d for d in kinds if count - 1 <= np.iinfo(d).max]
        y = np.asarray(rng.integers(0, count, rows_shape(shape))).astype(draw(st.sampled_from(fits)))
        options["ignore_index"] = draw(ignored)
        if np.iinfo(y.dtype).min <= options["ignore_index"] <= np.iinfo(y.dtype).max:
            y = np.where(rng.random(y.shape) < 0.3, options["ignore_index"], y).astype(y.dtype)
    w = (rng.integers(0, 9, count) / 4).astype(dtype) if draw(st.booleans()) else None
    plain = (x, y, w)
    lay = [LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))] for _ in plain]
    views = [a if a is None or not a.ndim or not a.size else f(a) for a, f in zip(plain, lay, strict=True)]
    return plain, views, options


def check(problem):
    (x, y, w), views, options = problem
    expected = reference.cross_entropy(x, y, w, **options)
    assert_loss(F.cross_entropy(*views, **options), expected, x.dtype)
    loss, grad = F.cross_entropy_value_and_grad(*views, **options)
    assert_loss(loss, expected, x.dtype)
    if np.isfinite(expected).all():  # a mean over weights of 0 has no gradient
        terms = reference.cross_entropy_terms(1.0, x, y, w, **options)
        assert_gradient(grad, x, *terms)
        assert_gradient(F.cross_entropy_backward(1.0, *views, **options), x, *terms)


@given(problems(soft=False))
def test_cross_entropy_of_class_indices_is_the_oracle_s(problem):
    check(problem)


@given(problems(soft=True))
def test_cross_entropy_of_probabilities_is_the_oracle_s(problem):
    check(problem)


@given(problems(soft=False))
def test_nll_of_log_softmax_is_cross_entropy_within_the_rounding_of_log_softmax(problem):
    (x, y, w), views, options = problem
    options = {k: v for k, v in options.items() if k != "label_smoothing"}
    logp = F.log_softmax(views[0], 0 if x.ndim == 1 else 1)
    exact = reference.nll_loss(logp, y, w, **options)
    assert_loss(F.nll_loss(logp, *views[1:], **options), exact, work(x.dtype) if work(x.dtype) == np.float64 else x.dtype)


@given(shapes, st.sampled_from(FLOATS), st.sampled_from(sorted(LAYOUTS)), st.integers(-4, 3), st.integers(0, 2**32 - 1))
def test_exp_of_log_softmax_sums_to_1_over_its_axis(shape, dtype, layout, dim, seed):
    dim = max(-len(shape), min(dim, len(shape) - 1))
    x = np.asarray(np.random.default_rng(seed).normal(0, 9, shape)).astype(dtype)
    x = LAYOUTS[layout](x) if x.size else x
    y = F.log_softmax(x, dim)
    assert y.shape == shape
    if x.size:
        exact = np.exp(reference.log_softmax(x, dim)).astype(float)
        unit = np.spacing(np.abs(y).astype(np.float32)).astype(float) if np.dtype(dtype).itemsize > 2 else 0.0
        assert (np.abs(np.exp(y.astype(float)) - exact) <= exact * (4 * unit + np.abs(y.astype(float)) * 0.008 + 1e-6)).all()
