"""The distillation loss T² KL(softmax(t / T) || softmax(x / T)) and its gradient T (p - q): against fifty digits where the student is near
its teacher, against the plain formula in the widest float, and against PyTorch; and the laws that it obeys."""

import os
from itertools import product

import numpy as np
import pytest
import reference
from bits import assert_same_bits, by_one_thread_and_two
from layouts import LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from problems import DTYPES, REDUCTIONS, WIDE_DTYPES, assert_within, eps, floor, logits, name, rows_shape, upstream_like, work
from refusals import refused

import nbloss.functional as F

SHAPES = [(7,), (5, 3), (70, 10), (9, 48), (9, 49), (33, 300), (5, 2000), (2, 21, 12, 12), (2, 60, 9, 9), (2, 3, 5)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="NumPy's sums depend on the layout")


def pair(rng, shape, dtype=np.float32, distance=1.0):
    """``(student, teacher)``: logits that differ by about ``distance``."""
    t = logits(rng, shape, dtype)
    return np.asarray((t.astype(np.float64) + distance * rng.normal(size=shape)).astype(dtype)), t


def all_results(x, t, g=1.0, out=None, **options):
    """The loss alone, loss and gradient, and the gradient alone."""
    return (
        F.distillation_loss(x, t, **options),
        *F.distillation_loss_value_and_grad(x, t, grad_output=g, **options),
        F.distillation_loss_backward(g, x, t, **options),
    )


def gap_of(x, temperature=1.0):
    """How far the logits of a row are apart, which is what the error of an exponential grows with."""
    finite = x[np.isfinite(x)].astype(np.float64)
    return float(finite.max() - finite.min()) / temperature if finite.size else 0.0


def assert_results(results, x, t, g=1.0, **options):
    """Values as of the plain formula, for x and t that are not near each other; `test_digits_are_kept...` has those that are."""
    loss = reference.distillation_loss(x, t, **options)
    gradient = reference.distillation_loss_backward(g, x, t, **options)
    at = options.get("temperature", 1.0)
    relative = eps(work(x.dtype)) * (8 + gap_of(x, at) + gap_of(t, at))
    assert_within(results[0], loss, relative * np.abs(loss) + floor(work(x.dtype)))
    sizes = np.abs(gradient) + np.abs(gradient).max(initial=0, where=np.isfinite(gradient)) / 16
    assert_within(results[2], gradient, relative * sizes + eps(x.dtype) * np.abs(gradient) + floor(x.dtype))
    assert_array_equal(results[0], results[1])
    assert_array_equal(results[2], results[3])
    assert results[0].dtype == work(x.dtype) and results[2].dtype == x.dtype


# ------------------------------ digits ------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("shape", [(40, 3), (16, 10), (8, 100), (4, 1000)], ids=name)
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_digits_are_kept_where_the_student_is_near_its_teacher(rng, dtype, shape, distance, temperature):
    """Fifty digits. The differences of float32 logarithms would have an error of 1e-2 at the distance 1e-2, and no digit at 1e-4."""
    pytest.importorskip("mpmath")
    x, t = pair(rng, shape, dtype, distance)
    losses, gradient = reference.exact_distillation(x, t, temperature)
    actual = F.distillation_loss_value_and_grad(x, t, temperature=temperature, reduction="none")
    unit = eps(dtype)
    assert_allclose(actual[0], losses, rtol=unit * (3 if shape[1] >= 100 else 6))
    largest = np.abs(gradient).max(axis=1, keepdims=True)
    assert_within(actual[1], gradient, 8 * unit * np.abs(gradient) + 4 * unit * largest)


def test_a_common_offset_costs_no_digits(rng):
    """64 is added exactly to numbers of few bits, so the loss must not change by more than the rounding of its own digits."""
    for shape in ((50, 10), (20, 300)):
        t = np.float32(rng.integers(-4096, 4096, shape) / 1024)
        x = np.float32(t + rng.integers(-8, 8, shape) / 4096)
        losses, gradient = reference.exact_distillation(x, t)
        for a, b in ((x, t), (x + 64, t), (x, t - 64), (x + 64, t + 64)):
            loss, grad = F.distillation_loss_value_and_grad(np.float32(a), np.float32(b), reduction="none")
            assert_allclose(loss, losses, rtol=1e-6)
            assert_within(grad, gradient, 2e-6 * np.abs(gradient).max(axis=1, keepdims=True))


# ------------------------------ values ------------------------------


@every_shape
@every_dtype
def test_values_of_every_layout_of_memory(rng, dtype, shape):
    x, t = pair(rng, shape, dtype)
    for temperature in (1.0, 2.5):
        options = {"temperature": temperature, "reduction": "none"}
        g = upstream_like(rng, F.distillation_loss(x, t, **options)).astype(np.float32)
        results = all_results(x, t, g, **options)
        assert_results(results, x, t, g, **options)


@compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@every_shape
def test_layouts_give_the_same_bits(rng, shape, layout):
    x, t = pair(rng, shape)
    expected, change = all_results(x, t, reduction="none"), LAYOUTS[layout]
    for a, b in ((change(x), t), (x, change(t)), (change(x), change(t))):
        assert_same_bits(all_results(a, b, reduction="none"), expected, layout)


@pytest.mark.parametrize("shape", [(40, 10), (12, 200), (2, 5, 30)], ids=name)
def test_the_teacher_may_have_another_dtype(rng, shape):
    """It is converted to the dtype of the arithmetic, as probabilities are."""
    x, t = pair(rng, shape)
    for (student,), (teacher,) in product([d.values for d in DTYPES], repeat=2):
        a, b = x.astype(student), t.astype(teacher)
        expected = all_results(a, b.astype(work(student)), reduction="none")
        assert_same_bits(all_results(a, b, reduction="none"), expected, (student, teacher))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(70, 10), (9, 120), (2, 7, 5)], ids=name)
def test_reductions_sample_weights_and_divisors(rng, shape, reduction):
    x, t = pair(rng, shape)
    own = np.asarray(rng.integers(0, 17, rows_shape(shape)) / 8)
    cases = [{}, {"sample_weight": own}] + ([{"divisor": 7.5}, {"divisor": 3, "sample_weight": own}] if reduction == "mean" else [])
    for options in cases:
        options = options | {"reduction": reduction, "temperature": 2.0}
        assert_results(all_results(x, t, **options), x, t, **options)


def test_a_sample_weight_of_0_hides_the_row(rng):
    for shape in ((6, 4), (6, 80)):
        x, t = pair(rng, shape)
        own = np.array([1, 0, 2, 0, 1, 1])
        expected = all_results(x, t, sample_weight=own, reduction="none")
        x[1], t[3, 0] = np.nan, np.inf
        results = all_results(x, t, sample_weight=own, reduction="none")
        assert_same_bits(results, expected)
        assert not results[0][[1, 3]].any() and not results[2][[1, 3]].any()
        assert np.isfinite(F.distillation_loss(x, t, sample_weight=own))


def test_pytorch(rng):
    torch = pytest.importorskip("torch")
    for shape in ((12, 7), (6, 90), (3, 5, 4)):
        x, t = pair(rng, shape, np.float64)
        for at in (1.0, 4.0):
            a, b = torch.from_numpy(x).requires_grad_(), torch.from_numpy(t)
            kl = torch.nn.functional.kl_div(
                (a / at).log_softmax(1), (b / at).log_softmax(1), log_target=True, reduction="none" if len(shape) > 2 else "batchmean"
            )
            kl = at**2 * (kl.sum() / (x.size // shape[1]) if len(shape) > 2 else kl)
            kl.backward()
            loss, grad = F.distillation_loss_value_and_grad(x, t, temperature=at)
            assert_allclose(loss, kl.item(), rtol=1e-13)
            assert_allclose(grad, a.grad.numpy(), rtol=1e-11, atol=1e-16)


def test_the_gradient_is_the_slope_of_the_loss(rng):
    """Central differences of the plain formula in the widest float."""
    x, t = pair(rng, (3, 6), np.float64)
    grad = F.distillation_loss_backward(1.0, x, t, temperature=1.7, reduction="sum")
    step = reference.WIDE(1e-6)
    for at in np.ndindex(x.shape):
        up, down = x.astype(reference.WIDE), x.astype(reference.WIDE)
        up[at] += step
        down[at] -= step
        values = [reference.distillation_loss(v, t, temperature=1.7, reduction="sum") for v in (up, down)]
        assert_allclose(grad[at], float((values[0] - values[1]) / (2 * step)), rtol=1e-9, atol=1e-11)


# ------------------------------ laws ------------------------------


@every_dtype
def test_equal_logits_give_exactly_0(rng, dtype):
    for shape in ((20, 10), (20, 300), (2, 60, 9)):
        t = logits(rng, shape, dtype)
        for temperature in (1.0, 3.0):
            for result in all_results(t, t.copy(), temperature=temperature, reduction="none"):
                assert not result.astype(np.float64).any()


def test_the_loss_is_never_negative_and_a_shift_makes_it_nearly_0(rng):
    for shape in ((200, 3), (200, 10), (50, 100)):
        for dtype in (np.float32, np.float64):
            t = logits(rng, shape, dtype)
            x = t + rng.normal(size=(shape[0], 1)).astype(dtype) * 100
            loss = F.distillation_loss(x, t, reduction="none")
            assert (loss >= 0).all() and loss.max() < 1e4 * eps(dtype) ** 2 * 100**2


def test_the_gradient_of_a_row_sums_to_0(rng):
    x, t = pair(rng, (30, 50), np.float64)
    assert_allclose(F.distillation_loss_backward(1.0, x, t, reduction="sum").sum(axis=1), 0, atol=1e-15)


def test_a_temperature_is_a_division_of_both(rng):
    x, t = pair(rng, (30, 20))
    at_4 = F.distillation_loss_value_and_grad(x, t, temperature=4.0, reduction="none")
    divided = F.distillation_loss_value_and_grad(x / 4, t / 4, reduction="none")
    assert_array_equal(at_4[0], 16 * divided[0])
    assert_array_equal(at_4[1], 4 * divided[1])


def test_one_class_has_no_divergence():
    assert F.distillation_loss(np.float32([[3.0], [-1.0]]), np.float32([[5.0], [7.0]])) == 0


# ------------------------------ infinities and far classes ------------------------------


def padded(rows, width):
    """Rows with more classes that neither teacher nor student gives any probability."""
    rows = np.float32(rows)
    return np.concatenate([rows, np.full((len(rows), width - rows.shape[1]), -np.inf, np.float32)], axis=1)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("width", [4, 60, 200])
def test_classes_without_probability(width, dtype):
    inf = np.inf
    t = padded([[1, 2, 0, -inf], [1, 2, 0, -inf], [1, 2, 0, 1], [-inf] * 4, [1, 2, np.nan, 0], [inf, 0, 0, 0], [0, 1, 0, 0]], width)
    x = padded([[2, 2, 0, -inf], [2, 2, 0, 3], [1, 2, 0, -inf], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [0, inf, 0, 0]], width)
    t, x = t.astype(dtype), x.astype(dtype)
    results = all_results(x, t, reduction="none")
    assert_results(results, x, t, reduction="none")
    loss, grad = results[1:3]
    assert np.isfinite(loss[:2]).all() and loss[2] == inf and np.isnan(loss[3:]).all()
    assert np.isfinite(grad[:3]).all() and np.isnan(grad[3:]).all()
    assert (grad[0, 3:] == 0).all() and grad[1, 3] > 0


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
@pytest.mark.parametrize("classes", [6, 48, 70, 400])
def test_logits_that_are_far_apart(rng, dtype, classes):
    """Some classes of each row are far off in the teacher, in the student, or in both."""
    t = logits(rng, (60, classes), dtype)
    x = (t + rng.normal(size=t.shape) * 10.0 ** rng.integers(-3, 1, (60, 1))).astype(dtype)
    for array in (x, t):
        far = rng.random(t.shape) < 0.2
        far[:, 0] = False
        array[far] += (rng.choice([-1.0, 1.0], far.sum()) * 10.0 ** rng.uniform(1, 2.4, far.sum())).astype(dtype)
    both = rng.random(t.shape) < 0.1
    x[both], t[both] = -1e4, -1e4
    losses, gradient = reference.exact_distillation(x, t)
    loss, grad = F.distillation_loss_value_and_grad(x, t, reduction="none")
    spread = np.abs(x).max() + np.abs(t).max()
    assert_allclose(loss, losses, rtol=1000 * eps(dtype), atol=1e-44)  # fifty digits are no more beside logits of 1e4
    assert_within(grad, gradient, eps(dtype) * 8 * min(spread, 600))


def test_other_lanes_keep_their_bits(rng):
    """Rows beside one with infinities, whose tile is computed twice, are as without it."""
    for shape in ((64, 10), (64, 48)):
        x, t = pair(rng, shape)
        expected = all_results(x, t, reduction="none")
        x[5, 0], t[9, 1], x[40, 2] = -np.inf, -np.inf, 1e5
        results = all_results(x, t, reduction="none")
        keep = np.setdiff1d(np.arange(64), [5, 9, 40])
        assert_same_bits([r[keep] for r in results], [r[keep] for r in expected])


# ------------------------------ calls ------------------------------


def test_the_bits_are_the_same_for_any_number_of_threads(rng):
    for shape in ((3000, 100), (40000, 10), (8, 20, 64, 64)):
        x, t = pair(rng, shape)
        assert_same_bits(*by_one_thread_and_two(lambda x=x, t=t: all_results(x, t)))


def test_out_is_filled_and_may_be_the_student(rng):
    for shape in ((20, 10), (20, 300), (2, 60, 9, 9), (2, 5, 70)):
        for dtype in (np.float32, np.float16):
            x, t = pair(rng, shape, dtype)
            expected = F.distillation_loss_backward(0.5, x, t)
            out = np.empty_like(x)
            assert F.distillation_loss_backward(0.5, x, t, out=out) is out
            assert_array_equal(out, expected)
            own = x.copy()
            assert F.distillation_loss_value_and_grad(own, t, grad_output=0.5, out=own)[1] is own
            assert_array_equal(own, expected)
            with refused(ValueError, "out should share no memory with teacher"):
                F.distillation_loss_backward(0.5, x, t, out=t)


def test_empty_arrays():
    for shape in ((0, 5), (0, 60), (3, 5, 0)):
        x = np.zeros(shape, np.float32)
        assert np.isnan(F.distillation_loss(x, x)) and F.distillation_loss(x, x, reduction="sum") == 0
        assert F.distillation_loss(x, x, divisor=2.0) == 0
        assert F.distillation_loss_backward(1.0, x, x).shape == shape


def test_an_upstream_gradient_of_0_gives_0(rng):
    for shape in ((4, 5), (4, 90)):
        x, t = pair(rng, shape)
        x[0] = np.nan
        grad = F.distillation_loss_backward(np.float32([0, 1, 0, 1]), x, t, reduction="none")
        assert not grad[[0, 2]].any() and grad[[1, 3]].any()


# ------------------------------ errors ------------------------------

X = np.zeros((2, 3), np.float32)
BAD = [
    (ValueError, {"temperature": 0}, ["temperature should be a positive finite number; got 0"]),
    (ValueError, {"temperature": -1.5}, ["temperature should be a positive finite number; got -1.5"]),
    (ValueError, {"temperature": np.inf}, ["temperature should be a positive finite number; got inf"]),
    (ValueError, {"temperature": np.nan}, ["temperature should be a positive finite number; got nan"]),
    (TypeError, {"temperature": "2"}, ["temperature should be a number"]),
    (TypeError, {"temperature": None}, ["temperature should be a number"]),
    (ValueError, {"divisor": 2, "reduction": "sum"}, ["divisor should be None unless reduction is 'mean'; got reduction='sum'"]),
    (ValueError, {"divisor": 0}, ["divisor should be a positive finite number; got 0"]),
    (ValueError, {"sample_weight": np.ones(3)}, ["sample_weight should have the loss's shape (2,); got (3,)"]),
    (ValueError, {"reduction": "batchmean"}, ["reduction should be one of"]),
    (ValueError, {"teacher": np.zeros((2, 4), np.float32)}, ["teacher should have shape (2, 3), the input's; got (2, 4)"]),
    (TypeError, {"teacher": np.zeros((2, 3), int)}, ["teacher", "float32"]),
    (ValueError, {"grad_output": np.ones(2)}, ["grad_output should be a number or have the loss's shape ()"]),
]


@pytest.mark.parametrize(("kind", "options", "words"), BAD, ids=[str(case[1]) for case in BAD])
def test_bad_arguments_are_refused_before_anything_is_written(kind, options, words):
    options = dict(options)
    teacher, g = options.pop("teacher", X), options.pop("grad_output", 1.0)
    out = np.full_like(X, 7)
    with refused(kind, *words):
        F.distillation_loss_value_and_grad(X, teacher, grad_output=g, out=out, **options)
    with refused(kind, *words):
        F.distillation_loss_backward(g, X, teacher, out=out, **options)
    if type(g) is float:
        with refused(kind, *words):
            F.distillation_loss(X, teacher, **options)
    assert (out == 7).all()
