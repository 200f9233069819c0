"""Any strides, byte order and alignment give the bits of the C-order array; out= is filled in place, or not touched."""

import tracemalloc

import numpy as np
import pytest
from layouts import LAYOUTS, as_list
from numpy.testing import assert_array_equal
from problems import DTYPES, class_count, class_index, logits, name, probabilities, weights

import nbloss.functional as F

SHAPES = [(7,), (6, 7), (5, 65), (4, 5, 6), (2, 33, 3, 5)]


def results(x, target, weight, device):
    """Results of every public function on one problem, by name."""
    out = {"log_softmax": F.log_softmax(x, device=device), "log_softmax_0": F.log_softmax(x, 0, device=device)}
    out["log_softmax_backward"] = F.log_softmax_backward(x, out["log_softmax"], device=device)
    for reduction in ("mean", "none"):
        options = {"reduction": reduction, "device": device}
        out[f"cross_entropy {reduction}"] = F.cross_entropy(x, target, weight, **options)
        out[f"cross_entropy_backward {reduction}"] = F.cross_entropy_backward(1.0, x, target, weight, **options)
        loss, grad = F.cross_entropy_value_and_grad(x, target, weight, label_smoothing=0.1, **options)
        out[f"value {reduction}"], out[f"and_grad {reduction}"] = loss, grad
        out[f"nll_loss {reduction}"] = F.nll_loss(x, target, weight, **options)
        out[f"nll_loss_backward {reduction}"] = F.nll_loss_backward(1.0, x, target, weight, **options)
    return out


def assert_same(actual, expected):
    for key, value in expected.items():
        assert actual[key].dtype.newbyteorder("=") == value.dtype, key
        assert_array_equal(actual[key], value, err_msg=key)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_inputs_of_every_layout_give_the_same_bits(shape, dtype, layout, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, class_count(shape), dtype)
    lay = LAYOUTS[layout]
    assert_same(results(lay(x), y, w, device), results(x, y, w, device))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("integer", [np.int8, np.uint16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_targets_and_weights_of_every_layout_give_the_same_bits(shape, integer, layout, rng, device):
    x, y, w = logits(rng, shape), class_index(rng, shape, integer), weights(rng, class_count(shape))
    lay = LAYOUTS[layout]
    y_view = lay(y) if y.ndim else y
    assert_same(results(x, y_view, lay(w), device), results(x, y, w, device))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_probabilities_of_every_layout_give_the_same_bits(shape, layout, rng, device):
    x, y, w = logits(rng, shape), probabilities(rng, shape), weights(rng, class_count(shape))
    assert_same(results(x, LAYOUTS[layout](y), w, device), results(x, y, w, device))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_upstream_gradient_of_every_layout_gives_the_same_bits(layout, rng, device):
    x, y, g = logits(rng, (3, 9, 4, 5)), class_index(rng, (3, 9, 4, 5)), logits(rng, (3, 4, 5))
    view, whole = LAYOUTS[layout](g), logits(rng, (3, 9, 4, 5))
    for function in (F.cross_entropy_backward, F.nll_loss_backward):
        options = {"reduction": "none", "device": device}
        assert_array_equal(function(view, x, y, **options), function(g, x, y, **options))
    assert_array_equal(
        F.log_softmax_backward(LAYOUTS[layout](whole), x, 1, device=device),
        F.log_softmax_backward(whole, x, 1, device=device),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_lists_are_float64_arrays_and_int_targets(shape, rng, device):
    x, y, w = logits(rng, shape, np.float64), class_index(rng, shape), weights(rng, class_count(shape), np.float64)
    assert_same(results(as_list(x), as_list(y), as_list(w), device), results(x, y, w, device))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_broadcast_with_stride_0_are_read_as_if_repeated(axis, dtype, rng, device):
    shape = [4, 9, 5]
    shape[axis] = 1
    x = np.broadcast_to(logits(rng, tuple(shape), dtype), (4, 9, 5))
    y = np.broadcast_to(class_index(rng, (1, 9, 5)), (4, 5))
    w = np.broadcast_to(np.asarray(1.5, dtype), (9,))
    assert 0 in x.strides
    assert_same(results(x, y, w, device), results(x.copy(), y.copy(), w.copy(), device))


def test_a_broadcast_upstream_gradient_is_read_as_if_repeated(rng, device):
    """The upstream gradient that sum().backward() gives in every autograd: one number with stride 0."""
    x, y = logits(rng, (6, 9)), class_index(rng, (6, 9))
    g = np.broadcast_to(np.float32(0.5), (6,))
    grad = F.cross_entropy_backward(g, x, y, reduction="none", device=device)
    assert_array_equal(grad, F.cross_entropy_backward(g.copy(), x, y, reduction="none", device=device))


@pytest.mark.parametrize("layout", ["Fortran", "negative", "sliced", "transposed", "read_only"])
@pytest.mark.parametrize("shape", [(40000, 65), (40000, 10), (5000, 999)], ids=name)  # much larger than the blocks of all threads
def test_a_view_that_a_kernel_can_walk_is_not_copied(shape, layout, rng, device):
    x, y = LAYOUTS[layout](logits(rng, shape)), class_index(rng, shape)
    F.cross_entropy(x, y, device=device)
    tracemalloc.start()
    F.cross_entropy(x, y, device=device)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2


GRADIENTS = {
    "cross_entropy_backward": lambda x, y, **k: F.cross_entropy_backward(0.5, x, y, **k),
    "value_and_grad": lambda x, y, **k: F.cross_entropy_value_and_grad(x, y, **k)[1],
    "nll_loss_backward": lambda x, y, **k: F.nll_loss_backward(0.5, x, y, **k),
}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3001), (40, 3)], ids=name)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_out_is_filled_and_returned_and_may_be_the_input(shape, dtype, gradient, smoothing, rng, device):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    options = {"device": device} if gradient == "nll_loss_backward" else {"device": device, "label_smoothing": smoothing}
    plain = GRADIENTS[gradient](x, y, **options)
    out = np.full_like(x, 7)
    assert GRADIENTS[gradient](x, y, out=out, **options) is out
    assert_array_equal(out, plain)
    own = x.copy()
    assert GRADIENTS[gradient](own, y, out=own, **options) is own
    assert_array_equal(own, plain)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_ignored_rows_of_out_are_overwritten_with_zeros(gradient, rng, device):
    x, y = logits(rng, (3, 9, 4)), class_index(rng, (3, 9, 4))
    y[1, 2] = -100
    out = np.full_like(x, np.nan)
    GRADIENTS[gradient](x, y, out=out, device=device)
    assert (out[1, :, 2] == 0).all()
    assert np.isfinite(out).all()


ORDERS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "reversed": lambda x: x[::-1, ::-1],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(6, 9), (6, 90), (3, 5, 4, 2)], ids=name)
def test_results_are_fresh_arrays_whose_axes_have_the_order_of_the_inputs(shape, order, rng):
    """As NumPy's own functions: np.exp of a transposed array is transposed."""
    x, y = ORDERS[order](logits(rng, shape)), class_index(rng, shape)
    for result in (F.log_softmax(x, 1), F.softmax(x, 1), *(gradient(x, y) for gradient in GRADIENTS.values())):
        assert result.strides == np.exp(x).strides
        assert result.flags.writeable
        assert not np.shares_memory(result, x)
