"""Calls of the public functions on a device, in the simulator: NumPy arrays and device arrays as arguments and results, and errors."""

import gc
import pickle

import numpy as np
import pytest
import reference
from problems import DTYPES, assert_within, class_index, eps, log_probs, logits, probabilities
from refusals import LOSSES, P, X, Y, every_loss, every_writer, refused

import nbloss
import nbloss.functional as F

SHAPES = [(5,), (4, 7), (3, 5, 2), (2, 3, 2, 3)]
OPTIONS = [
    {},
    {"reduction": "sum", "ignore_index": 1},
    {"reduction": "none", "label_smoothing": 0.1},
    {"weight": True, "label_smoothing": 0.3},
]


@pytest.fixture(autouse=True)
def no_error_is_left_behind():
    yield
    nbloss.check_device_errors()


def with_weight(options, classes):
    """The options, with an array of weights if they ask for weights."""
    return options | ({"weight": np.linspace(0.5, 1.5, classes).astype(np.float32)} if options.get("weight") else {})


def close(actual, expected, ulp):
    """The same shape and dtype, and values within ``ulp`` units; differences of terms near 0 within units of 1/8."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    unit = eps(actual.dtype)
    np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), rtol=ulp * unit, atol=ulp * unit / 8)


def to_device(array):
    return nbloss.to_device(array, "cuda")


def to_host(value):
    return nbloss.to_host(value)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_arrays_in_and_out(rng, dtype, shape, options):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    options = with_weight(options, shape[0 if len(shape) == 1 else 1])
    expected, expected_grad = F.cross_entropy_value_and_grad(x, y, **options)
    loss, grad = F.cross_entropy_value_and_grad(x, y, **options, device="cuda")
    assert type(loss) is type(expected) and type(grad) is np.ndarray
    assert grad.dtype == x.dtype and grad.shape == x.shape
    close(loss, expected, 8)
    close(grad, expected_grad, 8)
    close(F.cross_entropy(x, y, **options, device="cuda"), expected, 8)
    close(F.cross_entropy_backward(1.0, x, y, **options, device="cuda"), expected_grad, 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_device_arrays_in_and_out(rng, dtype, shape):
    x, y = logits(rng, shape, dtype), class_index(rng, shape, np.int32)
    dx, dy = to_device(x), to_device(y)
    loss, grad = F.cross_entropy_value_and_grad(dx, dy)
    assert isinstance(loss, nbloss.DeviceArray) and loss.shape == () and isinstance(grad, nbloss.DeviceArray)
    expected, expected_grad = F.cross_entropy_value_and_grad(x, y)
    close(to_host(loss), expected, 8)
    close(to_host(grad), expected_grad, 8)
    axis = 0 if len(shape) == 1 else 1
    log_p = F.log_softmax(dx, axis)
    close(to_host(log_p), F.log_softmax(x, axis), 8)
    g = to_host(log_p)
    terms = np.abs(g.astype(float)) + np.exp(g.astype(float)) * np.abs(g.astype(float)).sum(axis=axis, keepdims=True)
    expected = F.log_softmax_backward(g, g, axis)
    assert_within(to_host(F.log_softmax_backward(log_p, log_p, axis)), expected, 4 * eps(dtype) * terms)
    close(to_host(F.nll_loss(log_p, dy)), F.nll_loss(to_host(log_p), y), 8)
    close(to_host(F.nll_loss_backward(1.0, log_p, dy)), F.nll_loss_backward(1.0, to_host(log_p), y), 8)


def test_probability_targets(rng):
    shape = (3, 5, 2)
    x, y, w = logits(rng, shape), probabilities(rng, shape), np.linspace(1, 2, 5)
    for options in ({}, {"weight": w, "label_smoothing": 0.2}, {"reduction": "none"}):
        expected, expected_grad = F.cross_entropy_value_and_grad(x, y, **options)
        loss, grad = F.cross_entropy_value_and_grad(to_device(x), to_device(y), **options)
        close(to_host(loss), expected, 8)
        close(to_host(grad), expected_grad, 8)
    log_p = log_probs(rng, shape)
    close(F.nll_loss(log_p, y, w, device="cuda"), F.nll_loss(log_p, y, w), 8)
    close(F.nll_loss_backward(2.0, log_p, y, w, device="cuda"), F.nll_loss_backward(2.0, log_p, y, w), 8)


@pytest.mark.parametrize("kind", ["class numbers", "smoothed", "probabilities"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 2)], ids=str)
def test_sample_weights_and_divisors(rng, shape, kind):
    """On host and device, of every dtype; rows of weight 0 may hold nan, and those of ignored rows are not read."""
    x = logits(rng, (*shape[:1], 5, *shape[1:]))
    y = probabilities(rng, x.shape) if kind == "probabilities" else class_index(rng, x.shape)
    own = np.asarray(rng.integers(1, 9, shape) / 4)
    if shape:
        np.moveaxis(x, 1, -1)[(0,) * len(shape)], own.flat[0] = np.nan, 0
        if kind != "probabilities":
            y.flat[1], own.flat[1] = -100, np.nan
    smoothing = 0.0 if kind == "class numbers" else 0.2
    for options in ({}, {"divisor": 3.5}, {"reduction": "sum"}, {"reduction": "none"}):
        options |= {"sample_weight": own, "label_smoothing": smoothing}
        of_device = options | {"sample_weight": to_device(own)}
        expected, expected_grad = F.cross_entropy_value_and_grad(x, y, **options, grad_output=2.0)
        loss, grad = F.cross_entropy_value_and_grad(to_device(x), to_device(y), **of_device, grad_output=2.0)
        close(to_host(loss), expected, 8)
        close(to_host(grad), expected_grad, 8)
        close(F.cross_entropy(x, y, **options, device="cuda"), expected, 8)
        close(F.cross_entropy_backward(2.0, x, y, **options, device="cuda"), expected_grad, 8)
        del options["label_smoothing"], of_device["label_smoothing"]
        close(to_host(F.nll_loss(to_device(x), y, **of_device)), F.nll_loss(x, y, **options), 8)
        close(to_host(F.nll_loss_backward(2.0, x, to_device(y), **of_device)), F.nll_loss_backward(2.0, x, y, **options), 8)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_mean_over_nothing(rng, on_device):
    there = to_device if on_device else np.asarray
    x, options = there(logits(rng, (4, 3))), {} if on_device else {"device": "cuda"}
    y, p, ignored = there(np.zeros(4, int)), there(probabilities(rng, (4, 3))), there(np.full(4, -100))
    none, signed = there(np.zeros(4)), there(np.float32([1, -1, 2, -2]))
    for target, own in ((ignored, None), (y, none), (p, none), (y, signed), (p, signed)):
        for empty, expected in (("nan", np.nan), ("zero", 0)):
            loss, grad = F.cross_entropy_value_and_grad(x, target, sample_weight=own, empty=empty, **options)
            np.testing.assert_array_equal(to_host(loss), expected)
            np.testing.assert_array_equal(to_host(F.cross_entropy(x, target, sample_weight=own, empty=empty, **options)), expected)
            np.testing.assert_array_equal(to_host(F.nll_loss(x, target, sample_weight=own, empty=empty, **options)), expected)
            np.testing.assert_array_equal(to_host(grad), expected if own is signed else 0)
        assert to_host(F.cross_entropy(x, ignored, divisor=2, **options)) == 0
    for target in (there(np.zeros(0, int)), there(np.zeros((0, 3), np.float32))):
        nothing = there(np.zeros((0, 3), np.float32))
        assert np.isnan(to_host(F.cross_entropy(nothing, target, **options)))
        assert to_host(F.cross_entropy(nothing, target, empty="zero", **options)) == 0
        assert to_host(F.cross_entropy(nothing, target, sample_weight=there(np.zeros(0)), empty="zero", **options)) == 0
        assert to_host(F.cross_entropy(nothing, target, divisor=2.0, **options)) == 0


def test_the_upstream_gradient_may_be_a_number_or_an_array_on_host_or_device(rng):
    x, y = logits(rng, (4, 5)), class_index(rng, (4, 5))
    g = rng.normal(size=4).astype(np.float32)
    expected = F.cross_entropy_backward(g, x, y, reduction="none")
    for upstream in (g, to_device(g)):
        close(to_host(F.cross_entropy_backward(upstream, to_device(x), y, reduction="none")), expected, 8)
    expected = F.cross_entropy_backward(3.0, x, y)
    for upstream in (3, np.float32(3), to_device(np.float32(3))):
        close(to_host(F.cross_entropy_backward(upstream, to_device(x), to_device(y))), expected, 8)
    p = probabilities(rng, (4, 5))
    close(to_host(F.cross_entropy_backward(to_device(np.float64(3)), to_device(x), p)), F.cross_entropy_backward(3.0, x, p), 8)
    log_p = F.log_softmax(x)
    close(F.log_softmax_backward(2.0, log_p, device="cuda"), F.log_softmax_backward(2.0, log_p), 8)


def test_views_of_a_device_array(rng):
    base = logits(rng, (6, 10))
    device_base = to_device(base)
    for pick in (np.s_[::2], np.s_[:, 2:7], np.s_[::-1], np.s_[:, ::-3]):
        view = device_base.seen(device_base.geometry[pick])
        y = class_index(rng, base[pick].shape)
        close(to_host(F.cross_entropy(view, y)), F.cross_entropy(base[pick], y), 8)
        assert (to_host(view) == base[pick]).all()


# ---- results ---------------------------------------------------------------------------------------------------------


def test_out_is_filled_and_returned(rng):
    x, y = logits(rng, (4, 7)), class_index(rng, (4, 7))
    expected = F.cross_entropy_backward(1.0, x, y)
    out = np.full_like(x, np.nan)
    assert F.cross_entropy_value_and_grad(x, y, out=out, device="cuda")[1] is out
    close(out, expected, 8)
    device_x, device_out = to_device(x), to_device(np.full_like(x, np.nan))
    assert F.cross_entropy_backward(1.0, device_x, y, out=device_out) is device_out
    close(to_host(device_out), expected, 8)
    assert F.cross_entropy_backward(1.0, device_x, y, out=device_x) is device_x
    close(to_host(device_x), expected, 8)


def test_out_must_be_on_the_device_of_the_input(rng):
    x, y = logits(rng, (4, 7)), class_index(rng, (4, 7))
    with refused(TypeError, "out", "cuda:0"):
        F.cross_entropy_backward(1.0, to_device(x), y, out=np.empty_like(x))
    with refused(ValueError, "out", "(4, 7)", "(7, 4)"):
        F.cross_entropy_backward(1.0, to_device(x), y, out=to_device(np.empty((7, 4), np.float32)))
    with refused(ValueError, "out", "overlap"):
        buffer = to_device(np.zeros(29, np.float32))
        first, second = (buffer.seen(buffer.geometry[i : i + 28].reshape(4, 7)) for i in (0, 1))
        F.cross_entropy_backward(1.0, first, y, out=second)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_positions(reduction):
    x, y = np.zeros((0, 4), np.float32), np.zeros(0, int)
    for a in (x, to_device(x)):
        loss, grad = F.cross_entropy_value_and_grad(a, y, reduction=reduction, device="cuda")
        np.testing.assert_array_equal(to_host(loss), F.cross_entropy(x, y, reduction=reduction))
        assert to_host(grad).shape == (0, 4)


# ---- errors ----------------------------------------------------------------------------------------------------------


@every_loss
def test_a_bad_target_of_numpy_arrays_is_an_error_at_once(call):
    with refused(IndexError, "target", "9", "(1,)", "3", "1"):
        call(X, np.array([0, 9]), device="cuda")
    call(X, Y, device="cuda")


@every_writer
def test_nothing_is_written_when_numpy_arrays_are_refused(call):
    out = np.full_like(X, 7)
    with refused(IndexError, "target"):
        call(X, np.array([0, 9]), out=out, device="cuda")
    assert (out == 7).all()


@every_loss
def test_a_bad_target_on_the_device_is_reported_by_check_device_errors(call):
    call(to_device(X), to_device(np.array([0, 9], np.uint8)))
    call(to_device(X), to_device(np.array([8, 7])))
    with refused(IndexError, "target", "9", "(1,)", "3", "1"):
        nbloss.check_device_errors()
    nbloss.check_device_errors()
    call(to_device(X), to_device(Y))
    nbloss.check_device_errors()


def test_a_late_error_names_the_value_in_its_own_type():
    F.cross_entropy(to_device(np.zeros((2, 3, 4), np.float32)), to_device(np.full((2, 4), 2**63 + 5, np.uint64)))
    with refused(IndexError, str(2**63 + 5), "(0, 0)", "8"):
        nbloss.check_device_errors()


def test_a_bad_target_makes_the_loss_nan_and_no_other_gradient_wrong():
    x, y = to_device(X), to_device(np.array([0, 9]))
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="sum")
    assert np.isnan(to_host(loss))
    close(to_host(grad)[0], F.cross_entropy_backward(1.0, X[:1], [0], reduction="sum")[0], 8)
    assert (to_host(grad)[1] == 0).all()
    with pytest.raises(IndexError):
        nbloss.check_device_errors()


def test_a_late_error_is_raised_even_if_its_call_is_forgotten():
    F.cross_entropy(to_device(X), to_device(np.array([0, 9])))
    from nbloss.backends import cuda

    cuda._calls.clear()
    with refused(IndexError, "9", "1", "3"):
        nbloss.check_device_errors()


def test_the_device_argument_must_be_the_device_of_the_arrays():
    with refused(ValueError, "device", "cuda:0", "'cpu'"):
        F.cross_entropy(to_device(X), Y, device="cpu")
    with refused(nbloss.DeviceUnavailableError, "cuda:1"):
        F.cross_entropy(X, Y, device="cuda:1")


@pytest.mark.parametrize("call", LOSSES.values(), ids=LOSSES.keys())
def test_arguments_on_the_device_are_checked_like_numpy_arrays(call):
    with refused(TypeError, "input", "int64"):
        call(to_device(np.zeros((2, 3), np.int64)), Y)
    with refused(ValueError, "target", "(2,)", "(3,)"):
        call(to_device(X), to_device(np.zeros(3, int)))
    with refused(TypeError, "target", "float32", "astype"):
        call(to_device(X), to_device(np.zeros(2, np.float32)))
    with refused(ValueError, "weight", "(3,)", "(2,)"):
        call(to_device(X), to_device(Y), to_device(np.ones(2, np.float32)))
    with refused(ValueError, "ignore_index"):
        call(to_device(X), to_device(P), ignore_index=2)
    with refused(TypeError, "target", "got int64: use nbloss.to_host(target).astype(np.float32)"):
        call(to_device(X), to_device(P.astype(np.int64)))
    with refused(TypeError, "target", "got nan, a missing value, at index (1,)", "np.isnan(nbloss.to_host(target)), -7,"):
        call(to_device(X), to_device(np.array([1, np.nan])), ignore_index=-7)
    with refused(ValueError, "target", "np.moveaxis(input, -1, 1)"):
        call(to_device(np.zeros((2, 7, 3), np.float32)), to_device(np.zeros((2, 7), int)))
    with refused(ValueError, "weight", "(3,)", "(2,)", 'reduction="none"'):
        call(to_device(X), to_device(Y), to_device(np.ones(2, np.float32)))
    with refused(TypeError, "target", "got None, a missing value, at index (1,)"):
        call(to_device(X), [1, None])
    with refused(TypeError, "target", "got generator"):
        call(to_device(X), (n for n in [0, 1]))


def test_axis_on_the_device_is_told_that_it_is_called_dim():
    with refused(TypeError, "axis=1: use dim=1"):
        F.log_softmax(to_device(X), axis=1)


# ---- modules, defaults, DeviceArray ----------------------------------------------------------------------------------------


def test_modules_on_the_device(rng):
    x, y = logits(rng, (4, 5)), class_index(rng, (4, 5))
    module = nbloss.CrossEntropyLoss(np.ones(5), label_smoothing=0.1).to("cuda")
    close(module(x, y), F.cross_entropy(x, y, label_smoothing=0.1), 8)
    assert type(module.backward()) is np.ndarray
    module(to_device(x), to_device(y))
    close(to_host(module.backward()), F.cross_entropy_backward(1.0, x, y, label_smoothing=0.1), 8)
    assert pickle.loads(pickle.dumps(module)).device == "cuda"
    chain, loss = nbloss.LogSoftmax(1, device="cuda"), nbloss.NLLLoss(device="cuda")
    loss(chain(to_device(x)), to_device(y))
    close(to_host(chain.backward(loss.backward())), F.cross_entropy_backward(1.0, x, y), 16)


def test_the_default_device_is_for_numpy_arrays(rng):
    x, y = logits(rng, (4, 5)), class_index(rng, (4, 5))
    nbloss.set_default_device("cuda")
    try:
        with refused(IndexError, "target"):
            F.cross_entropy(x, y + 9)
        close(F.cross_entropy(x, y), F.cross_entropy(x, y, device="cpu"), 8)
    finally:
        nbloss.set_default_device(None)


def test_attributes_of_device_arrays():
    a = to_device(np.zeros((2, 3), np.float16))
    assert (a.shape, a.dtype, a.ndim, a.size, a.nbytes, len(a)) == ((2, 3), np.float16, 2, 6, 12, 2)
    assert repr(a) == "DeviceArray(shape=(2, 3), dtype=float16, device='cuda:0')"
    assert to_device(a) is a
    assert (to_host(to_device(np.arange(5)[::-1])) == np.arange(5)[::-1]).all()
    assert to_host(to_device(np.float32(3))).shape == ()


def test_a_late_error_holds_no_array(rng):
    import weakref

    x = to_device(logits(rng, (4, 5)))
    reference_to_memory = weakref.ref(x.owner) if not isinstance(x.owner, np.ndarray) else weakref.ref(x.geometry)
    F.cross_entropy(x, to_device(class_index(rng, (4, 5))))
    del x
    gc.collect()
    assert reference_to_memory() is None


def test_the_same_bits_every_time(rng):
    x, y = logits(rng, (33, 5)), class_index(rng, (33, 5))
    first = F.cross_entropy_value_and_grad(x, y, device="cuda")
    again = F.cross_entropy_value_and_grad(x, y, device="cuda")
    assert first[0] == again[0] and (first[1] == again[1]).all()


def test_small_calls_agree_with_the_oracle(rng):
    x, y = logits(rng, (6, 9)), class_index(rng, (6, 9))
    close(F.cross_entropy(x, y, device="cuda", reduction="none"), reference.exact_rows(x, y)[1].astype(np.float32), 4)


@pytest.mark.parametrize("shape", [(40, 10), (9, 300), (3, 5000), (2, 20000), (2, 5, 9, 11), (2, 40, 10, 10), (1, 7)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_sum_by_the_last_block_has_the_bits_of_a_sum_by_a_launch(rng, shape, reduction, monkeypatch):
    from nbloss.kernels.cuda import sums

    x = rng.standard_normal(shape).astype(np.float32)
    y = rng.integers(0, shape[1], shape[:1] + shape[2:])
    y.flat[0] = -100
    w = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    logp = F.log_softmax(x, 1)

    def calls():
        options = {"reduction": reduction, "device": "cuda"}
        value, gradient = F.cross_entropy_value_and_grad(x, y, w, **options)
        smoothed = F.cross_entropy(x, y, label_smoothing=0.1, **options)
        return value, F.cross_entropy(x, y, w, **options), smoothed, F.nll_loss(logp, y, **options), *gradient.ravel()[:3]

    one = calls()
    monkeypatch.setattr(sums, "SUM_BY_LAST_BLOCK_MAX_BYTES", -1)
    np.testing.assert_array_equal(one, calls())
    with pytest.raises(IndexError):
        F.cross_entropy(x, np.full_like(y, 99999), device="cuda")
