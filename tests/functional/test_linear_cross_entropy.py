"""`linear_cross_entropy` against the formula in wide floats, and its laws: chunks, rows that do not count, subnormals, statistics."""

import os
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal

import nbloss._linear
import nbloss._linear_gradients
import nbloss.functional as F

# Frobenius errors of (input, linear_weight, linear_bias) relative to the gradient, and of the loss relative to the largest loss.
LIMITS = {np.dtype(np.float32): 2e-7, np.dtype(np.float64): 1e-15, np.dtype(np.float16): 6e-4, np.dtype(ml_dtypes.bfloat16): 5e-3}
NAMES = "input", "linear_weight", "linear_bias"


def oracle(x, w, y, bias=None, grad_output=1.0, **options):
    """``(loss, gradients of input, weight, bias)`` in wide floats, where the rows of x that are nan do not count."""
    wide = [np.asarray(a).astype(reference.WIDE) for a in (np.where(np.isnan(x), 0, x), w)]
    z = np.tensordot(wide[0], wide[1], ([-1], [-1]))
    z = z if bias is None else z + np.asarray(bias).astype(reference.WIDE)
    g = reference.cross_entropy_backward(grad_output, z, y, **options)
    loss = reference.cross_entropy(z, y, **options)
    rows = g.reshape(-1, *w.shape[:-1])
    of_input = np.tensordot(g, wide[1], w.ndim - 1)
    of_weight = np.tensordot(rows, wide[0].reshape(len(rows), -1), ([0], [0]))
    return loss, of_input, of_weight, rows.sum(axis=0)


def error(got, wanted):
    size = np.linalg.norm(np.asarray(wanted, np.float64).ravel())
    return np.linalg.norm((np.asarray(got).astype(reference.WIDE) - wanted).astype(np.float64).ravel()) / max(size, 1e-300)


def check(result, wanted, limit):
    for name, got, want in zip(("loss", *NAMES), result, wanted, strict=True):
        if got is not None:
            assert np.shape(got) == np.shape(want), name
            assert error(got, want) <= limit, name


def layer(rng, dtype, n=23, c=37, d=12, more=(), scale=1.0):
    """Features, weight, bias and targets whose rows 2 and 5 and last position are ignored; the features of ignored rows are nan."""
    x = rng.standard_normal((n, d)).astype(dtype)
    w = (scale * rng.standard_normal((c, *more, d)) / d**0.5).astype(dtype)
    y = rng.integers(0, c, (n, *more))
    y[[2, 5]] = -100
    y.flat[-1] = -100
    x[[2, 5]] = np.nan
    if not more:
        x[-1] = np.nan
    return x, w, rng.standard_normal((c, *more)).astype(dtype), y


OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none", "grad_output": "rows"},
    "weight": {"weight": "classes"},
    "smoothing": {"label_smoothing": 0.1, "weight": "classes"},
    "only smoothing": {"label_smoothing": 1.0},
    "z-loss": {"lse_square_scale": 0.01},
    "softcap": {"softcap": 3.0, "logit_scale": 0.5},
    "sample_weight": {"sample_weight": "rows", "divisor": 7.5},
    "all": {
        "label_smoothing": 0.2, "weight": "classes", "lse_square_scale": 0.01, "softcap": 5.0, "sample_weight": "rows", "grad_output": -3.0,
    },
}  # fmt: skip


def filled(options, rng, classes, rows):
    """The options with arrays of these shapes."""
    arrays = {"classes": lambda: rng.random(classes) + 0.5, "rows": lambda: rng.random(rows) + 0.5}
    return {name: arrays[value]() if value in arrays else value for name, value in options.items() if name != "reduction"} | (
        {"reduction": options["reduction"]} if "reduction" in options else {}
    )


@pytest.mark.parametrize("more", [(), (3,), (2, 2)])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_class_numbers_agree_with_the_formula(dtype, options, more, rng):
    x, w, bias, y = layer(rng, dtype, more=more)
    given = filled(OPTIONS[options], rng, w.shape[0], y.shape)
    limit = LIMITS[dtype] * (2 if "z-loss" in options or options == "all" or "softcap" in options else 1)
    for b in (bias, None):
        wanted = oracle(x, w, y, b, **given)
        for max_memory in (2**27, 1):
            result = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=b, max_memory=max_memory, **given)
            check(result, wanted, limit)
            assert result.input.dtype == result.linear_weight.dtype == dtype and (b is None) == (result.linear_bias is None)
        loss_alone = {name: value for name, value in given.items() if name != "grad_output"}
        assert_array_equal(F.linear_cross_entropy(x, w, y, linear_bias=b, max_memory=1, **loss_alone), result.loss)
        if dtype == np.float32:
            backward = F.linear_cross_entropy_backward(given.get("grad_output", 1.0), x, w, y, linear_bias=b, max_memory=1, **loss_alone)
            for got, want in zip(backward, result[1:], strict=True):
                assert_array_equal(got, want)


@pytest.mark.parametrize("more", [(), (2, 2)])
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "only smoothing"])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_probabilities_agree_with_the_formula(dtype, options, more, rng):
    """The targets' terms go through the products, so errors are twice as large."""
    x, w, bias, y = layer(rng, dtype, more=more)
    x = np.where(np.isnan(x), dtype.type(0), x)
    q = rng.random((len(x), *w.shape[:-1])).astype(np.float32)
    q /= q.sum(axis=1, keepdims=True)
    given = filled(OPTIONS[options], rng, w.shape[0], y.shape)
    if "sample_weight" in given:
        given["sample_weight"][[0, 3]] = 0
        x[0] = np.nan
    wanted = oracle(x, w, q, bias, **given)
    for max_memory in (2**27, 1):
        check(F.linear_cross_entropy_value_and_grad(x, w, q, linear_bias=bias, max_memory=max_memory, **given), wanted, 2 * LIMITS[dtype])


@pytest.mark.parametrize(("n", "c", "d"), [(512, 8192, 64), (256, 2049, 256), (1024, 1000, 16)])
def test_errors_of_the_gradients_are_at_most_2e_7(n, c, d, rng):
    x, w = rng.standard_normal((n, d), dtype=np.float32), (2 / d**0.5 * rng.standard_normal((c, d))).astype(np.float32)
    y = rng.integers(0, c, n)
    z = x.astype(np.float64) @ w.T.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(n), y] -= 1
    result = F.linear_cross_entropy_value_and_grad(x, w, y)
    assert error(result.input, p @ w / n) <= 2e-7
    assert error(result.linear_weight, p.T @ x / n) <= 2e-7


def test_an_unbatched_input_is_a_row(rng):
    x, w, bias, _ = layer(rng, np.float32)
    one = F.linear_cross_entropy_value_and_grad(x[0], w, 3, linear_bias=bias)
    check(one, oracle(x[0], w, np.array(3), bias), 2e-7)
    q = np.full(len(w), 1 / len(w), np.float32)
    check(F.linear_cross_entropy_value_and_grad(x[0], w, q), oracle(x[0], w, q), 4e-7)
    assert F.linear_cross_entropy(x[0], w, -100, reduction="none") == 0


@pytest.mark.parametrize("more", [(), (3,)])
def test_every_number_of_rows_in_a_chunk_gives_nearly_the_same(more, rng, monkeypatch):
    x, w, bias, y = layer(rng, np.float32, n=19, more=more)
    whole = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias)
    sizes = set()
    monkeypatch.setattr(nbloss._linear, "FULL_BYTES", 1)
    for rows in range(1, 20):
        monkeypatch.setattr(nbloss._linear, "MIN_ROWS", rows)
        calls = spied(monkeypatch)
        part = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias)
        sizes |= {len(a) for a, b, _ in calls if b.shape == (x.shape[1], bias.size)}
        for got, want in zip(part, whole, strict=True):
            assert error(got, np.asarray(want, reference.WIDE)) <= 4e-7
    assert 1 not in sizes and {2, 3, 8, max(sizes)} <= sizes, "no chunk has one row"


def spied(monkeypatch):
    """A list that gets the operands and the result of every product that the package computes from here on."""
    calls = []

    def spy(a, b, out=None):
        calls.append((a.copy(), b.copy(), np.matmul(a, b, out=out).copy()))
        return calls[-1][-1] if out is None else out

    class Spied:
        def __getattr__(self, name):
            return spy if name == "matmul" else getattr(np, name)

    for module in (nbloss._linear, nbloss._linear_gradients):
        monkeypatch.setattr(module, "np", Spied())
    return calls


@pytest.mark.parametrize("c", [2047, 2048, 2049, 4097])
@pytest.mark.parametrize("n", [4, 5, 7])
def test_classes_around_the_tiles(n, c, rng):
    x, w, bias, y = rng.standard_normal((n, 8)), rng.standard_normal((c, 8)) / 8, rng.standard_normal(c), rng.integers(0, c, n)
    y[:2] = c - 1
    check(F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=1), oracle(x, w, y, bias), 1e-15)


@pytest.mark.parametrize("wrt", [(), ("input",), ("linear_weight",), "linear_bias", NAMES])
def test_products_of_gradients_that_are_not_asked_for_are_not_computed(wrt, rng, monkeypatch):
    x, w, bias, y = layer(rng, np.float32)
    calls = spied(monkeypatch)
    result = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, wrt=wrt)
    wrt = [wrt] if isinstance(wrt, str) else wrt
    assert len(calls) == 1 + len(wrt)
    assert [name for name in NAMES if getattr(result, name) is not None] == [name for name in NAMES if name in wrt]
    assert all(len(a) <= len(x) - 3 for a, b, _ in calls if b.shape == w.T.shape), "rows that do not count are in no product"


@pytest.mark.parametrize("y", [np.full(5, -100), np.empty(0, np.int64)], ids=["all ignored", "no row"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_without_a_row_that_counts_there_is_no_product(y, dtype, rng, monkeypatch):
    x, w, bias = np.full((len(y), 3), np.nan, dtype), np.ones((4, 3), dtype), np.ones(4, dtype)
    calls = spied(monkeypatch)
    result = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias)
    assert np.isnan(result.loss) and not calls
    for got, like in zip(result[1:], (x, w, bias), strict=True):
        assert_array_equal(got, np.zeros_like(like))
    assert F.linear_cross_entropy(x, w, y, empty="zero") == 0 == F.linear_cross_entropy(x, w, y, reduction="sum")
    out = np.full_like(x, 1), np.full_like(w, 2), np.full_like(bias, 3)
    F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, out=out, accumulate=True)
    assert [set(a.ravel().tolist()) for a in out] == [{1} if len(y) else set(), {2}, {3}]


def test_a_weight_without_positions_gives_no_losses(rng):
    x, y = rng.standard_normal((6, 3)), np.empty((6, 0), int)
    result = F.linear_cross_entropy_value_and_grad(x, np.empty((5, 0, 3)), y, reduction="none")
    assert result.loss.shape == (6, 0) and not result.input.any() and result.linear_weight.shape == (5, 0, 3)


def test_no_features_leave_the_bias(rng):
    bias, y = rng.standard_normal(5), rng.integers(0, 5, 7)
    result = F.linear_cross_entropy_value_and_grad(np.empty((7, 0)), np.empty((5, 0)), y, linear_bias=bias)
    check(result, oracle(np.empty((7, 0)), np.empty((5, 0)), y, bias), 1e-15)


def test_a_row_that_counts_and_has_nan_reaches_the_whole_weight_and_no_other_row(rng):
    x, w, bias, y = layer(rng, np.float32)
    x[0] = np.nan
    result = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, reduction="none")
    assert_array_equal(np.isnan(result.loss), np.arange(len(x)) == 0)
    assert_array_equal(np.isnan(result.input).any(axis=1), np.arange(len(x)) == 0)
    assert np.isnan(result.linear_weight).all()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"sample_weight": True}])
def test_rows_that_do_not_count_change_no_bit(options, rng):
    x, w, bias, y = layer(rng, np.float32)
    counts = y != -100
    if options.get("sample_weight"):
        own = rng.random(len(y))
        own[[1, 4]] = 0
        x[1], counts[[1, 4]] = np.inf, False
        options = {"sample_weight": own}
    for value in (np.nan, 1e30, 0):
        x[~counts] = value
        got = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, **options)
        part = {name: value[counts] if np.ndim(value) else value for name, value in options.items()}
        alone = F.linear_cross_entropy_value_and_grad(x[counts], w, y[counts], linear_bias=bias, **part)
        assert got.loss == alone.loss
        for name in NAMES[1:]:
            assert_array_equal(getattr(got, name), getattr(alone, name))
        assert_array_equal(got.input[counts], alone.input)
        assert_array_equal(got.input[~counts], 0)


def test_a_bias_of_minus_infinity_masks_a_class(rng):
    x, w, bias, y = layer(rng, np.float32)
    y[y == 7] = 8
    bias[7] = -np.inf
    masked = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias)
    rest = np.arange(len(w)) != 7
    check(masked, oracle(x, w, y, np.where(rest, bias, -1e6)), 2e-7)
    assert not masked.linear_weight[7].any() and masked.linear_bias[7] == 0
    bias[3] = np.inf
    assert np.isnan(F.linear_cross_entropy(x, w, y, linear_bias=bias)) == np.isnan(
        F.cross_entropy(np.where(np.isnan(x), 0, x) @ w.T + bias, y)
    )


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="NumPy's exponentials may be of any size")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{}, {"softcap": 200.0}, {"logit_scale": 1.03}, {"sample_weight": True}, {"grad_output": 1e-20}, {"tiny": True}]
)
def test_no_product_has_a_subnormal_operand_or_result(dtype, options, monkeypatch, rng):
    """One class is ahead of the others by gaps whose exponentials, or their part of a mean, are subnormal numbers."""
    n, c, d = 64, 300, 4
    first, last = (80, 112) if dtype == np.float32 else (690, 760)
    x, w = np.zeros((n, d), dtype), np.zeros((c, d), dtype)
    x[:, 0], w[7, 0] = np.linspace(first, last, n) / 100, 100
    x[:, 1:], y = rng.standard_normal((n, d - 1)) / 100, rng.integers(0, c, n)
    w[:, 1:] = rng.standard_normal((c, d - 1))
    given = dict(options)
    if given.pop("sample_weight", False):
        given["sample_weight"] = 10.0 ** -rng.integers(0, 9, n)
    if given.pop("tiny", False):
        x, w = x * dtype(1e-15), w * dtype(1e15)
    wanted = oracle(x, w, y, **given)
    calls = spied(monkeypatch)
    gradients = F.linear_cross_entropy_value_and_grad(x, w, y, max_memory=1, **given)
    tiny = np.finfo(dtype).tiny
    assert len(calls) > n, "a few rows at a time"
    for *operands, result in calls:
        for a in (*operands, result) if not options else operands:
            assert not ((a != 0) & (np.abs(a) < tiny)).any()
    check(gradients, wanted, 1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("size", [1e30, 1e-30, -1e10, 0.0])
@pytest.mark.parametrize("of_features", [1.0, 1e-15, 1e8])
def test_gradients_of_any_size_keep_their_digits(size, of_features, rng):
    x, w, bias, y = layer(rng, np.float32)
    x *= np.float32(of_features)
    w /= np.float32(of_features)
    result = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, grad_output=size)
    wanted = oracle(x, w, y, bias, grad_output=size)
    for name, got, want in zip(NAMES, result[1:], wanted[1:], strict=True):
        largest = np.abs(want).max()
        if size == 0:
            assert not got.any()
        elif 1e-30 < largest < 1e38:
            assert error(got, want) <= 2e-7, name


def test_a_half_gradient_that_is_too_large_is_infinite(rng):
    x, w, _, y = layer(rng, np.float16)
    result = F.linear_cross_entropy_value_and_grad(x, w, y, grad_output=1e9)
    assert np.isinf(result.linear_weight).any() and np.isfinite(result.loss)


LAYOUTS = {
    "transposed": lambda a: np.asfortranarray(a),
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=1)[::2, ::2],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: np.frombuffer(b"." + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "a list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout_are_taken(layout, rng):
    x, w, bias, y = layer(rng, np.float64)
    wanted = oracle(x, w, y, bias)
    of = LAYOUTS[layout]
    check(F.linear_cross_entropy_value_and_grad(of(x), of(w), y, linear_bias=bias[::-1].copy()[::-1]), wanted, 1e-15)
    q = np.where(y[:, None] == np.arange(len(w)), 1.0, 0.0)
    q[y == -100, 0] = 1
    x = np.where(np.isnan(x), 0, x)
    check(F.linear_cross_entropy_value_and_grad(of(x), of(w), of(q)), oracle(x, w, q), 1e-15)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("layout", ["C order", "Fortran order", "reversed", "gaps"])
def test_out_and_accumulate_write_arrays_of_any_strides(layout, dtype, rng):
    views = {
        "C order": lambda a: a,
        "Fortran order": np.asfortranarray,
        "reversed": lambda a: a[::-1].copy()[::-1],
        "gaps": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    }
    x, w, bias, y = layer(rng, dtype, more=(2,))
    plain = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=1)
    out = tuple(views[layout](np.full(a.shape, 7, dtype)) for a in (x, w, bias))
    result = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=1, out=out)
    for got, mine, want in zip(result[1:], out, plain[1:], strict=True):
        assert got is mine
        assert_array_equal(got, want)
    F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=1, out=out, accumulate=True)
    for got, want in zip(out, plain[1:], strict=True):
        assert error(got, 2 * want.astype(reference.WIDE)) <= LIMITS[dtype]


def test_micro_batches_add_up_to_the_whole(rng):
    x, w, bias, y = layer(rng, np.float32, n=40)
    whole = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias)
    out, divisor, loss = (np.zeros_like(x), np.zeros_like(w), np.zeros_like(bias)), float((y != -100).sum()), 0.0
    for start in range(0, 40, 8):
        rows = slice(start, start + 8)
        loss += F.linear_cross_entropy_value_and_grad(
            x[rows], w, y[rows], linear_bias=bias, divisor=divisor, out=(out[0][rows], *out[1:]), accumulate=True
        ).loss
    assert abs(loss - whole.loss) < 1e-6
    for got, want in zip(out, whole[1:], strict=True):
        assert error(got, np.asarray(want, reference.WIDE)) <= 4e-7


@pytest.mark.parametrize("more", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_statistics_are_those_of_the_logits(dtype, more, rng):
    x, w, bias, y = layer(rng, dtype, more=more)
    kind = np.float64 if dtype == np.float64 else np.float32
    dtypes = {"lse": kind, "log_prob": kind, "argmax": np.int64, "correct": np.bool_, "entropy": kind}
    stats = {name: np.full((*y.shape, 2), 9, of)[..., 0] for name, of in dtypes.items()}
    loss = F.linear_cross_entropy(x, w, y, linear_bias=bias, stats=stats, softcap=9.0, label_smoothing=0.1, max_memory=1)
    assert loss == F.linear_cross_entropy(x, w, y, linear_bias=bias, softcap=9.0, label_smoothing=0.1, max_memory=1)
    z = np.tensordot(np.where(np.isnan(x), 0, x).astype(kind), w.astype(kind), ([-1], [-1])) + bias
    for name, want in zip(dtypes, reference.stats(z, y), strict=True):
        want = np.where(y == -100, {"argmax": -1}.get(name, 0), want)
        np.testing.assert_allclose(stats[name].astype(np.float64), want.astype(np.float64), rtol=2e-5, atol=2e-6, err_msg=name)
    some = {"lse": np.empty(y.shape, kind)}
    F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, stats=some, wrt=())
    np.testing.assert_allclose(some["lse"], stats["lse"], rtol=1e-5)


def test_statistics_with_probabilities_and_an_unbatched_input(rng):
    x, w, _, _ = layer(rng, np.float32)
    stats = {"lse": np.empty((), np.float32), "argmax": np.empty((), np.int64)}
    F.linear_cross_entropy(x[0], w, np.full(len(w), 1 / len(w), np.float32), stats=stats)
    assert stats["argmax"] == (w @ x[0]).argmax() and abs(stats["lse"] - np.log(np.exp(w @ x[0]).sum())) < 1e-5


def test_the_same_call_gives_the_same_bits(rng):
    x, w, bias, y = layer(rng, np.float32, n=300, c=2500, d=32)
    first = F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=10**6)
    for _ in range(3):
        for got, want in zip(F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=10**6), first, strict=True):
            assert_array_equal(got, want)


def test_the_code_of_the_page_runs():
    text = (Path(__file__).parents[2] / "docs" / "linear.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["loss"] == names["alone"] == names["value"]
    assert_array_equal(names["of_hidden"].shape, (300, 64))
