"""Calls on a device from end to end, in the simulator: NumPy in and out, device arrays in and out, and every way of going wrong."""

import gc
import pickle

import numpy as np
import pytest
import reference
from problems import DTYPES, class_index, eps, log_probs, logits, probabilities
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


def given(options, classes):
    return options | ({"weight": np.linspace(0.5, 1.5, classes).astype(np.float32)} if options.get("weight") else {})


def close(actual, expected, ulp):
    """Within ``ulp`` units of the expected, or of 1/8 where a difference of two terms is near 0; of the same kind and shape."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    unit = eps(actual.dtype)
    np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), rtol=ulp * unit, atol=ulp * unit / 8)


def there(array):
    return nbloss.to_device(array, "cuda")


def back(value):
    return nbloss.to_host(value)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_arrays_go_over_and_come_back(rng, dtype, shape, options):
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    options = given(options, shape[0 if len(shape) == 1 else 1])
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
def test_device_arrays_stay_there(rng, dtype, shape):
    x, y = logits(rng, shape, dtype), class_index(rng, shape, np.int32)
    dx, dy = there(x), there(y)
    loss, grad = F.cross_entropy_value_and_grad(dx, dy)
    assert isinstance(loss, nbloss.DeviceArray) and loss.shape == () and isinstance(grad, nbloss.DeviceArray)
    expected, expected_grad = F.cross_entropy_value_and_grad(x, y)
    close(back(loss), expected, 8)
    close(back(grad), expected_grad, 8)
    axis = 0 if len(shape) == 1 else 1
    log_p = F.log_softmax(dx, axis)
    close(back(log_p), F.log_softmax(x, axis), 8)
    close(back(F.log_softmax_backward(log_p, log_p, axis)), F.log_softmax_backward(back(log_p), back(log_p), axis), 16)
    close(back(F.nll_loss(log_p, dy)), F.nll_loss(back(log_p), y), 8)
    close(back(F.nll_loss_backward(1.0, log_p, dy)), F.nll_loss_backward(1.0, back(log_p), y), 8)


def test_probability_targets(rng):
    shape = (3, 5, 2)
    x, y, w = logits(rng, shape), probabilities(rng, shape), np.linspace(1, 2, 5)
    for options in ({}, {"weight": w, "label_smoothing": 0.2}, {"reduction": "none"}):
        expected, expected_grad = F.cross_entropy_value_and_grad(x, y, **options)
        loss, grad = F.cross_entropy_value_and_grad(there(x), there(y), **options)
        close(back(loss), expected, 8)
        close(back(grad), expected_grad, 8)
    log_p = log_probs(rng, shape)
    close(F.nll_loss(log_p, y, w, device="cuda"), F.nll_loss(log_p, y, w), 8)
    close(F.nll_loss_backward(2.0, log_p, y, w, device="cuda"), F.nll_loss_backward(2.0, log_p, y, w), 8)


def test_an_upstream_gradient_may_be_a_number_an_array_here_or_there(rng):
    x, y = logits(rng, (4, 5)), class_index(rng, (4, 5))
    g = rng.normal(size=4).astype(np.float32)
    expected = F.cross_entropy_backward(g, x, y, reduction="none")
    for upstream in (g, there(g)):
        close(back(F.cross_entropy_backward(upstream, there(x), y, reduction="none")), expected, 8)
    expected = F.cross_entropy_backward(3.0, x, y)
    for upstream in (3, np.float32(3), there(np.float32(3))):
        close(back(F.cross_entropy_backward(upstream, there(x), there(y))), expected, 8)
    p = probabilities(rng, (4, 5))
    close(back(F.cross_entropy_backward(there(np.float64(3)), there(x), p)), F.cross_entropy_backward(3.0, x, p), 8)
    log_p = F.log_softmax(x)
    close(F.log_softmax_backward(2.0, log_p, device="cuda"), F.log_softmax_backward(2.0, log_p), 8)


def test_views_of_a_device_array_are_walked_where_they_are(rng):
    base = logits(rng, (6, 10))
    moved = there(base)
    for pick in (np.s_[::2], np.s_[:, 2:7], np.s_[::-1], np.s_[:, ::-3]):
        view = moved.seen(moved.geometry[pick])
        y = class_index(rng, base[pick].shape)
        close(back(F.cross_entropy(view, y)), F.cross_entropy(base[pick], y), 8)
        assert (back(view) == base[pick]).all()


# ---- results ---------------------------------------------------------------------------------------------------------


def test_out_is_filled_and_returned(rng):
    x, y = logits(rng, (4, 7)), class_index(rng, (4, 7))
    expected = F.cross_entropy_backward(1.0, x, y)
    out = np.full_like(x, np.nan)
    assert F.cross_entropy_value_and_grad(x, y, out=out, device="cuda")[1] is out
    close(out, expected, 8)
    moved, room = there(x), there(np.full_like(x, np.nan))
    assert F.cross_entropy_backward(1.0, moved, y, out=room) is room
    close(back(room), expected, 8)
    assert F.cross_entropy_backward(1.0, moved, y, out=moved) is moved
    close(back(moved), expected, 8)


def test_out_lives_where_the_input_does(rng):
    x, y = logits(rng, (4, 7)), class_index(rng, (4, 7))
    with refused(TypeError, "out", "cuda:0"):
        F.cross_entropy_backward(1.0, there(x), y, out=np.empty_like(x))
    with refused(ValueError, "out", "(4, 7)", "(7, 4)"):
        F.cross_entropy_backward(1.0, there(x), y, out=there(np.empty((7, 4), np.float32)))
    with refused(ValueError, "out", "overlap"):
        buffer = there(np.zeros(29, np.float32))
        first, second = (buffer.seen(buffer.geometry[i : i + 28].reshape(4, 7)) for i in (0, 1))
        F.cross_entropy_backward(1.0, first, y, out=second)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_row_at_all(reduction):
    x, y = np.zeros((0, 4), np.float32), np.zeros(0, int)
    for a in (x, there(x)):
        loss, grad = F.cross_entropy_value_and_grad(a, y, reduction=reduction, device="cuda")
        np.testing.assert_array_equal(back(loss), F.cross_entropy(x, y, reduction=reduction))
        assert back(grad).shape == (0, 4)


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
def test_a_bad_target_on_the_device_waits_to_be_asked_for(call):
    call(there(X), there(np.array([0, 9], np.uint8)))
    call(there(X), there(np.array([8, 7])))
    with refused(IndexError, "target", "9", "(1,)", "3", "1"):
        nbloss.check_device_errors()
    nbloss.check_device_errors()
    call(there(X), there(Y))
    nbloss.check_device_errors()


def test_a_late_error_names_the_value_in_its_own_type():
    F.cross_entropy(there(np.zeros((2, 3, 4), np.float32)), there(np.full((2, 4), 2**63 + 5, np.uint64)))
    with refused(IndexError, str(2**63 + 5), "(0, 0)", "8"):
        nbloss.check_device_errors()


def test_a_bad_target_makes_the_loss_nan_and_leaves_the_others_gradient():
    x, y = there(X), there(np.array([0, 9]))
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="sum")
    assert np.isnan(back(loss))
    close(back(grad)[0], F.cross_entropy_backward(1.0, X[:1], [0], reduction="sum")[0], 8)
    assert (back(grad)[1] == 0).all()
    with pytest.raises(IndexError):
        nbloss.check_device_errors()


def test_a_late_error_is_told_of_even_when_a_thousand_calls_came_after():
    F.cross_entropy(there(X), there(np.array([0, 9])))
    from nbloss.backends import cuda

    cuda._calls.clear()
    with refused(IndexError, "9", "1", "3"):
        nbloss.check_device_errors()


def test_a_device_that_the_arrays_are_not_on_is_refused():
    with refused(ValueError, "device", "cuda:0", "'cpu'"):
        F.cross_entropy(there(X), Y, device="cpu")
    with refused(nbloss.DeviceUnavailableError, "cuda:1"):
        F.cross_entropy(X, Y, device="cuda:1")


@pytest.mark.parametrize("call", LOSSES.values(), ids=LOSSES.keys())
def test_arguments_on_the_device_are_judged_like_numpy_s(call):
    with refused(TypeError, "input", "int64"):
        call(there(np.zeros((2, 3), np.int64)), Y)
    with refused(ValueError, "target", "(2,)", "(3,)"):
        call(there(X), there(np.zeros(3, int)))
    with refused(TypeError, "target", "float32", "astype"):
        call(there(X), there(np.zeros(2, np.float32)))
    with refused(ValueError, "weight", "(3,)", "(2,)"):
        call(there(X), there(Y), there(np.ones(2, np.float32)))
    with refused(ValueError, "ignore_index"):
        call(there(X), there(P), ignore_index=2)


# ---- the rest of the surface ----------------------------------------------------------------------------------------


def test_modules_move(rng):
    x, y = logits(rng, (4, 5)), class_index(rng, (4, 5))
    module = nbloss.CrossEntropyLoss(np.ones(5), label_smoothing=0.1).to("cuda")
    close(module(x, y), F.cross_entropy(x, y, label_smoothing=0.1), 8)
    assert type(module.backward()) is np.ndarray
    module(there(x), there(y))
    close(back(module.backward()), F.cross_entropy_backward(1.0, x, y, label_smoothing=0.1), 8)
    assert pickle.loads(pickle.dumps(module)).device == "cuda"
    chain, loss = nbloss.LogSoftmax(1, device="cuda"), nbloss.NLLLoss(device="cuda")
    loss(chain(there(x)), there(y))
    close(back(chain.backward(loss.backward())), F.cross_entropy_backward(1.0, x, y), 16)


def test_the_default_device_is_for_numpy_arrays(rng):
    x, y = logits(rng, (4, 5)), class_index(rng, (4, 5))
    nbloss.set_default_device("cuda")
    try:
        with refused(IndexError, "target"):
            F.cross_entropy(x, y + 9)
        close(F.cross_entropy(x, y), F.cross_entropy(x, y, device="cpu"), 8)
    finally:
        nbloss.set_default_device(None)


def test_device_arrays_say_what_they_are():
    a = there(np.zeros((2, 3), np.float16))
    assert (a.shape, a.dtype, a.ndim, a.size, a.nbytes, len(a)) == ((2, 3), np.float16, 2, 6, 12, 2)
    assert repr(a) == "DeviceArray(shape=(2, 3), dtype=float16, device='cuda:0')"
    assert there(a) is a
    assert (back(there(np.arange(5)[::-1])) == np.arange(5)[::-1]).all()
    assert back(there(np.float32(3))).shape == ()


def test_a_late_error_holds_no_array(rng):
    import weakref

    x = there(logits(rng, (4, 5)))
    gone = weakref.ref(x.owner) if not isinstance(x.owner, np.ndarray) else weakref.ref(x.geometry)
    F.cross_entropy(x, there(class_index(rng, (4, 5))))
    del x
    gc.collect()
    assert gone() is None


def test_the_same_bits_every_time(rng):
    x, y = logits(rng, (33, 5)), class_index(rng, (33, 5))
    first = F.cross_entropy_value_and_grad(x, y, device="cuda")
    again = F.cross_entropy_value_and_grad(x, y, device="cuda")
    assert first[0] == again[0] and (first[1] == again[1]).all()


def test_small_calls_agree_with_the_oracle(rng):
    x, y = logits(rng, (6, 9)), class_index(rng, (6, 9))
    close(F.cross_entropy(x, y, device="cuda", reduction="none"), reference.exact_rows(x, y)[1].astype(np.float32), 4)
