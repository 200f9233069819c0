"""Modules: options, forward, backward; torch's repr and attributes; they pickle, copy, and keep references."""

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from problems import DTYPES, class_index, logits, name, probabilities, weights

import nbloss
import nbloss.functional as F

LOSSES = {"nll_loss": nbloss.NLLLoss, "cross_entropy": nbloss.CrossEntropyLoss}
every_loss = pytest.mark.parametrize("op", LOSSES)
W = np.array([1, 0.5, 2, 1, 1, 3, 0.25], np.float32)


def function(op, suffix=""):
    return getattr(F, op + suffix)


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 7, 4), (2, 7, 3, 5)], ids=name)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", None])
def test_forward_and_backward_are_the_functions(reduction, shape, dtype, op, rng, device):
    x, y, w = logits(rng, shape, dtype), class_index(rng, shape), weights(rng, 7, dtype)
    options = {"ignore_index": 2, "reduction": reduction} | ({"label_smoothing": 0.1} if op == "cross_entropy" else {})
    module = LOSSES[op](w, **options, device=device)
    assert_array_equal(module(x, y), function(op)(x, y, w, **options, device=device))
    assert_array_equal(module.forward(x, y), function(op)(x, y, w, **options, device=device))
    assert_array_equal(module.backward(), function(op, "_backward")(1.0, x, y, w, **options, device=device))
    assert_array_equal(module.backward(2.5), function(op, "_backward")(2.5, x, y, w, **options, device=device))
    if reduction in (None, "none"):
        g = logits(rng, np.shape(y), dtype)
        assert_array_equal(module.backward(g), function(op, "_backward")(g, x, y, w, **options, device=device))


@every_loss
def test_probability_targets_work_too(op, rng, device):
    x, y = logits(rng, (5, 7)), probabilities(rng, (5, 7))
    module = LOSSES[op](device=device)
    assert_array_equal(module(x, y), function(op)(x, y, device=device))
    assert_array_equal(module.backward(), function(op, "_backward")(1.0, x, y, device=device))


@pytest.mark.parametrize("dim", [-1, 0, 1])
@pytest.mark.parametrize(("made", "op"), [(nbloss.LogSoftmax, "log_softmax"), (nbloss.Softmax, "softmax")], ids=["LogSoftmax", "Softmax"])
def test_log_softmax_and_softmax_forward_and_backward(made, op, dim, rng, device):
    x, g = logits(rng, (5, 7, 3)), logits(rng, (5, 7, 3))
    module = made(dim, device=device)
    y = module(x)
    assert_array_equal(y, getattr(F, op)(x, dim, device=device))
    assert_array_equal(module.backward(g), getattr(F, op + "_backward")(g, y, dim, device=device))


def test_backwards_chain(rng, device):
    x, y = logits(rng, (5, 7), np.float64), class_index(rng, (5, 7))
    log_softmax, nll, both = nbloss.LogSoftmax(dim=1), nbloss.NLLLoss(W), nbloss.CrossEntropyLoss(W)
    np.testing.assert_allclose(nll(log_softmax(x), y), both(x, y), rtol=1e-14)
    np.testing.assert_allclose(log_softmax.backward(nll.backward()), both.backward(), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("module", [nbloss.LogSoftmax(), nbloss.Softmax(), nbloss.NLLLoss(), nbloss.CrossEntropyLoss()], ids=repr)
def test_backward_before_forward_is_a_runtime_error_that_says_so(module):
    with pytest.raises(RuntimeError, match="forward"):
        module.backward()


def test_backward_is_of_the_last_forward(rng, device):
    a, b, y = logits(rng, (5, 7)), logits(rng, (5, 7)), class_index(rng, (5, 7))
    module = nbloss.CrossEntropyLoss(device=device)
    module(a, y)
    module(b, y)
    assert_array_equal(module.backward(), F.cross_entropy_backward(1.0, b, y, device=device))
    assert_array_equal(module.backward(), F.cross_entropy_backward(1.0, b, y, device=device))


@every_loss
def test_a_module_keeps_references_and_never_copies(op, rng):
    x, y, w = logits(rng, (5, 7)), class_index(rng, (5, 7)), weights(rng, 7)
    module = LOSSES[op](w)
    assert module.weight is w
    module(x, y)
    x *= 2
    y[:] = 3
    w[3] = 5
    assert_array_equal(module.backward(), function(op, "_backward")(1.0, x, y, w))
    alive = weakref.ref(x)
    del x
    gc.collect()
    assert alive() is not None
    assert "reference" in LOSSES[op].__doc__


def test_log_softmax_keeps_its_result_not_its_input(rng):
    x = logits(rng, (5, 7))
    module, alive = nbloss.LogSoftmax(), weakref.ref(x)
    y = module(x)
    del x
    gc.collect()
    assert alive() is None, "the backward needs only the output"
    assert "reference" in nbloss.LogSoftmax.__doc__
    assert_array_equal(module.backward(y), F.log_softmax_backward(y, y))


REPRS = [
    (nbloss.LogSoftmax(), "LogSoftmax(dim=-1)"),
    (nbloss.LogSoftmax(1), "LogSoftmax(dim=1)"),
    (nbloss.LogSoftmax(dim=0), "LogSoftmax(dim=0)"),
    (nbloss.Softmax(dim=0), "Softmax(dim=0)"),
    (nbloss.NLLLoss(), "NLLLoss(ignore_index=-100, reduction='mean')"),
    (nbloss.NLLLoss(ignore_index=3, reduction="sum"), "NLLLoss(ignore_index=3, reduction='sum')"),
    (nbloss.CrossEntropyLoss(), "CrossEntropyLoss(ignore_index=-100, reduction='mean')"),
]


@pytest.mark.parametrize(("module", "expected"), REPRS, ids=[r for _, r in REPRS])
def test_repr_reads_as_torch_s(module, expected):
    assert repr(module) == expected
    assert f"{type(module).__name__}({module.extra_repr()})" == expected


def test_options_that_are_not_the_default_are_shown():
    assert "label_smoothing=0.1" in repr(nbloss.CrossEntropyLoss(label_smoothing=0.1))
    assert "label_smoothing" not in repr(nbloss.CrossEntropyLoss())
    assert "lse_square_scale=0.0001" in repr(nbloss.CrossEntropyLoss(lse_square_scale=1e-4))
    assert "lse_square_scale" not in repr(nbloss.CrossEntropyLoss())
    assert "reduction='none'" in repr(nbloss.NLLLoss(reduction="none"))


@every_loss
def test_options_are_attributes(op):
    module = LOSSES[op](W, ignore_index=3, reduction="sum")
    assert module.weight is W
    assert (module.ignore_index, module.reduction) == (3, "sum")
    assert LOSSES[op]().weight is None
    assert nbloss.CrossEntropyLoss(label_smoothing=0.25).label_smoothing == 0.25
    assert nbloss.CrossEntropyLoss().label_smoothing == 0
    assert nbloss.CrossEntropyLoss(lse_square_scale=0.25).lse_square_scale == 0.25
    assert nbloss.CrossEntropyLoss().lse_square_scale == 0
    assert nbloss.LogSoftmax(2).dim == 2


@every_loss
def test_only_the_weight_is_positional(op):
    with pytest.raises(TypeError):
        LOSSES[op](W, -100)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_modules_pickle_and_copy(used, copier, rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    for module in (nbloss.NLLLoss(W, ignore_index=1), nbloss.CrossEntropyLoss(W, reduction="sum", label_smoothing=0.1)):
        if used:
            module(x, y)
        other = copier(module)
        assert repr(other) == repr(module)
        assert_array_equal(other.weight, W)
        assert_array_equal(other(x, y), module(x, y))
        assert_array_equal(other.backward(), module.backward())
    other = copier(nbloss.LogSoftmax(0))
    assert other.dim == 0
    assert_array_equal(other(x), F.log_softmax(x, 0))


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "deepcopy", "pickle"])
def test_every_option_is_copied(copier):
    module = nbloss.CrossEntropyLoss(ignore_index=3, reduction="sum", label_smoothing=0.25, lse_square_scale=0.5, reuse_grad=True)
    assert vars(copier(module)) == vars(module)


def test_a_pickle_of_an_older_version_has_the_default_of_a_newer_option(rng):
    """nbloss 0.1.0 wrote this, without lse_square_scale."""
    pickled = (
        b"ccopy_reg\n_reconstructor\np0\n(cnbloss.modules\nCrossEntropyLoss\np1\nc__builtin__\nobject\np2\nNtp3\n"
        b"Rp4\n(dp5\nVdevice\np6\nNsVreuse_grad\np7\nI00\nsVweight\np8\nNsVignore_index\np9\nI3\nsVreduction\np10\n"
        b"Vsum\np11\nsVlabel_smoothing\np12\nF0.25\nsb."
    )
    module = pickle.loads(pickled)
    assert repr(module) == "CrossEntropyLoss(ignore_index=3, reduction='sum', label_smoothing=0.25)"
    assert module.lse_square_scale == 0
    assert (module.divisor, module.empty) == (None, "nan")
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    assert_array_equal(module(x, y), F.cross_entropy(x, y, ignore_index=3, reduction="sum", label_smoothing=0.25))


@pytest.mark.parametrize("module", [nbloss.LogSoftmax(), nbloss.Softmax(), nbloss.NLLLoss(W), nbloss.CrossEntropyLoss(W)], ids=repr)
def test_to_returns_the_module(module):
    assert module.to("cpu") is module
    with pytest.raises(ValueError, match="device"):
        module.to("tpu")


@every_loss
@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_the_legacy_keywords_warn_and_map_as_in_torch(reduce, size_average, op):
    if size_average is None and reduce is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert LOSSES[op](size_average=None, reduce=None, reduction="sum").reduction == "sum"
        return
    with pytest.warns(DeprecationWarning, match="reduction") as record:
        module = LOSSES[op](size_average=size_average, reduce=reduce)
    assert record[0].filename == __file__, "the warning points at the caller"
    expected = "none" if reduce is False else "sum" if size_average is False else "mean"
    assert module.reduction == expected


@every_loss
def test_a_bad_option_is_refused(op, rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    with pytest.raises(ValueError, match="reduction"):
        LOSSES[op](reduction="average")(x, y)
    with pytest.raises(ValueError, match="weight"):
        LOSSES[op](np.ones(3, np.float32))(x, y)
    with pytest.raises(TypeError, match="ignore_index"):
        LOSSES[op](ignore_index="1")


@pytest.mark.parametrize("option", ["label_smoothing", "lse_square_scale"])
def test_a_bad_row_option_is_refused_when_the_module_is_made(option):
    with pytest.raises(ValueError, match=rf"{option} should be .*; got -1\.0"):
        nbloss.CrossEntropyLoss(**{option: -1})
    with pytest.raises(TypeError, match=rf"{option} should be a number.*; got 'x'"):
        nbloss.CrossEntropyLoss(**{option: "x"})


# ---- options of rows and of the mean -------------------------------------------------------------------------------------


@every_loss
def test_sample_weights_and_divisors_of_a_call_are_those_of_its_backward(op, rng, device):
    x, y, own = logits(rng, (5, 7)), class_index(rng, (5, 7)), rng.random(5)
    module = LOSSES[op](W, device=device)
    for of_call in ({}, {"sample_weight": own}, {"divisor": 3}, {"sample_weight": own, "divisor": 2.5}):
        expected = function(op)(x, y, W, **of_call, device=device)
        assert_array_equal(module(x, y, **of_call), expected)
        assert_array_equal(module.forward(x, y, **of_call), expected)
        assert_array_equal(module.backward(2.0), function(op, "_backward")(2.0, x, y, W, **of_call, device=device))


@every_loss
def test_a_divisor_of_the_module_holds_until_a_call_has_another(op, rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    module = LOSSES[op](divisor=4)
    for of_call, divisor in (({}, 4), ({"divisor": 2.0}, 2), ({}, 4)):
        assert_array_equal(module(x, y, **of_call), function(op)(x, y, divisor=divisor))
        assert_array_equal(module.backward(), function(op, "_backward")(1.0, x, y, divisor=divisor))
    assert module.divisor == 4.0
    module.divisor = 8
    assert_array_equal(module(x, y), function(op)(x, y, divisor=8))


@every_loss
def test_a_module_has_an_empty_option(op, rng):
    x, ignored = logits(rng, (5, 7)), np.full(5, -100)
    module = LOSSES[op](empty="zero")
    assert module(x, ignored) == 0 and module.empty == "zero"
    assert (module.backward() == 0).all()
    assert np.isnan(LOSSES[op]()(x, ignored)) and LOSSES[op]().empty == "nan"
    assert "empty='zero'" in repr(module) and "empty" not in repr(LOSSES[op]())
    assert "divisor=4.0" in repr(LOSSES[op](divisor=4)) and "divisor" not in repr(LOSSES[op]())


@every_loss
def test_a_bad_divisor_or_empty_is_refused_when_the_module_is_made(op):
    with pytest.raises(ValueError, match="divisor should be a positive finite number; got 0"):
        LOSSES[op](divisor=0)
    with pytest.raises(ValueError, match="divisor should be None unless reduction is 'mean'; got reduction='sum'"):
        LOSSES[op](divisor=2, reduction="sum")
    with pytest.raises(ValueError, match="empty should be 'nan' or 'zero'; got 'inf'"):
        LOSSES[op](empty="inf")


@every_loss
def test_a_gradient_s_array_is_not_used_again_where_it_holds_the_sample_weights(op, rng):
    x, y = logits(rng, (7, 7)), class_index(rng, (7, 7))
    module = LOSSES[op](reuse_grad=True)
    module(x, y)
    own = module.backward()[0]
    own[...] = 0.5
    module(x, y, sample_weight=own)
    assert_array_equal(module.backward(), function(op, "_backward")(1.0, x, y, sample_weight=np.full(7, 0.5)))
    assert (own == 0.5).all()


MODULES = {
    "log_softmax": nbloss.LogSoftmax,
    "softmax": nbloss.Softmax,
    "nll_loss": nbloss.NLLLoss,
    "cross_entropy": nbloss.CrossEntropyLoss,
}
every_module = pytest.mark.parametrize("op", MODULES)


def step(op, module, x, y):
    """A forward and a backward of any of the modules."""
    module(x) if op.endswith("softmax") else module(x, y)
    return module.backward()


@every_module
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_s_array_is_used_again_on_request(dtype, op, rng):
    module, plain = MODULES[op](reuse_grad=True), MODULES[op]()
    y = class_index(rng, (5, 7))
    first = step(op, module, logits(rng, (5, 7), dtype), y)
    for _ in range(3):
        x = logits(rng, (5, 7), dtype)
        again = step(op, module, x, y)
        assert again is first
        assert_array_equal(again, step(op, plain, x, y))


@every_module
def test_without_the_request_every_gradient_has_an_array_of_its_own(op, rng):
    module, y = MODULES[op](), class_index(rng, (5, 7))
    first = step(op, module, logits(rng, (5, 7)), y)
    kept = first.copy()
    assert not np.may_share_memory(first, step(op, module, logits(rng, (5, 7)), y))
    assert_array_equal(first, kept)


@every_module
def test_another_shape_or_dtype_gets_another_array(op, rng):
    module, plain = MODULES[op](reuse_grad=True), MODULES[op]()
    seen = []
    for shape, dtype in (((5, 7), np.float32), ((6, 7), np.float32), ((6, 7), np.float64), ((5, 7), np.float32)):
        x, y = logits(rng, shape, dtype), class_index(rng, shape)
        grad = step(op, module, x, y)
        assert not any(np.may_share_memory(grad, other) for other in seen)
        assert_array_equal(grad, step(op, plain, x, y))
        seen.append(grad)


@every_loss
@pytest.mark.parametrize("part", [lambda g: g, lambda g: g[:, ::-1], lambda g: g.T.copy().T], ids=["itself", "a view", "transposed copy"])
def test_a_gradient_that_comes_back_as_logits_is_not_overwritten(part, op, rng):
    module, plain, y = MODULES[op](reuse_grad=True), MODULES[op](), class_index(rng, (5, 7))
    x = part(step(op, module, logits(rng, (5, 7)), y))
    before = x.copy()
    assert_array_equal(step(op, module, x, y), step(op, plain, before, y))
    assert_array_equal(x, before)


def test_a_gradient_that_comes_back_as_upstream_or_weight_is_not_overwritten(rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    log_softmax = nbloss.LogSoftmax(reuse_grad=True)
    output = log_softmax(x)
    first = log_softmax.backward(output)
    expected = F.log_softmax_backward(first.copy(), output)
    assert_array_equal(log_softmax.backward(first), expected)
    loss = nbloss.CrossEntropyLoss(reuse_grad=True)
    loss(x, y)
    loss.weight = loss.backward()[0] ** 2
    grad = loss.backward()
    assert_array_equal(grad, F.cross_entropy_backward(1.0, x, y, loss.weight))
    loss.weight = grad[1]
    before = grad.copy()
    assert_array_equal(loss.backward(), F.cross_entropy_backward(1.0, x, y, before[1]))


def test_log_softmax_of_its_own_gradient_is_right(rng):
    """It keeps no input, so the next gradient may take the input's place."""
    module, x = nbloss.LogSoftmax(reuse_grad=True), logits(rng, (5, 7))
    module(x)
    grad = module.backward(x)
    expected = F.log_softmax_backward(x, F.log_softmax(grad.copy()))
    module(grad)
    assert module.backward(x) is grad
    assert_array_equal(grad, expected)


def test_an_array_that_cannot_be_written_again_is_let_go(rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    module = nbloss.CrossEntropyLoss(reuse_grad=True)
    first = step("cross_entropy", module, x, y)
    first.flags.writeable = False
    assert_array_equal(step("cross_entropy", module, x, y), first)
    assert module.backward() is not first


@every_module
def test_copies_do_not_share_the_gradient_s_array(op, rng):
    x, y = logits(rng, (5, 7)), class_index(rng, (5, 7))
    module = MODULES[op](reuse_grad=True)
    grad = step(op, module, x, y)
    for other in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other.reuse_grad and "reuse_grad=True" in repr(other)
        assert not np.may_share_memory(step(op, other, x, y), grad)
    assert "overwritten" in MODULES[op].__doc__
