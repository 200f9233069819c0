"""The second derivatives of cross entropy by the CUDA kernels, against the oracle and against the CPU's rules."""

import numpy as np
import pytest
import reference
from problems import DTYPES, WIDE_DTYPES, class_count, eps, logits, name, probabilities, rows_shape, weights, with_ignored
from test_second_order import assert_values, problem

import nbloss.functional as F
from nbloss import to_device, to_host

SHAPES = [(7,), (5, 3), (3, 70), (2, 300), (2, 5, 9), (2, 60, 3), (140, 4)]


def both(v, x, y, *given, **options):
    return (
        F.cross_entropy_hvp(v, x, y, *given, device="cuda", **options),
        F.cross_entropy_hessian_diag(x, y, *given, device="cuda", **options),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(rng, dtype, shape):
    v, x, y = problem(rng, shape, dtype)
    g = np.asarray(rng.uniform(0.5, 2.0, rows_shape(shape)).astype(np.float32))
    for options in ({}, {"reduction": "none", "grad_output": g, "lse_square_scale": 0.01}):
        assert_values(both(v, x, y, **options), v, x, y, apart=dtype == np.float64, **options)


@pytest.mark.parametrize("shape", [(6, 5), (3, 70), (2, 40, 3)], ids=name)
def test_options(rng, shape):
    v, x, y = problem(rng, shape)
    w, own = weights(rng, class_count(shape)), np.asarray(rng.integers(0, 17, rows_shape(shape)) / 8)
    for target in (with_ignored(rng, y, -100), probabilities(rng, shape)):
        for options in (
            {"label_smoothing": 0.1},
            {"label_smoothing": 0.1, "sample_weight": own, "lse_square_scale": 0.02},
            {"sample_weight": own, "divisor": 3.0, "grad_output": -2.0},
        ):
            for given in ((), (w,)):
                assert_values(both(v, x, target, *given, **options), v, x, target, *given, note=str(options), **options)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_digits_are_kept_where_a_class_has_nearly_all_of_the_probability(rng, dtype, classes):
    x = rng.uniform(-1, 1, (4, classes)).astype(dtype)
    at = np.arange(4), rng.integers(0, classes, 4)
    x[at] = 27
    v, y = np.abs(logits(rng, x.shape, dtype, 1.0)), np.arange(4)
    v[at] = -1
    for result, wanted in zip(
        both(v, x, y),
        (reference.cross_entropy_hvp(v, x, y), reference.cross_entropy_hessian_diag(x, y)),
        strict=True,
    ):
        np.testing.assert_allclose(result[at], wanted[at].astype(np.float64), rtol=12 * eps(dtype))


@pytest.mark.parametrize("classes", [4, 60])
def test_infinite_logits_and_rows_that_do_not_count(rng, classes):
    v, x, y = problem(rng, (6, classes))
    x[0, 2:], x[1], x[2, 1], x[3, 0], x[4] = -np.inf, -np.inf, np.inf, np.nan, np.nan
    y[4] = -100
    for options in ({"reduction": "sum"}, {"lse_square_scale": 0.1}):
        results = both(v, x, y, **options)
        assert_values(results, v, x, y, **options)
        for result in results:
            assert np.isnan(result[1:4]).all() and not result[4].any() and not result[0, 2:].any()


def test_arrays_on_the_device(rng):
    for shape in ((3, 6), (3, 40)):
        v, x, y = problem(rng, shape)
        there = [to_device(a, "cuda") for a in (v, x, y)]
        expected = both(v, x, y, label_smoothing=0.1)
        for _ in range(2):  # the second call repeats what was recorded
            hv = F.cross_entropy_hvp(*there, label_smoothing=0.1)
            diagonal = F.cross_entropy_hessian_diag(*there[1:], label_smoothing=0.1)
            np.testing.assert_array_equal(to_host(hv), expected[0])
            np.testing.assert_array_equal(to_host(diagonal), expected[1])
        out = to_device(v, "cuda")
        assert F.cross_entropy_hvp(out, *there[1:], label_smoothing=0.1, out=out) is out
        np.testing.assert_array_equal(to_host(out), expected[0])


@pytest.mark.parametrize("of_logits", [{"softcap": 5.0}, {"softcap": 9.0, "logit_scale": 1.5}, {"logit_scale": 0.25}], ids=str)
def test_of_mapped_logits_as_on_the_cpu(rng, of_logits):
    for shape, dtype in (((5, 3), np.float32), ((3, 70), np.float16), ((2, 5, 9), np.float64)):
        v, x, y = problem(rng, shape, dtype)
        for target in (with_ignored(rng, y, -100), probabilities(rng, shape)):
            options = {"lse_square_scale": 0.01, "label_smoothing": 0.1, "reduction": "sum", **of_logits}
            ours = both(v, x, target, **options)
            wanted = F.cross_entropy_hvp(v, x, target, **options), F.cross_entropy_hessian_diag(x, target, **options)
            for a, b in zip(ours, wanted, strict=True):
                unit = max(eps(dtype), 30 * eps(np.float32 if dtype == np.float16 else dtype))
                np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=4 * unit, atol=4 * unit * np.abs(b.astype(float)).max())
