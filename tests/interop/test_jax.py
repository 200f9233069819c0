"""`nbloss.interop.jax` against NumPy's functions, the oracle, JAX's own formulas, and JAX's own checks of derivatives."""

import os
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

import nbloss.functional as F
from tests.helpers import reference
from tests.helpers.tiers import is_slow

jax = pytest.importorskip("jax")
ml_dtypes = pytest.importorskip("ml_dtypes")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import nbloss.interop.jax as J  # noqa: E402
from nbloss.interop.jax import _primitive  # noqa: E402

N, C = 6, 5


@pytest.fixture(autouse=True)
def _x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=["ffi", "callback"])
def mechanism(request, monkeypatch):
    """Both ways to reach the kernels. Functions have to be new in each test, so that no earlier program is taken."""
    monkeypatch.setattr(_primitive, "use_ffi", request.param == "ffi")
    return request.param


def new(function):
    return lambda *arrays, **options: function(*arrays, **options)


def rng():
    return np.random.default_rng(7)


def logits(*shape, dtype=np.float64):
    return rng().standard_normal(shape).astype(dtype)


def classes(*shape, ignored=True):
    y = rng().integers(0, C, shape)
    if ignored:
        y.reshape(-1)[1] = -100
    return y


def probabilities(*shape):
    y = rng().random(shape)
    return y / y.sum(1, keepdims=True)


WEIGHT = np.array([0.5, 2.0, 1.0, 0.0, 3.0])
ROWS = np.array([1.0, 0.5, 0.0, 2.0, 1.5, 0.25])

# name -> (loss, shape of the logits, second array, options)
CASES = {
    "plain": ("cross_entropy", (N, C), classes(N), {}),
    "sum": ("cross_entropy", (N, C), classes(N), {"reduction": "sum", "weight": WEIGHT}),
    "none": ("cross_entropy", (N, C), classes(N), {"reduction": "none", "label_smoothing": 0.1}),
    "one row": ("cross_entropy", (C,), np.array(2), {}),
    "pixels": ("cross_entropy", (2, C, 3), classes(2, 3, ignored=False), {"weight": WEIGHT, "label_smoothing": 0.1, "ignore_index": 1}),
    "all": (
        "cross_entropy", (N, C), classes(N),
        {"weight": WEIGHT, "sample_weight": ROWS, "label_smoothing": 0.2, "lse_square_scale": 0.1, "softcap": 2.0, "logit_scale": 1.5},
    ),
    "divisor": ("cross_entropy", (N, C), classes(N), {"divisor": 7.0, "lse_square_scale": 0.1}),
    "probabilities": ("cross_entropy", (N, C), probabilities(N, C), {"weight": WEIGHT, "label_smoothing": 0.1, "sample_weight": ROWS}),
    "nll": ("nll_loss", (N, C), classes(N), {"weight": WEIGHT, "sample_weight": ROWS}),
    "nll probabilities": ("nll_loss", (N, C), probabilities(N, C), {"reduction": "none"}),
    "focal": ("focal_loss", (N, C), classes(N), {"weight": WEIGHT, "gamma": 1.5}),
    "focal none": ("focal_loss", (N, C), classes(N), {"sample_weight": ROWS, "reduction": "none"}),
    "distillation": ("distillation_loss", (N, C), logits(N, C)[::-1].copy(), {"temperature": 2.0, "sample_weight": ROWS}),
    "distillation pixels": ("distillation_loss", (2, C, 3), logits(2, C, 3)[::-1].copy(), {"reduction": "sum"}),
}  # fmt: skip

cases = pytest.mark.parametrize("case", CASES)


def case_of(name, dtype=np.float64):
    """``(function of JAX, x, y, options)``."""
    loss, shape, y, options = CASES[name]
    x = logits(*shape, dtype=dtype)
    if loss == "nll_loss":
        x = np.asarray(F.log_softmax(x, 1))
    return loss, x, y, options


def close(a, b, rtol=1e-12):
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=rtol)


def only_if_slow(condition):
    if condition and not is_slow():
        pytest.skip("in the slow tier")


# ------------------------------ values and gradients ------------------------------


@cases
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_value_and_gradient_are_those_of_numpy_in_the_same_bits(case, dtype):
    only_if_slow(dtype in ("float32", "float16") and case not in ("plain", "probabilities"))
    loss, x, y, options = case_of(case, jnp.dtype(dtype))
    function, sums = partial(getattr(J, loss), **options), options.get("reduction") != "none"
    value, gradient = jax.jit(lambda x: (function(x, y), jax.grad(lambda x: function(x, y).sum())(x)))(x)
    wanted = getattr(F, loss)(x, y, **options)
    assert value.dtype == wanted.dtype and gradient.dtype == x.dtype
    assert value.shape == (() if sums else y.shape[:1])
    np.testing.assert_array_equal(value, wanted)
    np.testing.assert_array_equal(gradient, getattr(F, f"{loss}_backward")(1.0, x, y, **options))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_loss_scale_keeps_small_gradients(dtype):
    """1e5 rows, whose gradients float16 cannot hold before they are multiplied."""
    x, y, scale = jnp.zeros((100_000, C), dtype), jnp.zeros(100_000, int), 2.0**14
    gradient = jax.jit(jax.grad(lambda x: scale * J.cross_entropy(x, y)))(x)
    assert gradient.dtype == dtype
    close(gradient[:1], (scale * 1e-5 * np.array([[-0.8, 0.2, 0.2, 0.2, 0.2]])), 1e-2)


@cases
def test_value_and_gradient_agree_with_the_oracle(case):
    loss, x, y, options = case_of(case)
    function = partial(getattr(J, loss), **options)
    close(function(x, y), getattr(reference, loss)(x, y, **options))
    if loss == "focal_loss":
        spread, hit = reference.focal_loss_terms(1.0, x, y, **options)
        wanted = spread - hit
    else:
        wanted = getattr(reference, f"{loss}_backward")(1.0, x, y, **options)
    close(jax.grad(lambda x: function(x, y).sum())(x), wanted)


@cases
def test_first_and_second_derivatives_pass_the_checks_of_jax(case):
    only_if_slow(case not in ("all", "pixels", "distillation"))
    loss, x, y, options = case_of(case)
    check_grads(lambda x: getattr(J, loss)(x, y, **options), (x,), order=2, modes=["fwd", "rev"])


def test_third_derivatives():
    """In all modes, along one direction, against JAX's formula."""
    x, v, y = logits(N, C), logits(N, C)[::-1], jnp.asarray(classes(N, ignored=False))

    def thirds(loss):
        def along(f):
            return lambda x: jax.jvp(f, [x], [v])[1]

        def value(x):
            return loss(x, y)

        return along(along(along(value)))(x), jax.grad(along(along(value)))(x), along(jax.grad(along(value)))(x)

    for a, b in zip(*(jax.jit(partial(thirds, loss))() for loss in (J.cross_entropy, own_loss)), strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("case", ["all", "probabilities", "nll", "nll probabilities", "focal", "distillation", "divisor"])
def test_derivatives_by_every_array(case):
    """Class weights, sample weights, probabilities, a teacher's logits and a divisor, alone and mixed with the logits."""
    loss, x, y, options = case_of(case)
    arrays = {"x": x} | {name: jnp.asarray(options[name]) for name in ("weight", "sample_weight", "divisor") if name in options}
    if "sample_weight" in arrays:
        arrays["sample_weight"] += 0.25  # 0 is a corner: the row counts, or does not
    if y.ndim == x.ndim:
        arrays["y"] = jnp.asarray(y)

    def function(arrays):
        arrays = dict(arrays)
        x, target = arrays.pop("x"), arrays.pop("y", y)
        return getattr(J, loss)(x, target, **options | arrays)

    order = 2 if is_slow() or case in ("focal", "distillation") else 1
    check_grads(function, (arrays,), order=order, modes=["fwd", "rev"])


@pytest.mark.parametrize("function", [J.softmax, J.log_softmax])
@pytest.mark.parametrize("dim", [-1, 1, 0])
def test_softmax(function, dim):
    x = logits(3, 4, 5)
    name = function.__name__
    np.testing.assert_array_equal(function(x, dim), getattr(F, name)(x, dim))
    close(function(x, dim), getattr(reference, name)(x, dim))
    check_grads(lambda x: function(x, dim), (x,), order=2 if is_slow() or dim == 1 else 1, modes=["fwd", "rev"])
    own = getattr(jax.nn, name)
    close(jax.vmap(lambda x: function(x, -1), 1)(x), jax.vmap(lambda x: own(x, -1), 1)(x))
    ours, wanted = (jax.vmap(lambda v, f=f: jax.vjp(f, x[0])[1](v)[0])(x) for f in (lambda x: function(x, -1), own))
    close(ours, wanted)
    close(jax.vmap(jax.vmap(jax.vmap(lambda x: function(x, 0))))(x), np.full(x.shape, float(name == "softmax")))
    names, one = ("v", "y"), jnp.asarray(logits(5, 4, 3)).T
    for order in (1, 2):
        spec = J.Spec(name, order, names, (3, 3), (("dim", -1),))
        close(_primitive.call(spec, one, function(x))[0], jax.jit(partial(_primitive._by_formula, spec=spec))(one, function(x))[0])
    half = x.astype(jnp.bfloat16)
    np.testing.assert_array_equal(jax.jit(lambda x: function(x, dim))(half), getattr(F, name)(half, dim))
    assert jax.grad(lambda x: (function(x, dim) * x).sum())(half).dtype == jnp.bfloat16


# ------------------------------ transformations ------------------------------


def own_loss(x, y):
    """JAX's formula of a mean without options."""
    return (jax.nn.logsumexp(x, axis=-1) - jnp.take_along_axis(x, y[..., None], -1)[..., 0]).mean()


@pytest.mark.parametrize(
    "transformed",
    {
        "jit": jax.jit,
        "grad": jax.grad,
        "value_and_grad": jax.value_and_grad,
        "jit of value_and_grad": lambda f: jax.jit(jax.value_and_grad(f)),
        "jacrev": jax.jacrev,
        "jacfwd": jax.jacfwd,
        "hessian": jax.hessian,
        "hessian by reverse mode": lambda f: jax.jacrev(jax.jacrev(f)),
        "vmap": lambda f: jax.vmap(f, (1, None)),
        "vmap of one example": lambda f: lambda x, y: jax.vmap(f)(x, y),
        "vmap of grad": lambda f: lambda x, y: jax.vmap(jax.grad(f))(x, y),
        "vmap of hessian": lambda f: lambda x, y: jax.vmap(jax.hessian(f))(x, y),
        "hessian of vmap": lambda f: jax.hessian(lambda x, y: (jax.vmap(f)(x, y) ** 2).sum()),
        "vmap of the targets": lambda f: lambda x, y: jax.vmap(jax.grad(f), (None, 0))(x, jnp.stack([y, y[::-1]])),
        "checkpoint": lambda f: jax.grad(jax.checkpoint(lambda x, y: f(jnp.sin(x), y))),
        "jvp": lambda f: lambda x, y: jax.jvp(lambda x: f(x, y), [x], [jnp.cos(x)]),
        "linearize": lambda f: lambda x, y: jax.linearize(lambda x: f(x, y), x)[1](jnp.cos(x)),
        "scan": lambda f: jax.grad(lambda x, y: jax.lax.scan(lambda s, row: (s + f(row[0], row[1]) ** 2, None), 0.0, (x, y))[0]),
        "while": lambda f: lambda x, y: jax.lax.fori_loop(0, 3, lambda i, x: x - jax.grad(f)(x, y), x),
        "not a sum of losses": lambda f: jax.grad(lambda x, y: jnp.exp(3 * f(x, y)) + x.sum()),
    }.items(),
    ids=lambda item: item[0],
)
def test_transformations_give_what_they_give_for_the_formula(transformed, mechanism):
    name, transform = transformed
    only_if_slow(mechanism == "callback" and name not in ("jit of value_and_grad", "vmap of grad", "hessian", "scan"))
    only_if_slow(name in ("jacfwd", "linearize", "while"))
    x, y = logits(N, C), jnp.asarray(classes(N, ignored=False))
    if name == "vmap":
        x = logits(N, 3, C)
    ours, own = (jax.tree.leaves(transform(new(f))(jnp.asarray(x), y)) for f in (J.cross_entropy, own_loss))
    for a, b in zip(ours, own, strict=True):
        close(a, b, 1e-10)


def stacked(function, *arrays):
    """What jax.vmap gives, by calls one after the other."""
    results = [function(*each) for each in zip(*arrays, strict=True)]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *results)


@cases
@pytest.mark.parametrize("mapped", ["x", "x y", "x y options", "options"])
def test_vmap_is_a_loop(case, mapped):
    """Also over weights and divisors, and nested; also where a call has no row that counts."""
    loss, x, y, options = case_of(case)
    static = {name: value for name, value in options.items() if name not in ("weight", "sample_weight", "divisor")}
    arrays = {name: np.asarray(value, np.float64) for name, value in options.items() if name not in static}
    factors, shifted = np.array([1.0, 0.5, 2.0]), {"x": np.stack([x, 2 * x, -x]), "y": np.stack([y, y, y])}
    if y.ndim < x.ndim:
        shifted["y"][1] = static.get("ignore_index", -100)
    axes = {"x": 0 if "x" in mapped else None, "y": 0 if "y" in mapped else None} | dict.fromkeys(
        arrays, 0 if "options" in mapped else None
    )
    if not any(axis == 0 for axis in axes.values()):
        pytest.skip("nothing to map over")
    given = {"x": x, "y": y, **arrays}
    batches = shifted | {name: np.stack([array * f for f in factors]) for name, array in arrays.items()}
    given = {name: batches[name] if axes[name] == 0 else given[name] for name in given}

    def function(given):
        given = dict(given)
        x, y = given.pop("x"), given.pop("y")
        both = jax.value_and_grad(lambda x: getattr(J, loss)(x, y, **static | given).sum())
        return getattr(J, loss)(x, y, **static | given), both(x)

    wanted = stacked(lambda i: function({name: array[i] if axes[name] == 0 else array for name, array in given.items()}), range(3))
    got = jax.vmap(function, (axes,))(given)
    jax.tree.map(close, got, wanted)
    two = jax.vmap(jax.vmap(function, (axes,)), ({name: axis if axis is None else 1 for name, axis in axes.items()},))
    twice = two({name: array if axes[name] is None else np.stack([array, array], 1) for name, array in given.items()})
    jax.tree.map(lambda a, b: close(a, np.stack([b, b])), twice, wanted)


@pytest.mark.parametrize("case", ["all", "pixels", "none", "probabilities", "one row"])
def test_second_derivatives_under_vmap(case):
    """Of one array of logits in several directions, as jax.hessian asks for, and of several."""
    loss, x, y, options = case_of(case)

    @jax.jit
    def product(v, x):
        return jax.jvp(jax.grad(lambda x: getattr(J, loss)(x, y, **options).sum()), [x], [v])[1]

    several = np.stack([x, 2 * x, -x])
    close(jax.vmap(product, (0, None))(several, x), stacked(lambda v: product(v, x), several))
    close(jax.vmap(product)(several, several[::-1]), stacked(product, several, several[::-1]))
    close(jax.vmap(product, (None, 0))(x, several), stacked(lambda x_: product(x, x_), several))
    reduction = options | {"reduction": "sum" if options.get("reduction") == "none" else options.get("reduction", "mean")}
    close(product(x, x), F.cross_entropy_hvp(x, x, y, **reduction))


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_gradients_of_single_examples_that_are_ignored(empty):
    x, y = logits(N, C), classes(N)
    values, gradients = jax.vmap(jax.value_and_grad(partial(J.cross_entropy, empty=empty)))(x, y)
    assert np.isnan(values[1]) if empty == "nan" else values[1] == 0
    assert (gradients[1] == 0).all()
    close(gradients[0], jax.grad(J.cross_entropy)(x[0], y[0]))


def test_integer_targets_have_no_tangents():
    x, y = jnp.asarray(logits(N, C)), jnp.asarray(classes(N))
    zeros = np.zeros(y.shape, jax.dtypes.float0)
    _, tangent = jax.jvp(J.cross_entropy, (x, y), (x, zeros))
    close(tangent, (jax.grad(J.cross_entropy)(x, y) * x).sum())
    gradients = jax.grad(J.cross_entropy, (0, 1), allow_int=True)(x, y)
    assert gradients[1].dtype == jax.dtypes.float0


# ------------------------------ how it is computed ------------------------------


def calls_in(function, *arrays):
    """The optimized program of XLA: its lines outside fused computations."""
    text = jax.jit(function).lower(*arrays).compile().as_text()
    return [line for line in text[text.index("ENTRY") :].splitlines() if " = " in line and "parameter(" not in line]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_value_and_gradient_are_one_call_and_nothing_else(dtype):
    (line,) = calls_in(jax.value_and_grad(J.cross_entropy), jnp.zeros((N, C), dtype), jnp.zeros(N, int))
    assert 'custom_call_target="nbloss"' in line and "('cross_entropy', 1," in line
    (line,) = calls_in(J.cross_entropy, jnp.zeros((N, C), dtype), jnp.zeros(N, int))
    assert "('cross_entropy', 0," in line


def test_a_gradient_in_a_larger_program_is_one_call():
    def loss(w, x, y):
        return J.cross_entropy(x @ w, y) + 1e-3 * (w * w).sum()

    lines = calls_in(jax.value_and_grad(loss), jnp.zeros((7, C)), jnp.zeros((N, 7)), jnp.zeros(N, int))
    assert sum("custom-call" in line and "nbloss" in line for line in lines) == 1


@pytest.mark.usefixtures("mechanism")
def test_donated_arrays():
    step = jax.jit(lambda x, y: x - jax.grad(J.cross_entropy)(x, y), donate_argnums=0)
    x, y = jnp.asarray(logits(N, C)), jnp.asarray(classes(N))
    wanted = np.asarray(x) - F.cross_entropy_backward(1.0, np.asarray(x), np.asarray(y))
    close(step(x, y), wanted)


def test_other_platforms_get_formulas():
    """No GPU is needed to see what a program for one would be."""
    lowered = jax.jit(jax.value_and_grad(J.cross_entropy)).trace(jnp.zeros((N, C)), jnp.zeros(N, int)).lower(lowering_platforms=("cuda",))
    assert "nbloss" not in lowered.as_text() and "exponential" in lowered.as_text()


@cases
def test_formulas_agree_with_the_kernels(case):
    loss, x, y, options = case_of(case)
    names = [name for name in ("weight", "sample_weight") if name in options]
    arrays = [jnp.asarray(a) for a in (x, y, *(options[name] for name in names))]
    static = {"reduction": "mean"} | {name: value for name, value in options.items() if name not in names}
    spec = J.Spec(loss, 1, ("input", "target", *names), tuple(a.ndim for a in arrays), tuple(static.items()))
    for a, b in zip(jax.jit(partial(_primitive._by_formula, spec=spec))(*arrays), _primitive.call(spec, *arrays), strict=True):
        close(a, b)


def test_formulas_of_bad_targets_are_nan():
    spec = J.Spec("cross_entropy", 1, ("input", "target"), (2, 1), (("reduction", "none"),))
    value, gradient = jax.jit(partial(_primitive._by_formula, spec=spec))(jnp.asarray(logits(3, C)), jnp.array([0, C, -1]))
    assert np.isnan(value).tolist() == [False, True, True]
    assert not np.isnan(gradient[0]).any()


# ------------------------------ corners and errors ------------------------------


@pytest.mark.usefixtures("mechanism")
@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.parametrize(
    ("shape", "target"),
    [((0, C), np.zeros(0, int)), ((N, 1), np.zeros(N, int)), ((N, C), np.full(N, -100)), ((2, C, 0), np.zeros((2, 0), int))],
)
def test_corners(shape, target, empty):
    x = logits(*shape)
    value, gradient = jax.jit(jax.value_and_grad(partial(new(J.cross_entropy), empty=empty)))(x, target)
    np.testing.assert_array_equal(value, F.cross_entropy(x, target, empty=empty))
    assert gradient.shape == shape and (np.asarray(gradient) == 0).all()
    assert jax.jit(partial(J.cross_entropy, reduction="none"))(x, target).shape == target.shape


def test_ignored_rows_may_hold_anything():
    x, y = logits(N, C), classes(N)
    x[1] = np.nan
    value, gradient = jax.value_and_grad(J.cross_entropy)(x, y)
    assert np.isfinite(value) and (np.asarray(gradient[1]) == 0).all()
    assert np.isfinite(jax.jvp(jax.grad(lambda x: J.cross_entropy(x, y)), [x], [np.ones_like(x)])[1]).all()
    spec = J.Spec("cross_entropy", 1, ("input", "target"), (2, 1), (("reduction", "mean"),))
    for a, b in zip(jax.jit(partial(_primitive._by_formula, spec=spec))(x, y), (value, gradient), strict=True):
        close(a, b)


BAD = {
    "float class numbers": lambda f: f(logits(N, C), np.zeros(N)),
    "shape of targets": lambda f: f(logits(N, C), np.zeros(N + 1, int)),
    "integer logits": lambda f: f(np.zeros((N, C), int), np.zeros(N, int)),
    "scalar logits": lambda f: f(np.zeros(()), np.zeros((), int)),
    "no class": lambda f: f(np.zeros((N, 0)), np.zeros(N, int)),
    "shape of weights": lambda f: f(logits(N, C), classes(N), WEIGHT[1:]),
    "shape of sample weights": lambda f: f(logits(N, C), classes(N), sample_weight=ROWS[1:]),
    "reduction": lambda f: f(logits(N, C), classes(N), reduction="average"),
    "smoothing": lambda f: f(logits(N, C), classes(N), label_smoothing=1.5),
    "smoothing that is no number": lambda f: f(logits(N, C), classes(N), label_smoothing="a"),
    "softcap": lambda f: f(logits(N, C), classes(N), softcap=-1.0),
    "divisor": lambda f: f(logits(N, C), classes(N), divisor=0.0),
    "divisor of a sum": lambda f: f(logits(N, C), classes(N), divisor=2.0, reduction="sum"),
    "ignore_index of probabilities": lambda f: f(logits(N, C), probabilities(N, C), ignore_index=2),
}


@pytest.mark.parametrize("bad", BAD)
def test_calls_that_are_wrong_raise_the_errors_of_numpy_when_they_are_traced(bad):
    with pytest.raises((TypeError, ValueError)) as wanted:
        BAD[bad](F.cross_entropy)
    with pytest.raises(wanted.type) as got:
        jax.jit(lambda: BAD[bad](J.cross_entropy)).trace()
    assert str(got.value) == str(wanted.value)


def test_an_axis_out_of_range():
    with pytest.raises(np.exceptions.AxisError):
        J.softmax(logits(2, 3), 2)
    with pytest.raises(TypeError, match="dim should be an integer"):
        J.log_softmax(logits(2, 3), 1.0)


@pytest.mark.usefixtures("mechanism")
@pytest.mark.parametrize("function", [J.cross_entropy, jax.grad(J.cross_entropy)])
def test_a_target_out_of_range_is_named(function):
    y = np.array([0, 1, 9, 0, -3, 1])
    with pytest.raises(
        (ValueError, RuntimeError), match=r"IndexError: target should be in \[0, 5\).* got 9 at index \(2,\); 2 of 6 targets"
    ):
        jax.block_until_ready(jax.jit(new(function))(logits(N, C), y))
    assert np.isfinite(jax.jit(new(function))(logits(N, C), classes(N))).all()  # nothing is left behind


def test_a_target_out_of_range_is_named_in_the_call_of_a_vmap():
    y = np.zeros((3, N), int)
    y[2, 4] = 9
    with pytest.raises((ValueError, RuntimeError), match=r"got 9 at index \(4,\); 1 of 6 .*in call \(2,\) of jax.vmap"):
        jax.block_until_ready(jax.vmap(J.cross_entropy, (None, 0))(logits(N, C), y))
    with pytest.raises((ValueError, RuntimeError), match=r"got 9 at index \(4,\); 1 of 6 .*in call \(2,\) of jax.vmap"):
        jax.block_until_ready(jax.vmap(J.cross_entropy)(np.stack([logits(N, C)] * 3), y))


def test_equal_options_are_compiled_once():
    traced = []

    @jax.jit
    def loss(x, y):
        traced.append(1)
        return J.cross_entropy(x, y, label_smoothing=np.float64(0.1))

    for _ in range(3):
        loss(logits(N, C), classes(N))
    assert traced == [1]
    one, two = (partial(J.cross_entropy, label_smoothing=e) for e in (0.1, 0.3))
    x, y = logits(N, C), classes(N)
    assert jax.jit(one)(x, y) != jax.jit(two)(x, y)
    assert jax.jit(two)(x, y) == F.cross_entropy(x, y, label_smoothing=0.3)


# ------------------------------ threads and devices ------------------------------


def test_several_python_threads():
    """XLA calls the handler from threads of its own: with the interpreter's lock held by others, and while others wait for it."""
    step = jax.jit(jax.value_and_grad(J.cross_entropy))
    small, large = (logits(N, C), classes(N)), (logits(512, 1000), rng().integers(0, 1000, 512))
    wanted = [F.cross_entropy_value_and_grad(*each) for each in (small, large)]
    wrong = []

    def work():
        for i in range(20):
            for each, (value, gradient) in zip((small, large), wanted, strict=True):
                got = step(*each)
                if i % 2:  # half of the results are waited for later, so that calls are in flight together
                    continue
                if got[0] != value or not np.array_equal(got[1], gradient):
                    wrong.append(i)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    assert wrong == []


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import nbloss.functional as F
import nbloss.interop.jax as J

assert jax.device_count() == 2
rng = np.random.default_rng(0)
x, y = rng.standard_normal((2, 512, 1000), np.float32), rng.integers(0, 1000, (2, 512))
wanted = [F.cross_entropy_value_and_grad(*each) for each in zip(x, y)]
step = jax.pmap(jax.value_and_grad(J.cross_entropy))
for _ in range(30):
    values, gradients = step(x, y)
    for i, (value, gradient) in enumerate(wanted):
        assert values[i] == value and np.array_equal(gradients[i], gradient)
mesh = Mesh(jax.devices(), "rows")
shard_map = getattr(jax, "shard_map", None)
flat = x.reshape(-1, 1000), y.reshape(-1).astype(np.int32)
whole = F.cross_entropy(*flat)
if shard_map is not None:
    local = shard_map(
        lambda x, y: jax.lax.pmean(J.cross_entropy(x, y), "rows"), mesh=mesh, in_specs=(P("rows"), P("rows")), out_specs=P(),
        check_vma=False,
    )
    np.testing.assert_allclose(jax.jit(local)(*flat), whole, rtol=1e-6)
    gradient = jax.jit(jax.grad(local))(*flat)
    np.testing.assert_allclose(gradient, F.cross_entropy_backward(1.0, *flat), rtol=1e-5, atol=1e-9)
sharded = [jax.device_put(a, NamedSharding(mesh, P("rows"))) for a in flat]
assert jax.jit(J.cross_entropy)(*sharded) == whole
print("done")
"""


def test_two_devices_at_once():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "done\n", done.stderr


# ------------------------------ training ------------------------------


def test_training_follows_the_same_curve():
    random = np.random.default_rng(0)
    centers = random.standard_normal((10, 64))
    labels = jnp.asarray(random.integers(0, 10, 256))
    images = jnp.asarray(centers[labels] + 0.7 * random.standard_normal((256, 64)))
    start = [jnp.asarray(0.1 * random.standard_normal(shape)) for shape in ((64, 32), (32, 10))]

    def curve(loss):
        def of_model(weights, x, y):
            return loss(jnp.tanh(x @ weights[0]) @ weights[1], y)

        @jax.jit
        def step(weights, x, y):
            value, gradients = jax.value_and_grad(of_model)(weights, x, y)
            return [w - 0.5 * g for w, g in zip(weights, gradients, strict=True)], value

        weights, values = start, []
        for i in range(60):
            batch = slice(64 * (i % 4), 64 * (i % 4 + 1))
            weights, value = step(weights, images[batch], labels[batch])
            values.append(float(value))
        return values

    ours = curve(J.cross_entropy)
    np.testing.assert_allclose(ours, curve(own_loss), rtol=1e-9)
    assert ours[-1] < 0.1 * ours[0]
