"""The Hessian of cross entropy, times an array and its diagonal: against the plain formula and differences of the gradient in the widest
float, against PyTorch and JAX in float64, and the laws that it obeys."""

import os
from functools import partial
from itertools import product

import numpy as np
import pytest
import reference
from bits import assert_same_bits, by_one_thread_and_two
from layouts import LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from problems import (
    DTYPES,
    REDUCTIONS,
    WIDE_DTYPES,
    assert_within,
    class_count,
    class_index,
    eps,
    floor,
    logits,
    name,
    probabilities,
    rows_shape,
    weights,
    with_ignored,
    work,
)
from refusals import refused

import nbloss.functional as F

SHAPES = [
    (7,), (60,), (5, 3), (70, 10), (9, 48), (9, 49), (33, 300), (5, 2000), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5), (3, 1), (17, 70),
]  # fmt: skip
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="NumPy's sums depend on the layout")


def problem(rng, shape, dtype=np.float32, scale=3.0):
    """``(v, logits, class numbers)``."""
    return logits(rng, shape, dtype, 1.0), logits(rng, shape, dtype, scale), class_index(rng, shape)


def both(v, x, y, *given, **options):
    """The product and the diagonal."""
    return F.cross_entropy_hvp(v, x, y, *given, **options), F.cross_entropy_hessian_diag(x, y, *given, **options)


def tolerances(v, x, y, *given, apart=False, **options):
    """How far product and diagonal may be off: the rounding of exp(x - m), of the sums over the classes, of v - ref, and of L.

    ``apart``: v and ref are summed apart, in float64.
    """
    unit = eps(work(x.dtype))
    p, a, b, lse, _ = reference.curvatures(x, y, *given, **options)
    rows, values = reference.classes_last(x), reference.classes_last(v)
    with np.errstate(all="ignore"):
        top = rows.max(axis=-1, keepdims=True)
        gap = np.where(np.isfinite(top - rows), top - rows, 0)
        confident = p.max(axis=-1, keepdims=True) > 0.5
        ref = np.where(confident, np.take_along_axis(values, rows.argmax(axis=-1)[..., None], axis=-1), 0)
        d, error = np.abs(values) + np.abs(ref) if apart else np.abs(values - ref), 4 + gap + np.sqrt(class_count(x.shape)) / 8
        size = np.abs(a) + np.abs(b) * (np.abs(top) + np.abs(lse))  # that of A, whose L may cancel
        mean = (p * error * d).sum(axis=-1, keepdims=True)
        product_error = p * size * (error * (d + (p * d).sum(axis=-1, keepdims=True)) + mean)
        product_error = product_error + np.abs(b) * p * (error * (np.abs(ref) + (p * d).sum(axis=-1, keepdims=True)) + mean)
        others = np.where(confident & (gap == 0), np.where(gap == 0, 0, p).sum(axis=-1, keepdims=True), 1 - p)
        diagonal_error = p * error * (size * (others + unit) + np.abs(b) * p)
        errors = (np.where(np.isfinite(e), unit * e, 0) for e in (product_error, diagonal_error))  # rows without a divisor are nan or 0
        return tuple(reference.classes_back(e, x) for e in errors)


def assert_values(results, v, x, y, *given, note="", apart=False, **options):
    expected = reference.cross_entropy_hvp(v, x, y, *given, **options), reference.cross_entropy_hessian_diag(x, y, *given, **options)
    for result, wanted, tolerance in zip(results, expected, tolerances(v, x, y, *given, apart=apart, **options), strict=True):
        assert result.dtype == x.dtype and result.shape == x.shape, note
        stored = eps(x.dtype) * np.abs(wanted) if x.dtype != work(x.dtype) else 0
        assert_within(result, wanted, tolerance + stored + floor(x.dtype), note)


# ------------------------------ values ------------------------------


@every_shape
@every_dtype
def test_values_of_every_layout_of_memory(rng, dtype, shape):
    for scale in (1.0, 10.0):
        v, x, y = problem(rng, shape, dtype, scale)
        g = rng.uniform(0.5, 2.0, rows_shape(shape)) * rng.choice([-1.0, 1.0], rows_shape(shape))
        for lam in (0.0, 0.01):
            options = {"reduction": "none", "lse_square_scale": lam, "grad_output": g.astype(np.float32)}
            assert_values(both(v, x, y, **options), v, x, y, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(70, 10), (9, 120), (2, 7, 5), (6,)], ids=name)
def test_every_option(rng, shape, reduction):
    v, x, y = problem(rng, shape)
    w, own, soft = weights(rng, class_count(shape)), np.asarray(rng.integers(0, 17, rows_shape(shape)) / 8), probabilities(rng, shape)
    divisors = [{}, {"divisor": 7.5}] if reduction == "mean" else [{}]
    for smoothing, lam, sampled, weighted, more in product([0.0, 0.1], [0.0, 0.03], [None, own], [None, w], divisors):
        options = {"reduction": reduction, "label_smoothing": smoothing, "lse_square_scale": lam, "sample_weight": sampled, **more}
        for target in (y, with_ignored(rng, y, -100), soft):
            assert_values(both(v, x, target, weighted, **options), v, x, target, weighted, note=str(options), **options)
            assert_values(both(v, x, target, weighted, grad_output=-2.5, **options), v, x, target, weighted, grad_output=-2.5, **options)


@pytest.mark.parametrize("shape", [(40, 10), (12, 200), (2, 5, 30)], ids=name)
def test_v_and_probabilities_may_have_other_dtypes(rng, shape):
    """They are converted to the dtype of the arithmetic."""
    v, x, _ = problem(rng, shape)
    y = probabilities(rng, shape)
    for dtype, other in product([d.values[0] for d in DTYPES], repeat=2):
        logits_, values, target = x.astype(dtype), v.astype(other), y.astype(other)
        expected = both(values.astype(work(dtype)), logits_, target.astype(work(dtype)))
        assert_same_bits(both(values, logits_, target), expected, (dtype, other))


@pytest.mark.parametrize("integer", ["u1", "i2", "u4", "u8", "bool"])
def test_class_numbers_of_any_type(rng, integer):
    v, x, y = problem(rng, (20, 2))
    assert_same_bits(both(v, x, y.astype(integer)), both(v, x, y))


def test_numbers_in_lists():
    x, y, v = [[0.0, 1.0, 2.0]], [1], [[1.0, 0.0, 3.0]]
    assert_same_bits(both(v, x, y), both(np.array(v), np.array(x), np.array(y)))


@pytest.mark.parametrize("options", [{}, {"lse_square_scale": 0.02}, {"label_smoothing": 0.2}], ids=str)
@pytest.mark.parametrize("shape", [(6, 5), (3, 60)], ids=name)
def test_differences_of_the_gradient(rng, shape, options):
    """Central differences of the plain gradient in the widest float, along v and along each class."""
    v, x, y = problem(rng, shape, np.float64)
    w, step = weights(rng, shape[1], np.float64), reference.WIDE(1e-6)

    def along(d):
        up, down = (reference.cross_entropy_backward(1.0, x + h * d, y, w, **options) for h in (step, -step))
        return (up - down) / (2 * step)

    hv, diagonal = both(v, x, y, w, **options)
    assert_within(hv, along(v.astype(reference.WIDE)), 1e-9 * np.abs(hv).max())
    for c in range(shape[1]):
        unit = np.zeros(shape, reference.WIDE)
        unit[:, c] = 1
        assert_within(diagonal[:, c], along(unit)[:, c], 1e-9 * np.abs(diagonal).max())


def test_pytorch(rng):
    torch = pytest.importorskip("torch")
    for shape, smoothing, soft, reduction in product([(6,), (12, 7), (6, 90), (3, 5, 4)], [0.0, 0.1], [False, True], ["mean", "sum"]):
        v, x, y = problem(rng, shape, np.float64)
        w, target = weights(rng, class_count(shape), np.float64), probabilities(rng, shape, np.float64) if soft else y
        options = {"reduction": reduction, "label_smoothing": smoothing}
        loss = partial(torch.nn.functional.cross_entropy, target=torch.from_numpy(target), weight=torch.from_numpy(w), **options)
        hv = torch.autograd.functional.hvp(loss, torch.from_numpy(x), torch.from_numpy(v))[1].numpy()
        hessian = torch.autograd.functional.hessian(loss, torch.from_numpy(x)).numpy().reshape(x.size, x.size)
        ours, diagonal = both(v, x, target, w, **options)
        assert_allclose(ours, hv, rtol=1e-11, atol=1e-15 * np.abs(hv).max())
        assert_allclose(diagonal.ravel(), np.diagonal(hessian), rtol=1e-11, atol=1e-16)


def test_pytorch_s_double_backward(rng):
    """The gradient of <V, dx(x)>, with an upstream gradient per row and ignored rows."""
    torch = pytest.importorskip("torch")
    v, x, y = problem(rng, (20, 9), np.float64)
    y, g = with_ignored(rng, y, -100), rng.normal(size=20)
    a, upstream = torch.from_numpy(x).requires_grad_(), torch.from_numpy(g)
    losses = torch.nn.functional.cross_entropy(a, torch.from_numpy(y), reduction="none")
    (dx,) = torch.autograd.grad((losses * upstream).sum(), a, create_graph=True)
    (expected,) = torch.autograd.grad((dx * torch.from_numpy(v)).sum(), a)
    hv = F.cross_entropy_hvp(v, x, y, reduction="none", grad_output=g)
    assert_allclose(hv, expected.numpy(), rtol=1e-11, atol=1e-16)
    assert not hv[y == -100].any()


def test_jax(rng):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        v, x, y = problem(rng, (7, 11), np.float64)
        lam = 0.05

        def loss(a):
            lse = jax.nn.logsumexp(a, axis=1)
            return (lse - a[np.arange(7), y] + lam * lse**2).mean()

        hv = jax.jvp(jax.grad(loss), (x,), (v,))[1]
        hessian = np.asarray(jax.hessian(loss)(x)).reshape(77, 77)
        ours, diagonal = both(v, x, y, lse_square_scale=lam)
        assert_allclose(ours, np.asarray(hv), rtol=1e-11, atol=1e-16)
        assert_allclose(diagonal.ravel(), np.diagonal(hessian), rtol=1e-11)


# ------------------------------ digits of confident rows ------------------------------


@pytest.mark.parametrize("margin", [0.7, 5.0, 15.0, 27.0, 60.0])
@pytest.mark.parametrize("classes", [2, 10, 48, 49, 100, 1500])
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_digits_are_kept_where_a_class_has_nearly_all_of_the_probability(rng, dtype, classes, margin):
    """At 27 and 10 classes, 1 - p is 1e-11: v - P would have no digit of it in float32, and five in float64."""
    x = rng.uniform(-1, 1, (20, classes)).astype(dtype)
    x[np.arange(20), rng.integers(0, classes, 20)] = np.log(classes) + margin
    v, y = logits(rng, x.shape, dtype, 1.0), class_index(rng, x.shape)
    for result, wanted in zip(
        both(v, x, y, reduction="sum"),
        (reference.cross_entropy_hvp(v, x, y, reduction="sum"), reference.cross_entropy_hessian_diag(x, y, reduction="sum")),
        strict=True,
    ):
        at = np.arange(20), x.argmax(axis=1)
        ulps = np.abs(result - wanted)[at] / (eps(dtype) * np.abs(wanted[at]))
        terms = (v - v[at][:, None]) * np.exp(x.astype(float))
        condition = np.abs(terms).sum(axis=1) / np.abs(terms.sum(axis=1))
        assert (ulps <= 6 + 3 * condition).all(), ulps.max()


def test_a_common_offset_of_v_costs_no_digits_in_confident_rows(rng):
    for classes in (10, 100):
        x = logits(rng, (8, classes), np.float32, 1.0)
        x[:, 3] = 20
        v, y = np.float32(rng.integers(-512, 512, x.shape) / 256), class_index(rng, x.shape)
        assert_array_equal(F.cross_entropy_hvp(v + np.float32(4096), x, y), F.cross_entropy_hvp(v, x, y))


# ------------------------------ laws ------------------------------


@pytest.mark.parametrize("options", [{}, {"lse_square_scale": 0.05, "label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("shape", [(9, 6), (4, 80)], ids=name)
def test_linear_and_symmetric(rng, shape, options):
    v, x, y = problem(rng, shape, np.float64)
    u = logits(rng, shape, np.float64, 1.0)
    hv, hu = (F.cross_entropy_hvp(a, x, y, **options) for a in (v, u))
    assert_allclose(F.cross_entropy_hvp(2 * u - 3 * v, x, y, **options), 2 * hu - 3 * hv, rtol=1e-10, atol=1e-16)
    assert_allclose((u * hv).sum(), (v * hu).sum(), rtol=1e-12, atol=1e-16)
    assert (v * hv).sum() > 0


@pytest.mark.parametrize("shape", [(9, 6), (4, 80)], ids=name)
def test_a_shift_of_a_row_changes_its_lse_square_alone(rng, shape):
    """H 1 = 0, and 2 λ M p with λ; a row of H v sums to 0 without λ."""
    v, x, y = problem(rng, shape, np.float64)
    ones, w = np.ones(shape), weights(rng, shape[1], np.float64)
    assert_allclose(F.cross_entropy_hvp(ones, x, y, w, reduction="sum"), 0, atol=1e-15 * w.max())
    assert_allclose(F.cross_entropy_hvp(v, x, y, w).sum(axis=1), 0, atol=1e-15)
    with_lam = F.cross_entropy_hvp(ones, x, y, w, reduction="sum", lse_square_scale=0.25)
    assert_allclose(with_lam, 2 * 0.25 * w[y][:, None] * F.softmax(x, 1), rtol=1e-11)


@pytest.mark.parametrize("options", [{}, {"lse_square_scale": 0.05}], ids=str)
@pytest.mark.parametrize("shape", [(9, 6), (4, 60)], ids=name)
def test_the_diagonal_is_that_of_the_products_with_unit_vectors(rng, shape, options):
    for dtype in (np.float32, np.float64):
        _, x, y = problem(rng, shape, dtype)
        diagonal = F.cross_entropy_hessian_diag(x, y, **options)
        for c in range(shape[1]):
            unit = np.zeros(shape, dtype)
            unit[:, c] = 1
            assert_allclose(F.cross_entropy_hvp(unit, x, y, **options)[:, c], diagonal[:, c], rtol=32 * eps(dtype))


def test_neutral_options_change_no_bit(rng):
    for shape in ((30, 10), (30, 100)):
        v, x, y = problem(rng, shape)
        expected = both(v, x, y, reduction="sum")
        neutral = {"lse_square_scale": 0.0, "label_smoothing": 0.0, "sample_weight": np.ones(30), "grad_output": np.float32(1)}
        for options in ({option: value} for option, value in neutral.items()):
            assert_same_bits(both(v, x, y, reduction="sum", **options), expected, options)
        assert_same_bits(both(v, x, y, np.ones(shape[1]), reduction="sum"), expected)
        assert_same_bits(both(v, x, y, divisor=8.0), [r / 8 for r in expected])


# ------------------------------ rows that do not count, infinities ------------------------------


@pytest.mark.parametrize("lam", [0.0, 0.1])
@pytest.mark.parametrize("classes", [4, 48, 90])
def test_rows_that_do_not_count_are_exactly_0(rng, classes, lam):
    v, x, y = problem(rng, (6, classes))
    own = np.array([1, 0, 2, np.nan, 1, 1])
    y[3] = -1
    options = {"sample_weight": own, "ignore_index": -1, "lse_square_scale": lam}
    expected = both(v, x, y, **options)
    x[1], x[3, 0], v[3, 1] = np.nan, np.inf, np.nan
    results = both(v, x, y, **options)
    assert_same_bits(results, expected)
    for result in results:
        assert not result[[1, 3]].any() and result[[0, 2, 4, 5]].any(axis=1).all()
    soft = probabilities(rng, x.shape)
    soft[1, 2] = np.nan
    for given in ((), (weights(rng, classes),)):
        for result in both(v, x, soft, *given, sample_weight=[1, 0, 2, 0, 1, 1], lse_square_scale=lam, label_smoothing=0.1):
            assert not result[[1, 3]].any() and np.isfinite(result).all()
    for result in both(v, x, y, reduction="none", ignore_index=-1, grad_output=np.float32([1, 0, 1, 1, 1, 1])):
        assert not result[[1, 3]].any()


@pytest.mark.parametrize("lam", [0.0, 0.1])
@pytest.mark.parametrize("classes", [4, 48, 90])
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_infinite_logits(rng, dtype, classes, lam):
    v, x, y = problem(rng, (6, classes), dtype)
    x[0, 2:], x[1], x[2, 1], x[3, 0], x[4, 1:] = -np.inf, -np.inf, np.inf, np.nan, -np.inf
    options = {"reduction": "sum", "lse_square_scale": lam}
    results = both(v, x, y, **options)
    for result in results:
        assert np.isnan(result[1:4]).all() and np.isfinite(result[[0, 4, 5]]).all()
        assert (result[0, 2:] == 0).all() and (result[4, 1:] == 0).all()
    assert_values(results, v, x, y, **options)


def test_a_value_that_is_not_finite_spoils_its_row_alone(rng):
    for shape in ((5, 8), (5, 80)):
        v, x, y = problem(rng, shape)
        expected = F.cross_entropy_hvp(v, x, y)
        v[1, 2], v[3, 0] = np.nan, np.inf
        hv = F.cross_entropy_hvp(v, x, y)
        assert not np.isfinite(hv[[1, 3]]).any()
        assert_array_equal(hv[[0, 2, 4]], expected[[0, 2, 4]])


def test_a_mean_over_nothing(rng):
    v, x, _ = problem(rng, (3, 5))
    ignored = np.full(3, -100)
    for empty in ("nan", "zero"):
        for result in both(v, x, ignored, empty=empty):
            assert_array_equal(result, np.zeros((3, 5), np.float32))
    w = np.float32([1, -1, 0, 0, 0])
    y = np.array([0, 1, 2])
    for smoothing in (0.0, 0.1):
        for result in both(v, x, y, w, empty="zero", label_smoothing=smoothing):
            assert not result.any()
        assert np.isnan(F.cross_entropy_hvp(v, x, y, w, label_smoothing=smoothing)[:2]).all()


# ------------------------------ calls ------------------------------


@compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@every_shape
def test_layouts_give_the_same_bits(rng, shape, layout):
    v, x, y = problem(rng, shape)
    soft, w = probabilities(rng, shape), weights(rng, class_count(shape))
    change = LAYOUTS[layout]
    expected, expected_soft = both(v, x, y, lse_square_scale=0.01), both(v, x, soft, w, label_smoothing=0.1)
    for a, b in ((change(v), x), (v, change(x)), (change(v), change(x))):
        assert_same_bits(both(a, b, y, lse_square_scale=0.01), expected, layout)
    assert_same_bits(both(change(v), change(x), change(soft), change(w), label_smoothing=0.1), expected_soft, layout)


def test_the_bits_are_the_same_for_any_number_of_threads(rng):
    for shape in ((3000, 100), (40000, 10), (8, 20, 64, 64), (64, 60, 100)):
        v, x, y = problem(rng, shape)
        soft, ones = probabilities(rng, shape), np.ones(shape[1])

        def results(v=v, x=x, y=y, soft=soft, ones=ones):
            return [*both(v, x, y), *both(v, x, soft, ones, label_smoothing=0.1)]

        assert_same_bits(*by_one_thread_and_two(results))


def test_out_is_filled_and_may_be_the_input_or_v(rng):
    for shape in ((7,), (20, 10), (20, 300), (2, 60, 9, 9), (2, 5, 70), (3, 67)):
        for dtype in (np.float32, np.float16):
            for scale in (1.0, 10.0):
                v, x, y = problem(rng, shape, dtype, scale)
                hv, diagonal = both(v, x, y)
                out, own, logits_ = np.empty_like(x), v.copy(), x.copy()
                assert F.cross_entropy_hvp(v, x, y, out=out) is out
                assert_array_equal(out, hv)
                assert F.cross_entropy_hessian_diag(x, y, out=out) is out
                assert_array_equal(out, diagonal)
                assert F.cross_entropy_hvp(own, x, y, out=own) is own
                assert_array_equal(own, hv)
                assert F.cross_entropy_hvp(v, logits_, y, out=logits_) is logits_
                assert_array_equal(logits_, hv)
                logits_ = x.copy()
                assert F.cross_entropy_hessian_diag(logits_, y, out=logits_) is logits_
                assert_array_equal(logits_, diagonal)
                same = x.copy()
                assert_array_equal(F.cross_entropy_hvp(same, same, y, out=same), F.cross_entropy_hvp(x, x, y))


def test_other_overlaps_are_refused(rng):
    memory = np.zeros(40, np.float32)
    x, v, y = memory[:20].reshape(4, 5), memory[20:].reshape(4, 5), np.zeros(4, int)
    shifted = memory[10:30].reshape(4, 5)
    with refused(ValueError, "out should be input itself or share no memory with it"):
        F.cross_entropy_hvp(v, x, y, out=shifted)
    with refused(ValueError, "out should be v itself or share no memory with it"):
        F.cross_entropy_hvp(shifted, logits(rng, (4, 5)), y, out=v)
    target = probabilities(rng, (4, 5))
    with refused(ValueError, "out should share no memory with target"):
        F.cross_entropy_hvp(v, x, target, out=target)


def test_empty_arrays():
    for shape in ((0, 5), (0, 60), (3, 5, 0)):
        x, y = np.zeros(shape, np.float32), np.zeros((shape[0], *shape[2:]), int)
        for target, options in ((y, {}), (y, {"label_smoothing": 0.1}), (x, {}), (x, {"sample_weight": np.ones(y.shape)})):
            for result in both(x, x, target, **options):
                assert result.shape == shape and result.dtype == np.float32


# ------------------------------ errors ------------------------------

X = np.zeros((2, 3), np.float32)
BAD = [
    (ValueError, {"v": np.zeros((2, 4), np.float32)}, ["v should have shape (2, 3), the input's; got (2, 4)"]),
    (ValueError, {"v": np.zeros(3)}, ["v should have shape (2, 3), the input's; got (3,)"]),
    (TypeError, {"v": np.zeros((2, 3), int)}, ["v", "float32"]),
    (ValueError, {"divisor": 2, "reduction": "sum"}, ["divisor should be None unless reduction is 'mean'; got reduction='sum'"]),
    (ValueError, {"sample_weight": np.ones(3)}, ["sample_weight should have the loss's shape (2,); got (3,)"]),
    (ValueError, {"reduction": "batchmean"}, ["reduction should be one of"]),
    (ValueError, {"lse_square_scale": -1.0}, ["lse_square_scale should be a finite number, at least 0; got -1.0"]),
    (ValueError, {"label_smoothing": 1.5}, ["label_smoothing should be in [0, 1]; got 1.5"]),
    (ValueError, {"empty": "none"}, ["empty should be 'nan' or 'zero'; got 'none'"]),
    (ValueError, {"grad_output": np.ones(2)}, ["grad_output should be a number or have the loss's shape ()"]),
    (ValueError, {"weight": np.ones(2)}, ["weight should have shape (3,), one per class; got (2,)"]),
    (IndexError, {"target": np.array([0, 3])}, ["target should be in [0, 3)"]),
    (TypeError, {"input": np.zeros((2, 3), int)}, ["input", "float32"]),
]


@pytest.mark.parametrize(("kind", "options", "words"), BAD, ids=[str(case[1]) for case in BAD])
def test_bad_arguments_are_refused_before_anything_is_written(kind, options, words):
    options = {"v": X, "input": X, "target": np.array([0, 1])} | options
    out = np.full_like(X, 7)
    with refused(kind, *words):
        F.cross_entropy_hvp(out=out, **options)
    v = options.pop("v")
    if v is X:
        with refused(kind, *words):
            F.cross_entropy_hessian_diag(out=out, **options)
    assert (out == 7).all()
