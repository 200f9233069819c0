"""torch.nn.functional agrees: on our inputs, on PyTorch's own sample inputs, forward and gradient.

Where nbloss differs from torch on purpose, the contract's value is asserted (last part of the file):
an ignored row of nan, the digits of a confident row, a common offset of 1e8, half losses in float32, integer targets of every
width, label_smoothing outside [0, 1], ignore_index with probabilities, zero mass at a masked class.
"""

from itertools import product

import numpy as np
import pytest
import reference
from problems import REDUCTIONS, class_count, class_index, eps, logits, name, probabilities, weights, with_ignored

import nbloss
import nbloss.functional as F

torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
T = torch.nn.functional

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FLOATS = [np.float32, np.float64]
SHAPES = [(7,), (5, 7), (6, 65), (3, 4, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2)]


def close(actual, expected, dtype, size=1.0, note=""):
    """Both within a few roundings, of numbers of this size."""
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    assert np.shape(actual) == np.shape(expected), note
    np.testing.assert_allclose(actual, expected, rtol=32 * eps(dtype), atol=32 * eps(dtype) * size, err_msg=str(note))


def torch_gradient(function, x, *arguments, **options):
    """torch's value, and its gradient of the sum of the value times an upstream that is not constant."""
    leaf = torch.tensor(x, requires_grad=True)
    value = function(leaf, *arguments, **options)
    g = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    value.backward(g)
    return value, leaf.grad, g.numpy()


def torch_options(options):
    return options | {"reduction": options.get("reduction") or "none"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("op", ["cross_entropy", "nll_loss"])
def test_class_index_losses_agree_in_every_combination_of_options(op, shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    smoothings = [0.0, 0.1] if op == "cross_entropy" else [None]
    for ignored, weighted, reduction, smoothing in product([-100, 1, 50], [False, True], REDUCTIONS, smoothings):
        target, weight = with_ignored(rng, y, ignored), w if weighted else None
        options = {"ignore_index": ignored, "reduction": reduction} | ({} if smoothing is None else {"label_smoothing": smoothing})
        value, grad, g = torch_gradient(
            getattr(T, op),
            x,
            torch.tensor(target),
            None if weight is None else torch.tensor(weight),
            **torch_options(options),
        )
        if (target == ignored).all() and reduction == "mean":
            grad = torch.zeros_like(grad)  # torch: nan with smoothing, 0 without; the contract: 0
        close(getattr(F, op)(x, target, weight, **options), value, dtype, 10, options)
        close(getattr(F, op + "_backward")(g, x, target, weight, **options), grad, dtype, 2, options)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_probability_losses_agree_in_every_combination_of_options(shape, dtype, rng):
    x, y, w = logits(rng, shape, dtype), probabilities(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    for weighted, reduction, smoothing in product([False, True], REDUCTIONS, [0.0, 0.1, 1.0]):
        weight, options = w if weighted else None, {"reduction": reduction, "label_smoothing": smoothing}
        value, grad, g = torch_gradient(
            T.cross_entropy,
            x,
            torch.tensor(y),
            None if weight is None else torch.tensor(weight),
            **torch_options(options),
        )
        close(F.cross_entropy(x, y, weight, **options), value, dtype, 10, options)
        close(F.cross_entropy_backward(g, x, y, weight, **options), grad, dtype, 2, options)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "dim"), [(s, d) for s in SHAPES for d in range(-len(s), len(s))], ids=name)
def test_log_softmax_agrees_on_every_axis(shape, dim, dtype, rng):
    x = logits(rng, shape, dtype)
    value, grad, g = torch_gradient(T.log_softmax, x, dim)
    y = F.log_softmax(x, dim)
    close(y, value, dtype, 10)
    close(F.log_softmax_backward(g, y, dim), grad, dtype, x.shape[dim])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "dim"), [(s, d) for s in SHAPES for d in range(-len(s), len(s))], ids=name)
def test_softmax_agrees_on_every_axis(shape, dim, dtype, rng):
    x = logits(rng, shape, dtype)
    value, grad, g = torch_gradient(T.softmax, x, dim)
    y = F.softmax(x, dim)
    close(y, value, dtype, 10)
    close(F.softmax_backward(g, y, dim), grad, dtype, x.shape[dim])


@pytest.mark.parametrize("op", ["log_softmax", "softmax"])
@pytest.mark.parametrize("given", [torch.int64, torch.int32, torch.uint8, torch.bool], ids=str)
@pytest.mark.parametrize("asked", [torch.float32, torch.float64], ids=str)
def test_integers_and_bools_with_a_dtype_give_what_torch_gives(op, given, asked, rng):
    x = torch.tensor(rng.integers(0, 2 if given == torch.bool else 20, (5, 7))).to(given)
    dtype = np.dtype(str(asked).removeprefix("torch."))
    close(getattr(F, op)(x.numpy(), 1, dtype=dtype), getattr(T, op)(x, 1, dtype=asked), dtype, 10)


@pytest.mark.parametrize("legacy", list(product([None, True, False], repeat=2)), ids=str)
def test_legacy_keywords_map_as_torch_s_do(legacy):
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        quiet.filter(DeprecationWarning)
        for ours, theirs in ((nbloss.NLLLoss, torch.nn.NLLLoss), (nbloss.CrossEntropyLoss, torch.nn.CrossEntropyLoss)):
            options = dict(zip(("size_average", "reduce"), legacy, strict=True))
            assert ours(**options).reduction == theirs(**options).reduction


# ---- PyTorch's own sample inputs -------------------------------------------------------------------------------------

SAMPLED = {"log_softmax": 14, "softmax": 14, "nn.functional.nll_loss": 61, "nn.functional.cross_entropy": 21}


def samples(op_name, dtype):
    """What PyTorch's own test suite feeds this operator (all its variants)."""
    methods = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations", reason="PyTorch's op database needs its test dependencies"
    )
    return [
        sample
        for op in methods.op_db if op.name == op_name
        for sample in op.sample_inputs_func(op, "cpu", dtype, True)
    ]  # fmt: skip


def numpied(value):
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("op_name", SAMPLED)
def test_pytorch_s_own_samples_give_its_values_and_gradients(op_name, dtype):
    short, cases = op_name.split(".")[-1], samples(op_name, dtype)
    assert len(cases) >= SAMPLED[op_name], "the op database gives fewer samples than PyTorch 2.13 did"
    for number, sample in enumerate(cases):
        note = (number, tuple(sample.input.shape), sample.args[1:], sample.kwargs)
        leaf = sample.input.detach().clone().requires_grad_()
        value = getattr(T, short)(leaf, *sample.args, **sample.kwargs)
        g = torch.ones_like(value)
        value.backward(g)
        x, arguments = numpied(sample.input), [numpied(a) for a in sample.args]
        options = {k: numpied(v) for k, v in sample.kwargs.items()}
        tolerance = x.dtype if not short.endswith("softmax") else min(x.dtype, numpied(value).dtype, key=lambda d: d.itemsize)
        actual = getattr(F, short)(x, *arguments, **options)
        close(actual, value, tolerance, 10, note)
        if short.endswith("softmax"):
            grad = getattr(F, short + "_backward")(g.numpy(), actual, arguments[0])
        else:
            grad = getattr(F, short + "_backward")(g.numpy(), x, *arguments, **options)
        expected = leaf.grad
        if arguments and np.issubdtype(arguments[0].dtype if not short.endswith("softmax") else float, np.integer):
            ignored = np.expand_dims(arguments[0] == options.get("ignore_index", -100), 0 if x.ndim == 1 else 1)
            expected = np.where(ignored, 0, expected.numpy())  # torch: nan where every row is ignored and smoothed
        close(grad, expected, tolerance, 4, note)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_rows_of_no_weight_that_count_by_their_smoothing_give_what_torch_gives(reduction, rng):
    x, y, w = rng.normal(size=(4, 3)), np.zeros(4, int), np.array([0.0, 1.0, 2.0])
    options = {"label_smoothing": 0.1, "reduction": reduction}
    loss, grad, g = torch_gradient(T.cross_entropy, x, torch.tensor(y), weight=torch.tensor(w), **options)
    close(F.cross_entropy(x, y, w, **options), loss, np.float64)
    close(F.cross_entropy_backward(g, x, y, w, **options), grad, np.float64)


# ---- where the contract differs from torch --------------------------------------------------------------------------


def test_an_ignored_row_of_nan_has_gradient_0_where_torch_has_nan():
    x, y = np.float32([[1, 2], [np.nan, 0]]), np.array([0, -100])
    _, grad, _ = torch_gradient(T.cross_entropy, x, torch.tensor(y))
    assert torch.isnan(grad[1]).any()
    assert (F.cross_entropy_backward(1.0, x, y)[1] == 0).all()


def test_a_confident_row_keeps_its_digits_where_torch_has_0():
    x, y = np.float32([[20, 0, 0]]), np.array([0])
    assert T.cross_entropy(torch.tensor(x), torch.tensor(y)) == 0
    np.testing.assert_allclose(F.cross_entropy(x, y), reference.exact_rows(x, y)[1][0], rtol=4 * eps(np.float32))


def test_two_logits_of_1e8_differ_by_the_log_of_2():
    np.testing.assert_allclose(F.cross_entropy(np.float32([[1e8, 1e8]]), [0]), np.log(2), rtol=4 * eps(np.float32))


def test_half_losses_are_float32_where_torch_s_are_half():
    x, y = np.float16([[1, 2, 3]]), np.array([0])
    assert T.cross_entropy(torch.tensor(x), torch.tensor(y)).dtype == torch.float16
    assert F.cross_entropy(x, y).dtype == np.float32


def test_int16_targets_are_classes_where_torch_refuses_them(rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7), np.int16)
    with pytest.raises(RuntimeError):
        T.cross_entropy(torch.tensor(x), torch.tensor(y))
    assert F.cross_entropy(x, y) == F.cross_entropy(x, y.astype(np.int64))


@pytest.mark.parametrize("smoothing", [-0.1, -3.0])
def test_a_negative_label_smoothing_is_refused_where_torch_takes_it(smoothing):
    x, y = np.float32([[1, 2, 3]]), np.array([0])
    assert torch.isfinite(T.cross_entropy(torch.tensor(x), torch.tensor(y), label_smoothing=smoothing))
    with pytest.raises(ValueError, match="label_smoothing"):
        F.cross_entropy(x, y, label_smoothing=smoothing)


def test_no_mass_at_a_masked_class_costs_nothing_where_torch_has_nan():
    x, y = np.float32([[0, -np.inf]]), np.float32([[1, 0]])
    assert torch.isnan(T.cross_entropy(torch.tensor(x), torch.tensor(y)))
    assert F.cross_entropy(x, y) == 0
