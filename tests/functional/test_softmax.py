"""softmax and its gradient against the oracle: every dtype, every axis, every kind of shape."""

import numpy as np
import pytest
import reference
from layouts import LAYOUTS
from numpy.testing import assert_array_equal
from problems import DTYPES, INTEGERS, MANY_CLASSES, SHAPES, WIDE_DTYPES, assert_within, eps, floor, logits, name, work

import nbloss
import nbloss.functional as F

AXES = [(shape, dim) for shape in [(7,), (5, 7), (3, 4, 5), (4, 1, 6), (2, 3, 4, 5), (2, 3, 2, 3, 17)]
        for dim in range(-len(shape), len(shape))]  # fmt: skip
BOTH = pytest.mark.parametrize("function", [F.softmax, F.log_softmax], ids=["softmax", "log_softmax"])


def same(ours, theirs):
    assert_array_equal(ours.astype(float), theirs.astype(float))  # NumPy knows bfloat16's nan from itself


def assert_softmax(actual, x, dim, note=""):
    """4 ulp and half a unit per unit of m - x, in the arithmetic's dtype, and then the rounding to the result's own."""
    expected = reference.softmax(x, dim)
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == x.dtype, note
    with np.errstate(all="ignore"):
        gap = np.asarray(x).astype(reference.WIDE)
        gap = np.nan_to_num(gap.max(axis=dim, keepdims=True) - gap, posinf=0)
    stored = eps(x.dtype) * expected if work(x.dtype) != x.dtype else 0
    assert_within(actual, expected, (4 + gap / 2) * eps(work(x.dtype)) * expected + stored + floor(x.dtype), note)


def assert_backward(actual, g, y, dim, gpu=False, note=""):
    """A few ulp of the result; the sum is one of float64, but a float64 gradient and a GPU have no wider type for it."""
    expected, size = reference.softmax_backward(g, y, dim), np.abs(y).astype(reference.WIDE)
    terms = np.abs(g).astype(reference.WIDE) + (np.abs(g) * size).sum(axis=dim, keepdims=True)
    unit = eps(work(y.dtype))
    summed = 2.0**-46 if unit > 2.0**-30 and not gpu else (4 + np.sqrt(y.shape[dim] if y.ndim else 1)) * unit
    assert actual.dtype == y.dtype, note
    tolerance = 4 * unit * np.abs(expected) + summed * size * terms + eps(y.dtype) * np.abs(expected)
    assert_within(actual, expected, tolerance + floor(y.dtype), note)


def check(x, g, dim, device):
    y = F.softmax(x, dim, device=device)
    assert_softmax(y, x, dim)
    assert_backward(F.softmax_backward(g, y, dim, device=device), g, y, dim, device != "cpu")


# ------------------------------ values ------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES + [(3, c) for c in MANY_CLASSES], ids=name)
def test_the_last_axis_of_every_shape(shape, dtype, rng, device):
    check(logits(rng, shape, dtype), logits(rng, shape, dtype), -1, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), AXES, ids=name)
def test_every_axis_forwards_and_backwards(shape, dim, dtype, rng, device):
    check(logits(rng, shape, dtype), logits(rng, shape, dtype), dim, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 1000, 3), (2, 20011, 2), (1000, 2), (1, 130, 31), (2, 100, 70), (2, 21, 9, 31)], ids=name)
def test_a_strided_axis(shape, dtype, rng, device):
    check(logits(rng, shape, dtype), logits(rng, shape, dtype), 0 if len(shape) == 2 else 1, device)


@pytest.mark.parametrize("scale", [30.0, 100.0])
@pytest.mark.parametrize("shape", [(40, 10), (40, 300), (3, 120_000), (2, 10, 70)], ids=name)
def test_wide_ranges_of_logits_and_probabilities_that_underflow(shape, scale, rng, device):
    check(logits(rng, shape, np.float32, scale), logits(rng, shape), 1, device)


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e8])
@pytest.mark.parametrize("classes", [10, 300])
def test_a_common_offset_costs_no_digits(classes, offset, rng, device):
    check((logits(rng, (9, classes)) + np.float32(offset)).astype(np.float32), logits(rng, (9, classes)), 1, device)


@pytest.mark.parametrize("shape", [(6, 10), (6, 300), (2, 120_000), (2, 10, 70), (1, 300, 3)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_sum_to_1_within_rounding(dtype, shape, rng, device):
    y = F.softmax(logits(rng, shape, dtype), 1, device=device).astype(reference.WIDE)
    # each element is rounded on its own, so errors add up like a random walk
    np.testing.assert_allclose(y.sum(axis=1).astype(float), 1, atol=4 * eps(dtype) + eps(dtype) * float(np.sqrt((y * y).sum(axis=1).max())))


@pytest.mark.parametrize("classes", [2, 10, 100, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_logits_share_alike(dtype, classes, device):
    same(F.softmax(np.full((2, classes), -3, dtype), device=device), np.full((2, classes), 1 / classes).astype(dtype))


@pytest.mark.parametrize("shape", [(5, 6), (5, 70), (5, 5000), (1, 6, 5), (1, 70, 5)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(dtype, shape, rng, device):
    classes = shape[1]
    rows = logits(rng, (5, classes), dtype)
    rows[0, 3], rows[1, 4], rows[2, 0], rows[3] = -np.inf, np.nan, np.inf, -np.inf
    rows[4, 1:] = -np.inf
    x = rows if len(shape) == 2 else rows.T[None].copy()
    y = F.softmax(x, 1, device=device).astype(float)
    y = y if len(shape) == 2 else y[0].T
    assert y[0, 3] == 0 and not np.signbit(y[0, 3]) and np.isfinite(y[0]).all()
    assert np.isnan(y[1:4]).all()
    assert_array_equal(y[4], [1] + [0] * (classes - 1))
    assert_softmax(F.softmax(rows[:1], device=device), rows[:1], 1)


@pytest.mark.parametrize("shape", [(3, 7), (3, 100), (2, 3000), (2, 7, 70), (2, 100, 70)], ids=name)
def test_the_gradient_of_a_one_hot_distribution_is_exactly_0(shape, rng, device):
    y, g = np.zeros(shape, np.float32), logits(rng, shape)
    y[:, 2] = 1
    assert (F.softmax_backward(g, y, 1, device=device) == 0).all()


@pytest.mark.parametrize("shape", [(3, 7), (3, 100), (2, 3000), (2, 7, 70), (2, 100, 70)], ids=name)
def test_the_gradient_keeps_its_digits_where_one_probability_is_close_to_1(shape, rng):
    """y (g - sum g y) of the first class is -1e-9 g of the others, which a float32 sum would lose."""
    y, g = np.zeros(shape, np.float32), logits(rng, shape)
    y[:, 0], y[:, 1] = 1, 1e-9
    expected = reference.softmax_backward(g, y, 1).astype(float)
    np.testing.assert_allclose(F.softmax_backward(g, y, 1, device="cpu"), expected, rtol=1e-5)


def test_an_infinite_upstream_gradient_stays_in_its_row(rng, device):
    y, g = F.softmax(logits(rng, (4, 9))), logits(rng, (4, 9))
    plain = F.softmax_backward(g, y, device=device)
    g[1, 2] = np.inf
    other = F.softmax_backward(g, y, device=device)
    assert_array_equal(other[[0, 2, 3]], plain[[0, 2, 3]])
    assert not np.isfinite(other[1]).any() and (np.delete(other[1], 2) == -np.inf).all()


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_the_gradient_is_the_derivative(dim, rng, device):
    x, g = logits(rng, (3, 4, 5), np.float64), logits(rng, (3, 4, 5), np.float64)
    grad = F.softmax_backward(g, F.softmax(x, dim, device=device), dim, device=device)
    v, h = rng.normal(size=x.shape), 1e-5
    slope = ((F.softmax(x + h * v, dim, device=device) - F.softmax(x - h * v, dim, device=device)) * g).sum() / (2 * h)
    np.testing.assert_allclose((grad * v).sum(), slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_the_logarithm_is_log_softmax(dtype, rng, device):
    x = logits(rng, (50, 33), dtype)
    logs = np.log(F.softmax(x, device=device).astype(float))
    logp = F.log_softmax(x, device=device).astype(float)
    np.testing.assert_allclose(logs, logp, atol=4 * eps(dtype) * (1 - logp.min()))


# ------------------------------ shapes, layouts, threads ------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3), (0, 0)], ids=name)
@pytest.mark.parametrize("dim", [0, -1])
def test_an_empty_array_gives_an_empty_array(shape, dim, dtype, device):
    x = np.zeros(shape, dtype)
    for result in (F.softmax(x, dim, device=device), F.softmax_backward(x, x, dim, device=device)):
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.parametrize("dim", [0, -1])
def test_a_scalar_is_a_distribution_over_one_class_as_in_torch(dim, device):
    y = F.softmax(np.float32(3.0), dim, device=device)
    assert y == 1 and type(y) is np.float32
    assert F.softmax_backward(2.0, y, dim, device=device) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (6, 7), (20, 65), (4, 5, 6), (2, 33, 3, 5), (3, 70, 66), (3, 10, 66)], ids=name)
def test_every_layout_gives_the_same_bits(shape, dtype, layout, rng, device):
    x, g, lay = logits(rng, shape, dtype), logits(rng, shape, dtype), LAYOUTS[layout]
    x.flat[::91] = 40  # confident rows
    for dim in {0, len(shape) - 1, min(1, len(shape) - 1)}:
        y = F.softmax(x, dim, device=device)
        same(F.softmax(lay(x), dim, device=device), y)
        grad = F.softmax_backward(g, y, dim, device=device)
        same(F.softmax_backward(lay(g), y, dim, device=device), grad)
        same(F.softmax_backward(g, lay(y), dim, device=device), grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(2, 1, 64), (1, 5, 127), (2, 21, 128), (2, 48, 9, 21), (5, 7, 16, 4), (3, 99, 70), (1, 600, 300)], ids=name
)
def test_channels_first_has_the_bits_of_rows(shape, dtype, rng):
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    x[:, :1].flat[::5], x.flat[::91] = 80, -np.inf
    rows, upstream = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, g))
    y, y_rows = F.softmax(x, 1), F.softmax(rows)
    same(y, np.moveaxis(y_rows, -1, 1))
    same(F.softmax_backward(g, y, 1), np.moveaxis(F.softmax_backward(upstream, y_rows), -1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(300, 200), (129, 1001), (70, 5000)], ids=name)
def test_transposed_rows_have_the_bits_of_rows_and_nothing_beside_them_is_written(shape, dtype, rng):
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    y = F.softmax(x)
    grad = F.softmax_backward(g, y)
    for start in (0, 3):
        around = np.full((shape[0] + 2) * shape[1] + 16, 7, dtype)
        first = shape[1] + start
        out = around[first : first + x.size].reshape(shape)
        same(F.softmax(np.asfortranarray(x), out=out), y)
        same(F.softmax_backward(np.asfortranarray(g), np.asfortranarray(y), out=out), grad)
        assert (around[:first] == 7).all() and (around[first + x.size :] == 7).all()


@pytest.fixture
def restored_threads():
    before = nbloss.get_num_threads()
    yield
    nbloss.set_num_threads(before)


@pytest.mark.parametrize("shape", [(3000, 100), (40000, 10), (5, 120_000), (4, 10, 90, 90)], ids=name)
def test_the_number_of_threads_does_not_change_the_bits(shape, rng, restored_threads):
    x, g, found = logits(rng, shape), logits(rng, shape), []
    for count in (1, 2):
        nbloss.set_num_threads(count)
        y = F.softmax(x, 1)
        found.append((y, F.softmax_backward(g, y, 1)))
    assert_array_equal(*(y for y, _ in found))
    assert_array_equal(*(grad for _, grad in found))


def test_a_large_result_that_bypasses_the_caches_has_the_bits_of_small_ones(rng):
    x = np.resize(logits(rng, (3, 50257)), (240, 50257))
    y, grad = F.softmax(x), F.softmax_backward(x, x)
    for k in range(0, 240, 3):
        assert_array_equal(y[k : k + 3], y[:3])
        assert_array_equal(grad[k : k + 3], grad[:3])
    assert_array_equal(y[:3], F.softmax(x[:3]))
    assert_array_equal(grad[:3], F.softmax_backward(x[:3], x[:3]))


# ------------------------------ out ------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9,), (5, 33), (5, 3), (2, 17, 9), (2, 3, 4, 5), (2, 3001), (1, 10, 70), (2, 110_000)], ids=name)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_out_is_filled_and_may_be_an_input_itself(shape, dim, dtype, rng, device):
    dim = min(dim, len(shape) - 1)
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    y, own, out = F.softmax(x, dim, device=device), x.copy(), np.full_like(x, 7)
    assert F.softmax(x, dim, out=out, device=device) is out
    assert F.softmax(own, dim, out=own, device=device) is own
    same(own, y)
    same(out, y)
    grad, own, out = F.softmax_backward(g, y, dim, device=device), y.copy(), np.full_like(x, 7)
    assert F.softmax_backward(g, y, dim, out=out, device=device) is out
    assert F.softmax_backward(g, own, dim, out=own, device=device) is own
    same(own, grad)
    same(out, grad)
    own = g.copy()
    assert F.softmax_backward(own, y, dim, out=own, device=device) is own
    same(own, grad)


# ------------------------------ dtype= ------------------------------


@pytest.mark.parametrize("asked", DTYPES)
@pytest.mark.parametrize("given", DTYPES)
def test_dtype_computes_and_returns_that_type(given, asked, rng, device):
    x = logits(rng, (5, 33), given)
    assert_softmax(F.softmax(x, dtype=asked, device=device), x.astype(asked), -1)


@BOTH
@pytest.mark.parametrize("asked", DTYPES)
@pytest.mark.parametrize("given", [*INTEGERS, np.dtype(bool)], ids=str)
def test_with_dtype_integers_and_bools_are_converted_first(function, given, asked, rng, device):
    x = rng.integers(0, 2 if given.kind == "b" else 100, (5, 33)).astype(given)
    for axis in (0, 1):
        same(function(x, axis, dtype=asked, device=device), function(x.astype(asked), axis, device=device))


@BOTH
def test_int64_beyond_float32_is_rounded_as_numpy_casts(function, device):
    x = np.array([[2**62 + 1, 2**62 - 3 * 2**38, 5]])
    assert_array_equal(function(x, dtype=np.float32, device=device), function(x.astype(np.float32), device=device))


@BOTH
def test_lists_of_integers_and_an_out_go_with_dtype(function, device):
    out = np.empty((2, 2), np.float64)
    assert function([[1, 2], [True, 5]], dtype="float64", out=out, device=device) is out
    assert_array_equal(out, function(np.array([[1.0, 2], [1, 5]]), device=device))


@BOTH
@pytest.mark.parametrize("x", [np.zeros((2, 3), int), np.zeros((2, 3), bool), [[1, 2, 3]]], ids=["int", "bool", "list"])
def test_without_dtype_the_error_says_what_to_do(function, x, device):
    with pytest.raises(
        TypeError, match=r"input should have dtype float16.*; got (int64|bool): use .*\.astype\(np\.float32\), or dtype=np\.float32$"
    ):
        function(x, device=device)


@BOTH
@pytest.mark.parametrize("dtype", [int, bool, complex, "U3", object], ids=str)
def test_dtype_is_one_of_the_four(function, dtype, device):
    with pytest.raises(TypeError, match="dtype should be float16"):
        function(np.zeros((2, 3), np.float32), dtype=dtype, device=device)


@BOTH
@pytest.mark.parametrize("x", [np.zeros(3, complex), np.array(["a"]), np.array([None])], ids=["complex", "text", "object"])
def test_with_dtype_other_types_are_a_type_error_still(function, x, device):
    with pytest.raises(TypeError, match="input should"):
        function(x, dtype=np.float32, device=device)


# ------------------------------ errors ------------------------------

X = np.zeros((2, 3), np.float32)


def test_errors_leave_out_alone(device):
    out = np.full((2, 3), 7, np.float32)
    for call, error, words in [
        (lambda: F.softmax(X.astype(int), out=out, device=device), TypeError, "input"),
        (lambda: F.softmax(X, 2, out=out, device=device), np.exceptions.AxisError, "axis 2"),
        (lambda: F.softmax(X, "0", out=out, device=device), TypeError, "dim"),
        (lambda: F.softmax(X, dtype=np.float64, out=out, device=device), ValueError, "out should have dtype float64"),
        (lambda: F.softmax(X[:1], out=out, device=device), ValueError, "out should have shape"),
        (lambda: F.softmax_backward(X[:1], X, out=out, device=device), ValueError, "grad_output should have shape"),
        (lambda: F.softmax_backward(X, X.astype(int), out=out, device=device), TypeError, "output"),
        (lambda: F.softmax(np.ma.masked_array(X), out=out, device=device), TypeError, "mask"),
    ]:
        with pytest.raises(error, match=words):
            call()
    assert (out == 7).all()


def test_an_out_that_overlaps_in_part_is_a_value_error(rng):
    raw = logits(rng, (40,))
    before, x, out = raw.copy(), raw[:20].reshape(4, 5), raw[3:23].reshape(4, 5)
    for call in (lambda: F.softmax(x, out=out), lambda: F.softmax_backward(np.ones_like(x), x, out=out)):
        with pytest.raises(ValueError, match="overlap"):
            call()
    assert_array_equal(raw, before)


def test_the_arguments_are_left_alone(rng, device):
    x, g = logits(rng, (5, 7)), logits(rng, (5, 7))
    x0, g0 = x.copy(), g.copy()
    y = F.softmax(x, device=device)
    y0 = y.copy()
    F.softmax_backward(g, y, device=device)
    for now, before in ((x, x0), (g, g0), (y, y0)):
        assert_array_equal(now, before)


def test_a_scalar_grad_output_is_the_same_for_every_element(rng, device):
    y = F.softmax(logits(rng, (5, 7)), device=device)
    assert_array_equal(F.softmax_backward(2.0, y, device=device), F.softmax_backward(np.full_like(y, 2), y, device=device))
