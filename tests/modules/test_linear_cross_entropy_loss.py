"""`LinearCrossEntropyLoss`: the functional form with a layer and options as attributes, and torch's names."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nbloss
import nbloss.functional as F

OPTIONS = {
    "weight": np.linspace(0.5, 1.5, 5),
    "reduction": "sum",
    "ignore_index": 3,
    "label_smoothing": 0.1,
    "lse_square_scale": 0.01,
    "softcap": 20.0,
    "logit_scale": 0.5,
    "empty": "zero",
    "max_memory": 1,
}


@pytest.fixture
def arrays(rng):
    x, y = rng.standard_normal((7, 3), dtype=np.float32), rng.integers(0, 5, 7)
    return x, y, rng.random(7)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_it_computes_what_the_functions_compute(options, bias, arrays):
    x, y, sample_weight = arrays
    module = nbloss.LinearCrossEntropyLoss(3, 5, bias=bias, rng=1, **options)
    given = options | {"linear_bias": module.linear_bias, "sample_weight": sample_weight}
    want = F.linear_cross_entropy_value_and_grad(x, module.linear_weight, y, **given, grad_output=2.0)
    assert module(x, y, sample_weight=sample_weight) == want.loss
    assert_array_equal(module.backward(2.0), want.input)
    for compute in (lambda: None, lambda: module.value_and_grad(x, y, sample_weight=sample_weight, grad_output=2.0)):
        again = compute()
        assert_array_equal(module.grad_weight, want.linear_weight)
        assert_array_equal(module.grad_bias, want.linear_bias)
    assert_array_equal(again.input, want.input)
    module.reduction = "none"
    assert module(x, y).shape == (7,) and module.backward(np.ones(7)).shape == x.shape


def test_a_divisor_of_a_call_is_that_of_its_backward(arrays):
    x, y, _ = arrays
    module = nbloss.LinearCrossEntropyLoss(3, 5, rng=1)
    assert module(x, y, divisor=14.0) == pytest.approx(module(x, y) / 2)
    whole = module.backward()
    module(x, y, divisor=14.0)
    np.testing.assert_allclose(module.backward(), whole / 2, rtol=1e-5)


def test_a_weight_is_kept_by_reference(arrays):
    x, y, _ = arrays
    embedding = np.ones((5, 3), np.float32)
    module = nbloss.LinearCrossEntropyLoss(3, 5)
    module.linear_weight = embedding
    before = module(x, y)
    embedding[2] = 7
    assert module.linear_weight is embedding and module(x, y) != before
    model = copy.deepcopy({"embedding": embedding, "loss": module})
    assert model["loss"].linear_weight is model["embedding"] is not embedding


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_the_layer_and_the_options_and_no_gradients(duplicate, arrays):
    x, y, _ = arrays
    module = nbloss.LinearCrossEntropyLoss(3, 5, bias=True, **OPTIONS)
    module.value_and_grad(x, y)
    loss = module(x, y)
    other = duplicate(module)
    assert other.grad_weight is None and other.grad_bias is None
    with pytest.raises(RuntimeError, match="needs a forward first"):
        other.backward()
    assert other(x, y) == loss and repr(other) == repr(module)


def test_first_weights_are_uniform_and_those_of_the_generator():
    module = nbloss.LinearCrossEntropyLoss(100, 1000, bias=True, rng=np.random.default_rng(3))
    for array, shape in ((module.linear_weight, (1000, 100)), (module.linear_bias, (1000,))):
        assert array.shape == shape and array.dtype == np.float32
        assert 0.095 < np.abs(array).max() <= 0.1 and abs(array.std() - 0.1 / 3**0.5) < 0.003 and abs(array.mean()) < 0.006
    assert_array_equal(nbloss.LinearCrossEntropyLoss(100, 1000, bias=True, rng=3).linear_weight, module.linear_weight)
    assert nbloss.LinearCrossEntropyLoss(2, 5, out_features=(4, 3), dtype=np.float16).linear_weight.shape == (5, 4, 3, 2)
    assert nbloss.LinearCrossEntropyLoss(2, 5, dtype=np.float16).linear_weight.dtype == np.float16
    assert not (nbloss.LinearCrossEntropyLoss(9, 9).linear_weight == nbloss.LinearCrossEntropyLoss(9, 9).linear_weight).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "reduction should be one of"),
        ({"label_smoothing": 2}, "label_smoothing should be in"),
        ({"max_memory": -1}, "max_memory should be a positive number of bytes"),
        ({"divisor": 3.0, "reduction": "sum"}, "divisor should be None unless"),
        ({"dtype": int}, "dtype should be float16"),
        ({"ignore_index": 1.5}, "ignore_index should be an integer"),
        ({"softcap": 0.0}, "softcap should be None or a positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        nbloss.LinearCrossEntropyLoss(3, 5, **options)


def test_repr_and_gradients_are_those_of_torch(arrays):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.nn, "LinearCrossEntropyLoss"):
        pytest.skip("this torch has no LinearCrossEntropyLoss")
    x, y, _ = arrays
    options = {"reduction": "sum", "label_smoothing": 0.1, "ignore_index": 3}
    theirs = torch.nn.LinearCrossEntropyLoss(3, 5, bias=True, **options)
    ours = nbloss.LinearCrossEntropyLoss(3, 5, bias=True, **options)
    assert f"({ours.extra_repr()}, options=None)" in f"({theirs.extra_repr()})"
    ours.linear_weight, ours.linear_bias = theirs.linear.weight.detach().numpy(), theirs.linear.bias.detach().numpy()
    leaf = torch.tensor(x, requires_grad=True)
    loss = theirs(leaf, torch.tensor(y))
    loss.backward()
    np.testing.assert_allclose(ours(x, y), loss.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(ours.backward(), leaf.grad.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours.grad_weight, theirs.linear.weight.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.grad_bias, theirs.linear.bias.grad.numpy(), rtol=1e-4, atol=1e-5)
