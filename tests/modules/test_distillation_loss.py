"""`DistillationLoss` is the functional form with its options kept."""

import pickle

import numpy as np
import pytest
from refusals import refused

import nbloss
import nbloss.functional as F

X, T = np.float32([[1, 2, 3], [3, 1, 2]]), np.float32([[2, 2, 1], [0, 1, 2]])


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "reduction": "none"}, {"reduction": "sum"}, {"divisor": 3.0}])
@pytest.mark.parametrize("sample_weight", [None, np.array([1, 0.5])])
def test_it_gives_what_the_functions_give(options, sample_weight):
    module = nbloss.DistillationLoss(**options)
    np.testing.assert_array_equal(
        module(X, T, sample_weight=sample_weight), F.distillation_loss(X, T, sample_weight=sample_weight, **options)
    )
    expected = F.distillation_loss_backward(2.0, X, T, sample_weight=sample_weight, **options)
    np.testing.assert_array_equal(module.backward(2.0), expected)


def test_a_divisor_of_the_call_replaces_that_of_the_module():
    module = nbloss.DistillationLoss(divisor=2.0)
    assert module.forward(X, T, divisor=4.0) == F.distillation_loss(X, T, divisor=4.0)
    np.testing.assert_array_equal(module.backward(), F.distillation_loss_backward(1.0, X, T, divisor=4.0))
    assert module(X, T) == F.distillation_loss(X, T, divisor=2.0)


def test_repr_pickle_and_a_backward_without_a_forward():
    module = nbloss.DistillationLoss(temperature=4, reduction=None, reuse_grad=True)
    assert repr(module) == "DistillationLoss(temperature=4.0, reduction='none', reuse_grad=True)"
    assert repr(nbloss.DistillationLoss(divisor=2)) == "DistillationLoss(temperature=1.0, reduction='mean', divisor=2.0)"
    copy = pickle.loads(pickle.dumps(module))
    assert copy.options == module.options and repr(copy) == repr(module)
    with refused(RuntimeError, "DistillationLoss.backward() needs a forward first"):
        module.backward()


def test_the_array_of_the_gradient_is_used_again_unless_an_argument_shares_it():
    module = nbloss.DistillationLoss(reuse_grad=True)
    module(X, T)
    first = module.backward()
    assert module.backward() is first
    module(X, first)
    assert module.backward() is not first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0}, "temperature should be a positive finite number; got 0"),
        ({"reduction": "batchmean"}, "reduction should be one of"),
        ({"divisor": 2, "reduction": "sum"}, "divisor should be None unless reduction is 'mean'"),
    ],
)
def test_bad_options_are_refused_when_the_module_is_made(options, words):
    with refused(ValueError, words):
        nbloss.DistillationLoss(**options)
