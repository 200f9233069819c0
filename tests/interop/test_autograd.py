"""nbloss.interop.autograd: numerical derivatives of every order, the bits of nbloss.functional, the oracle, and what is refused."""

import subprocess
import sys
import warnings
from itertools import product

import numpy as np
import pytest
import reference
import tiers
from numpy.testing import assert_allclose, assert_array_equal
from problems import REDUCTIONS, class_count, class_index, logits, name, probabilities, rows_shape, weights, with_ignored

import nbloss.functional as F

autograd = pytest.importorskip("autograd")

import autograd.numpy as anp  # noqa: E402
from autograd.test_util import check_grads  # noqa: E402

from nbloss.interop import autograd as A  # noqa: E402

SHAPES = [(4,), (5, 4), (2, 3, 2)]
OPTIONS = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.2, "lse_square_scale": 0.1},
    "mapped": {"softcap": 2.0, "logit_scale": 0.7, "divisor": 3.0},
}


@pytest.fixture(autouse=True)
def _no_warnings():
    """Autograd only warns where a result does not depend on what it is differentiated by."""
    np.random.seed(0)  # check_grads draws its directions from it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def problem(rng, shape, kind):
    """``(x, target, weight, sample_weight)`` in float64."""
    x = logits(rng, shape, np.float64, scale=1.0)
    if kind == "probabilities":
        target = probabilities(rng, shape, np.float64)
    else:
        target = class_index(rng, shape)
        target = with_ignored(rng, target, -100) if np.ndim(target) else target
    sample_weight = rng.uniform(0.5, 1.5, rows_shape(shape))
    return x, target, weights(rng, class_count(shape), np.float64), np.asarray(sample_weight)


def differentiable(loss, target, options):
    """The loss as a function of the arrays that have derivatives, and whether the target is one of them."""
    if np.asarray(target).dtype.kind == "f":
        return lambda x, y, w, s: loss(x, y, w, sample_weight=s, **options), True
    return lambda x, w, s: loss(x, target, w, sample_weight=s, **options), False


CASES = [case for case in product(SHAPES, ("classes", "probabilities"), REDUCTIONS, OPTIONS) if case[2] == "mean" or case[3] != "mapped"]


@pytest.mark.parametrize(("shape", "kind", "reduction", "options"), CASES if tiers.is_slow() else CASES[::4], ids=name)
def test_derivatives_of_cross_entropy_by_every_array(shape, kind, reduction, options, rng):
    x, target, weight, sample_weight = problem(rng, shape, kind)
    function, by_target = differentiable(A.cross_entropy, target, OPTIONS[options] | {"reduction": reduction})
    arrays = (x, target, weight, sample_weight) if by_target else (x, weight, sample_weight)
    check_grads(function, modes=["rev"], order=2)(*arrays)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_derivatives_of_the_other_losses(shape, reduction, rng):
    x, target, weight, sample_weight = problem(rng, shape, "classes")
    for loss, options in ((A.focal_loss, {"gamma": 1.5}), (A.focal_loss, {"gamma": 0.0}), (A.nll_loss, {})):
        function, _ = differentiable(loss, target, options | {"reduction": reduction})
        check_grads(function, modes=["rev"], order=2)(x, weight, sample_weight)

    def distilled(x, teacher, s):
        return A.distillation_loss(x, teacher, temperature=2.0, sample_weight=s, reduction=reduction)

    check_grads(distilled, modes=["rev"], order=2)(x, logits(rng, shape, np.float64, scale=1.0), sample_weight)


@pytest.mark.parametrize("function", [A.log_softmax, A.softmax])
def test_derivatives_along_every_axis(function, rng):
    x = rng.standard_normal((2, 3, 4))
    for dim in (0, 1, -1):
        check_grads(lambda x, dim=dim: function(x, dim), modes=["rev"], order=3)(x)


def test_third_derivatives(rng):
    x, target, weight, _ = problem(rng, (3, 4), "classes")
    check_grads(lambda x: A.cross_entropy(x, target, weight, label_smoothing=0.1), modes=["rev"], order=3)(x)
    check_grads(lambda x: A.focal_loss(x, target, weight), modes=["rev"], order=3)(x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_the_bits_are_those_of_the_functions(dtype, rng):
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    x, teacher = rng.standard_normal((2, 6, 5)).astype(dtype)
    y, w = rng.integers(0, 5, 6), np.linspace(0.5, 2, 5).astype(dtype)
    for ours, both, arrays in (
        (A.cross_entropy, F.cross_entropy_value_and_grad, (y, w)),
        (A.focal_loss, F.focal_loss_value_and_grad, (y, w)),
        (A.distillation_loss, F.distillation_loss_value_and_grad, (teacher,)),
    ):
        value, grad = autograd.value_and_grad(ours)(x, *arrays)
        wanted, wanted_grad = both(x, *arrays)
        assert (value, value.dtype, grad.dtype) == (wanted, wanted.dtype, dtype)
        assert_array_equal(grad, wanted_grad)
        assert ours(x, *arrays) == wanted
    assert_array_equal(autograd.grad(A.nll_loss)(x, y, w), F.nll_loss_backward(1.0, x, y, w))
    assert_array_equal(A.softmax(x), F.softmax(x))


def test_an_upstream_gradient_multiplies_before_the_gradient_is_rounded(rng):
    x, y = rng.standard_normal((8, 5)).astype(np.float16), rng.integers(0, 5, 8)
    scaled = autograd.grad(lambda x: 4096.0 * A.cross_entropy(x, y, divisor=1e6))(x)
    assert_array_equal(scaled, F.cross_entropy_backward(4096.0, x, y, divisor=1e6))
    rows = rng.uniform(size=8)
    grad = autograd.grad(lambda x: anp.dot(rows, A.cross_entropy(x, y, reduction="none")))(x.astype(float))
    assert_array_equal(grad, F.cross_entropy_backward(rows, x.astype(float), y, reduction="none"))


def test_the_derivatives_keep_their_dtypes(rng):
    x, y = rng.standard_normal((4, 3)).astype(np.float32), rng.dirichlet(np.ones(3), 4).astype(np.float32)
    w, s = np.ones(3, np.float32), np.ones(4, np.float16)
    grads = autograd.grad(lambda *a: A.cross_entropy(*a[:3], sample_weight=a[3]), (0, 1, 2, 3))(x, y, w, s)
    assert [g.dtype for g in grads] == [np.float32, np.float32, np.float32, np.float16]
    wide = autograd.grad(A.cross_entropy, 2)(x.astype(float), y.astype(float), w.astype(float))
    assert_array_equal(grads[2], wide.astype(np.float32))  # by formula: in float64, rounded once
    product = autograd.hessian_vector_product(A.cross_entropy)(x, y, vector := x[::-1].copy())
    assert_allclose(product, F.cross_entropy_hvp(vector, x, y), rtol=1e-6)


def test_the_hessian_is_that_of_the_oracle(rng):
    x, y, w, s = problem(rng, (3, 4), "classes")
    options = {"label_smoothing": 0.1, "lse_square_scale": 0.2, "sample_weight": s}
    hessian = autograd.hessian(lambda x: A.cross_entropy(x, y, w, **options))(x).reshape(12, 12)
    columns = [reference.cross_entropy_hvp(v.reshape(3, 4), x, y, w, **options).ravel() for v in np.eye(12)]
    assert_allclose(hessian, np.array(columns, float), rtol=1e-12, atol=1e-15)


def test_a_gradient_belongs_to_the_caller(rng):
    x, y = rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    vjp, _ = autograd.make_vjp(lambda x: A.cross_entropy(x, y))(x)
    first = vjp(1.0)
    wanted = first.copy()
    first[:] = 0
    assert_array_equal(vjp(1.0), wanted)
    assert_array_equal(vjp(2.0), F.cross_entropy_backward(2.0, x, y))


def test_ignored_rows_and_rows_without_weight_count_for_nothing(rng):
    x, y, w, s = problem(rng, (6, 4), "classes")
    y[2], y[3:] = -100, 1
    x[2] = np.nan
    grads = autograd.grad(lambda x, w, s: A.cross_entropy(x, y, w, sample_weight=s), (0, 1, 2))(x, w, s)
    kept = y != -100
    others = autograd.grad(lambda x, w, s: A.cross_entropy(x, y[kept], w, sample_weight=s), (0, 1, 2))(x[kept], w, s[kept])
    assert_allclose(grads[0][kept], others[0], rtol=1e-14)
    assert_allclose(grads[1], others[1], rtol=1e-13)
    assert_allclose(grads[2][kept], others[2], rtol=1e-12, atol=1e-16)
    assert not grads[0][2].any() and grads[2][2] == 0
    for loss in (A.cross_entropy, A.focal_loss):
        twice = autograd.grad(lambda x, loss=loss: anp.sum(autograd.grad(loss)(x, y, w) ** 2))(x)
        assert not twice[2].any() and np.isfinite(twice).all()


def test_classes_without_probability(rng):
    x, y = rng.standard_normal((3, 4)), np.array([0, 1, 2])
    x[:, 3] = -np.inf
    finite = np.ascontiguousarray(x[:, :3])
    w = np.array([1.0, 2, 3, 4])
    ours = autograd.grad(lambda w: A.cross_entropy(x, y, w, softcap=3.0))(w)
    assert_allclose(ours, [*autograd.grad(lambda w: A.cross_entropy(finite, y, w, softcap=3.0))(w[:3]), 0], rtol=1e-13)
    y = np.array([[0.5, 0.25, 0.25, 0.0]] * 3)
    assert_array_equal(autograd.grad(A.cross_entropy, 1)(x, y)[:, 3], np.inf)  # more of it would cost infinitely much


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_means_without_rows(empty):
    x, y = np.zeros((2, 3)), np.full(2, -100)
    grads = autograd.grad(lambda x, w: A.cross_entropy(x, y, w, empty=empty), (0, 1))(x, np.ones(3))
    wanted = np.nan if empty == "nan" else 0.0
    assert_array_equal(grads[0], F.cross_entropy_backward(1.0, x, y, np.ones(3), empty=empty))
    assert_array_equal(grads[1], np.full(3, wanted))


def test_means_over_weights_of_negative_sum():
    x, y, w, s = np.arange(6.0).reshape(2, 3), np.array([0, 1]), np.array([-1.0, -2, 1]), np.ones(2)
    value, grad = autograd.value_and_grad(lambda s: A.cross_entropy(x, y, w, sample_weight=s))(s)
    assert np.isnan(value) and np.isnan(grad).all()
    check_grads(lambda w: A.cross_entropy(x, y, w), modes=["rev"], order=2)(w)  # class weights alone: the ratio of two sums


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_of_a_certain_row_is_flat(gamma):
    x = np.array([[0.0, -np.inf, -np.inf], [0, 1, 2]])
    twice = autograd.grad(lambda x: anp.sum(autograd.grad(A.focal_loss)(x, np.array([0, 1]), gamma=gamma)[:, :1] ** 2))(x)
    assert not twice[0].any() and twice[1].all()


def test_it_trains_as_part_of_a_model(rng):
    x, y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)

    def usual(w):
        z = x @ w
        return -anp.mean((z - anp.log(anp.sum(anp.exp(z), 1, keepdims=True)))[np.arange(40), y])

    w = rng.standard_normal((6, 3))
    assert_allclose(autograd.grad(lambda w: A.cross_entropy(anp.dot(x, w), y))(w), autograd.grad(usual)(w), rtol=1e-12)
    assert_allclose(autograd.hessian(lambda w: A.cross_entropy(anp.dot(x, w), y))(w), autograd.hessian(usual)(w), rtol=1e-9, atol=1e-15)
    chained = autograd.hessian(lambda w: A.nll_loss(A.log_softmax(anp.dot(x, w)), y))(w)
    assert_allclose(chained, autograd.hessian(usual)(w), rtol=1e-9, atol=1e-15)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_class_numbers_have_no_derivative():
    with pytest.raises(TypeError, match=r"^target should be probabilities to be differentiated; got class numbers"):
        autograd.grad(A.cross_entropy, 1)(np.zeros((2, 3)), np.array([0, 1]))


def test_forward_mode_is_refused():
    with pytest.raises(NotImplementedError, match="JVP of cross_entropy"):
        autograd.make_jvp(lambda x: A.cross_entropy(x, np.array([0, 1])))(np.zeros((2, 3)))(np.ones((2, 3)))


def test_errors_are_those_of_the_functions():
    x, y = np.zeros((2, 3)), np.array([0, 3])
    for call in (A.cross_entropy, autograd.grad(A.cross_entropy)):
        with pytest.raises(IndexError, match=r"3 at index \(1,\)"):
            call(x, y)
    with pytest.raises(ValueError, match="reduction"):
        autograd.grad(lambda x: A.cross_entropy(x, y, reduction="total"))(x)


def test_without_autograd_the_error_names_the_extra():
    code = "import sys; sys.modules['autograd'] = None; import nbloss.interop.autograd"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == 'ImportError: nbloss.interop.autograd needs autograd: pip install "nbloss[autograd]"'
