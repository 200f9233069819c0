"""docs/recipes.md: its examples run, and its functions agree with derivatives of the formulas in wider arithmetic.

The functions come from the page itself. The formulas below are written once more, in NumPy's widest float, and are differentiated
numerically.
"""

import re
from pathlib import Path

import numpy as np
import pages
import pytest
import reference
from reference import WIDE

import nbloss.functional as F

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
ROW_MAPS = [
    ("poly1", 2.0),
    ("poly1", -1.0),
    ("generalised", 0.7),
    ("generalised", 1.0),
]
row_maps = pytest.mark.parametrize(("name", "parameter"), ROW_MAPS)
floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def blocks():
    return pages.blocks(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recipe():
    """The page's functions by name."""
    names = {"np": np, "F": F}
    for kind, line, text in blocks():
        if kind == "python":
            exec(compile("\n" * line + text, PAGE, "exec"), names)
    return names


def test_every_example_of_the_page_prints_what_it_says(tmp_path):
    assert pages.run(PAGE, tmp_path) >= 50


def test_every_recipe_has_a_check(recipe):
    shown = "".join(text for kind, _, text in blocks() if kind == "pycon")
    defined = {name for name in recipe if name not in ("np", "F", "__builtins__")}
    assert defined >= {name for name, _ in ROW_MAPS}
    assert {name for name in defined if not re.search(rf"\b{name}\b", shown)} == set()


def problem(rng, shape, dtype, spread=3.0):
    """Logits, class numbers, and their indices: x[at] are the logits of the targets."""
    x = (spread * rng.standard_normal(shape)).astype(dtype)
    y = rng.integers(0, shape[1], shape[:1] + shape[2:])
    return x, y


def of_target(rows, y):
    """The numbers of the target's class."""
    return np.take_along_axis(rows, np.expand_dims(y, 1), 1)[:, 0]


STEP = 1e-4
UNSEEN = max(1e-13, 100 * float(np.finfo(WIDE).eps) / STEP)  # what the numerical derivatives here do not see


def gradient(f, x):
    """Of the number f(x), by the five-point rule in the widest float: its errors are near step^4 and the rounding of f / step."""
    x, h = np.asarray(x).astype(WIDE), WIDE(STEP)
    result = np.empty(x.shape, WIDE)
    for i in np.ndindex(x.shape):
        d = np.zeros(x.shape, WIDE)
        d[i] = h
        result[i] = (8 * (f(x + d) - f(x - d)) - (f(x + 2 * d) - f(x - 2 * d))) / (12 * h)
    return result


def assert_close(result, expected, dtype, rounding=16, floor=0.0):
    """Within some units in the last place of the expected number, or of ``floor``."""
    assert result.dtype == dtype
    np.testing.assert_allclose(np.asarray(result, WIDE), expected, rtol=rounding * np.finfo(dtype).eps, atol=floor)


def assert_gradient(result, expected, dtype, terms=0.0):
    """The same for numerical derivatives. ``terms``: how large the numbers are that cancel in the result."""
    assert_close(result, expected, dtype, rounding=32, floor=UNSEEN + 8 * terms * float(np.finfo(dtype).eps))


# ------------------------------ functions of the loss ------------------------------


def formula(name, parameter, logp):
    """The table's value column, from the log-probability of the target."""
    p, r = np.exp(logp), -np.expm1(logp)
    return {
        "poly1": lambda: -logp + parameter * r,
        "generalised": lambda: (1 - p ** WIDE(parameter)) / parameter,
    }[name]()


@row_maps
@floats
@pytest.mark.parametrize("loss", [1e-30, 1e-9, 1e-3, 0.5, 3.0, 60.0, 200.0])
def test_a_function_of_the_loss_and_its_derivative_keep_their_digits(recipe, name, parameter, dtype, loss):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(300):
        loss = mpmath.mpf(float(dtype(loss)))
        f = {
            "poly1": lambda loss: loss + parameter * (1 - mpmath.exp(-loss)),
            "generalised": lambda loss: (1 - mpmath.exp(-parameter * loss)) / parameter,
        }[name]
        step = loss * mpmath.mpf(10) ** -40
        expected = float(f(loss)), float((f(loss + step) - f(loss - step)) / (2 * step))
    value, slope = recipe[name](np.array([loss], dtype), parameter)
    assert value.dtype == slope.dtype == dtype
    # An exponential of l has an error of an ulp times l; 1 - 1/2 at poly1's epsilon of -1 cancels, which is the formula's own condition.
    sizes = (float(loss), 1 + abs(parameter)) if name == "poly1" else (abs(expected[0]), abs(expected[1]))
    bound = (8 + 2 * float(loss) * parameter if name == "generalised" else 8 + 4 * abs(parameter)) * np.finfo(dtype).eps
    tiny = np.finfo(dtype).tiny
    assert abs(float(value[0]) - expected[0]) <= bound * sizes[0] + tiny
    assert abs(float(slope[0]) - expected[1]) <= bound * sizes[1] + tiny


@pytest.mark.parametrize(
    ("name", "parameter", "at_zero", "at_infinity"),
    [
        ("poly1", (2.0,), (0, 3), (np.inf, 1)),
        ("generalised", (0.5,), (0, 1), (2, 0)),
        ("token_scaled", (), (0, 1), (0, 0)),
    ],
)
@floats
def test_the_limits_of_a_function_of_the_loss(recipe, name, parameter, at_zero, at_infinity, dtype):
    value, slope = recipe[name](np.array([0, np.inf, np.nan], dtype), *parameter)
    assert value.dtype == slope.dtype == dtype
    assert (value[0], slope[0]) == at_zero
    assert (value[1], slope[1]) == at_infinity
    assert np.isnan(value[2])
    assert np.isnan(slope[2])


@row_maps
@floats
@pytest.mark.parametrize("shape", [(9, 5), (3, 4, 2, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_a_row_map_is_the_derivative_of_its_formula(recipe, rng, name, parameter, dtype, shape, weighted):
    x, y = problem(rng, shape, dtype)
    weight = rng.uniform(0.5, 2, shape[1]).astype(dtype) if weighted else None
    w = weight[y].astype(WIDE) if weighted else WIDE(1)
    value, grad = recipe["row_map"](lambda loss: recipe[name](loss, parameter), x, y, weight, n=7)

    def losses(x):
        return w * formula(name, parameter, of_target(reference.log_softmax(x, 1), y))

    assert_close(value, losses(x.astype(WIDE)), dtype, rounding=16 + 8 * abs(parameter), floor=np.finfo(dtype).eps)
    assert_gradient(grad, gradient(lambda x: losses(x).sum() / 7, x), dtype)


@floats
def test_token_scaling_holds_the_probability_fixed(recipe, rng, dtype):
    x, y = problem(rng, (9, 5), dtype)
    value, grad = recipe["row_map"](recipe["token_scaled"], x, y)
    fixed = np.exp(of_target(reference.log_softmax(x, 1), y))
    assert_close(value, -fixed * np.log(fixed), dtype)
    assert_gradient(grad, gradient(lambda x: -(fixed * of_target(reference.log_softmax(x, 1), y)).sum(), x), dtype)


@pytest.mark.parametrize("name", ["poly1", "generalised", "token_scaled"])
def test_rows_at_the_ends_of_a_row_map(recipe, name):
    """r = 0, l = inf, an ignored row of nan, a weight of 0 at l = inf, a row of nan."""
    inf, nan = np.inf, np.nan
    x = np.array([[900, 0, 0], [-inf, 0, 0], [nan, nan, nan], [0, 0, -inf], [nan, 0, 0]])
    y = np.array([0, 0, -100, 2, 0])
    f = recipe[name]
    value, grad = recipe["row_map"](f, x, y, np.array([2.0, 1, 0]))
    (at_zero, _), (at_infinity, slope) = zip(*f(np.array([0, inf])), strict=True)
    np.testing.assert_array_equal(value[:4], [at_zero, 2 * at_infinity, 0, 0])
    np.testing.assert_array_equal(grad[0], 0)
    np.testing.assert_allclose(grad[1], slope * np.array([-2, 1, 1]), rtol=1e-15)
    np.testing.assert_array_equal(grad[2:4], 0)
    assert np.isnan(value[4])
    assert np.isnan(grad[4]).all()


def test_a_row_map_takes_one_row_and_half_types(recipe, rng):
    x = rng.standard_normal(5)
    value, grad = recipe["row_map"](recipe["poly1"], x, 3, np.full(5, 2.0))
    rows = recipe["row_map"](recipe["poly1"], x[None], np.array([3]), np.full(5, 2.0))
    assert value == rows[0][0]
    np.testing.assert_array_equal(grad, rows[1][0])
    value, grad = recipe["row_map"](recipe["poly1"], x[None].astype(np.float16), np.array([3]))
    assert (value.dtype, grad.dtype) == (np.float32, np.float16)


# ------------------------------ masks ------------------------------


@floats
@pytest.mark.parametrize("per_row", [False, True])
def test_classes_that_are_not_allowed_are_as_if_absent(recipe, rng, dtype, per_row):
    x, y = problem(rng, (8, 6), dtype)
    where = rng.random((8, 6) if per_row else (6,)) < 0.6
    each = np.array(np.broadcast_to(where, x.shape))
    each[np.arange(8), y] = True
    where = each if per_row else each.any(0) & where
    y = np.where(np.broadcast_to(where, x.shape)[np.arange(8), y], y, np.argmax(np.broadcast_to(where, x.shape), 1))
    masked = recipe["allowed_only"](where, x)
    assert masked.dtype == dtype
    loss, grad = F.cross_entropy_value_and_grad(masked, y, reduction="none")
    for i in range(8):
        few = np.flatnonzero(np.broadcast_to(where, x.shape)[i])
        row, target = x[i, few].astype(WIDE), int(np.searchsorted(few, y[i]))
        assert_close(loss[i], -reference.log_softmax(row)[target], dtype)
        assert_gradient(grad[i, few], gradient(lambda row, t=target: -reference.log_softmax(row)[t], row), dtype)
    assert (grad[~np.broadcast_to(where, x.shape)] == 0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_mask_keeps_the_dtype(recipe, dtype):
    x = np.zeros((2, 3), pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    masked = recipe["allowed_only"](np.array([True, False, True]), x)
    assert masked.dtype == x.dtype
    np.testing.assert_array_equal(masked.astype(np.float32)[:, 1], -np.inf)


@floats
def test_rows_and_targets_without_an_allowed_class(recipe, rng, dtype):
    x = rng.standard_normal((3, 4)).astype(dtype)
    where = np.array([[True, False, True, True], [False] * 4, [False] * 4])
    loss, grad = F.cross_entropy_value_and_grad(recipe["allowed_only"](where, x), np.array([1, 1, -100]), reduction="none")
    assert loss[0] == np.inf
    assert grad[0, 1] == -1
    assert_close(grad[0, [0, 2, 3]], reference.softmax(x[0, [0, 2, 3]]), dtype)
    assert np.isnan(loss[1])
    assert np.isnan(grad[1]).all()
    assert loss[2] == 0
    assert (grad[2] == 0).all()
    smoothed = F.cross_entropy(recipe["allowed_only"](where[0], x), np.array([0, 2, 3]), reduction="none", label_smoothing=0.1)
    assert (smoothed == np.inf).all()


@floats
@pytest.mark.parametrize("e", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(7, 5), (2, 5, 2, 3)])
def test_smoothing_over_the_allowed_classes(recipe, rng, dtype, e, shape):
    x, y = problem(rng, shape, dtype)
    where = np.array([True, True, False, True, False])
    y = np.flatnonzero(where)[y % 3]
    y[0] = np.full_like(y[0], -100)
    weight = np.array([0.5, 2, 1, 1, 3], dtype)
    loss, grad = recipe["smoothed_over_allowed"](where, x, y, e, weight)
    keep, few = y != -100, np.flatnonzero(where)

    def mean(x):
        logp = reference.log_softmax(np.moveaxis(x, 1, -1)[keep][:, few])
        w = weight[few].astype(WIDE)
        hit = np.searchsorted(few, y[keep])
        losses = -(1 - WIDE(e)) * w[hit] * logp[np.arange(hit.size), hit] - (WIDE(e) / 3 * w * logp).sum(1)
        return losses.sum() / w[hit].sum()

    assert_close(dtype(loss), mean(x.astype(WIDE)), dtype)
    assert_gradient(grad, gradient(mean, x), dtype)
    assert (np.moveaxis(grad, 1, -1)[..., ~where] == 0).all()


@floats
def test_smoothing_over_the_allowed_classes_of_each_row(recipe, rng, dtype):
    x, y = problem(rng, (7, 5), dtype)
    where = rng.random((7, 5)) < 0.5
    where[np.arange(7), y] = True
    q = recipe["smoothed_probabilities"](where, y, 0.1)
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-15)
    loss, grad = F.cross_entropy_value_and_grad(recipe["allowed_only"](where, x), q, reduction="none")
    for i in range(7):
        few = np.flatnonzero(where[i])
        hit = few == y[i]

        def row_loss(row, hit=hit):
            logp = reference.log_softmax(row)
            return -WIDE(0.9) * logp[hit].sum() - WIDE(0.1) * logp.mean()

        assert_close(loss[i], row_loss(x[i, few].astype(WIDE)), dtype)
        assert_gradient(grad[i, few], gradient(row_loss, x[i, few]), dtype)
    assert (grad[~where] == 0).all()


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint8, np.bool_])
def test_rows_that_do_not_count_change_nothing(recipe, rng, kind):
    x, y = problem(rng, (8, 2), np.float64)
    keep = np.array([True, False, True, True, False, False, True, True])
    loss, grad = F.cross_entropy_value_and_grad(np.where(keep[:, None], x, np.nan), recipe["rows_only"](keep, y.astype(kind)))
    assert_close(loss, -of_target(reference.log_softmax(x[keep], 1), y[keep]).mean(), np.float64)
    expected = gradient(lambda rows: -of_target(reference.log_softmax(rows, 1), y[keep]).mean(), x[keep])
    assert_gradient(grad[keep], expected, np.float64)
    assert (grad[~keep] == 0).all()


# ------------------------------ other derivatives ------------------------------


@floats
@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 3)])
def test_the_gradient_of_the_target_probabilities(recipe, rng, dtype, shape):
    x = problem(rng, shape, dtype)[0]
    weight = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    columns = weight.reshape(-1, *[1] * (len(shape) - 2))
    q = reference.softmax(rng.standard_normal(shape), 1)
    result = recipe["target_gradient"](x, 0.2, columns)
    assert_gradient(result, gradient(lambda q: reference.cross_entropy(x, q, weight, label_smoothing=WIDE(0.2)), q), dtype)
    torch = pytest.importorskip("torch")
    y = torch.tensor(q.astype(np.float64), requires_grad=True)
    torch.nn.functional.cross_entropy(
        torch.tensor(x.astype(np.float64)), y, torch.tensor(weight.astype(np.float64)), label_smoothing=0.2
    ).backward()
    assert_close(result, y.grad.numpy(), dtype, floor=float(np.finfo(dtype).eps))


def second_order(rng, shape, dtype, spread):
    x, y = problem(rng, shape, dtype, spread)
    return x, y, rng.standard_normal(shape).astype(dtype)


def dx(x, y):
    """p - [c = y], which is -expm1(log p) at the target."""
    logp = reference.log_softmax(x, 1)
    hit = np.expand_dims(y, 1) == np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))
    return np.where(hit, np.expm1(logp), np.exp(logp))


@floats
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2), (3, 60)])
def test_second_derivatives_are_derivatives_of_the_gradient(recipe, rng, dtype, shape):
    x, y, v = second_order(rng, shape, dtype, 2.0)
    wide, floor = v.astype(WIDE), 8 * np.finfo(dtype).eps
    g = rng.uniform(0.5, 2.0, y.shape).astype(dtype)
    of_x, of_g = recipe["double_backward"](v, g, x, y)
    assert_gradient(of_x, gradient(lambda x: (np.expand_dims(g, 1) * dx(x, y) * wide).sum(), x), dtype)
    assert_close(of_g, (dx(x, y) * wide).sum(1), dtype, floor=floor)
    along = gradient(lambda t: -of_target(reference.log_softmax(x + t * wide, 1), y).sum(), np.zeros(()))
    np.testing.assert_allclose(float(recipe["jvp"](v, x, y).sum(dtype=float)), float(along), atol=20 * floor)


@floats
@pytest.mark.parametrize("margin", [5.0, 20.0, 60.0])
def test_the_jvp_keeps_the_digits_of_confident_rows(recipe, rng, dtype, margin):
    x, y, v = second_order(rng, (6, 5), dtype, 1.0)
    x[np.arange(6), y] += dtype(margin)
    away = np.abs(dx(x, y))
    assert_close(recipe["jvp"](v, x, y), (dx(x, y) * v).sum(1), dtype, floor=16 * np.finfo(dtype).eps * float(away.max()))


def test_double_backward_is_torchs(recipe, rng):
    torch = pytest.importorskip("torch")
    x, y, v = second_order(rng, (6, 5), np.float64, 2.0)
    w = rng.uniform(0.5, 2, 5)
    g = rng.standard_normal(6)
    for smoothing in (0.0, 0.2):
        logits, upstream = torch.tensor(x, requires_grad=True), torch.tensor(g, requires_grad=True)
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(y), torch.tensor(w), reduction="none", label_smoothing=smoothing)
        (first,) = torch.autograd.grad(losses, logits, upstream, create_graph=True)
        expected = torch.autograd.grad(first, (logits, upstream), torch.tensor(v))
        for ours, theirs in zip(recipe["double_backward"](v, g, x, y, weight=w, label_smoothing=smoothing), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-15)
