"""An out= that does not fit is an error, and a call that fails leaves out as it was."""

import numpy as np
import pytest
from problems import logits
from refusals import LOSSES, WRITERS, P, X, Y, every_writer, refused

import nbloss.functional as F

BAD_OUTS = {
    "shape": (np.zeros((3, 2), np.float32), ["(2, 3)", "(3, 2)"]),
    "more dimensions": (np.zeros((1, 2, 3), np.float32), ["(2, 3)", "(1, 2, 3)"]),
    "wide dtype": (np.zeros((2, 3), np.float64), ["float32", "float64"]),
    "integer dtype": (np.zeros((2, 3), np.int32), ["float32", "int32"]),
    "a row for all": (np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (2, 3), (0, 4)), ["strides (0, 4)"]),
    "windows": (np.lib.stride_tricks.sliding_window_view(np.zeros(4, np.float32), 3, writeable=True), ["strides (4, 4)"]),
}


@pytest.mark.parametrize("kind", BAD_OUTS)
@every_writer
def test_a_wrong_out_is_a_value_error(call, kind):
    out, words = BAD_OUTS[kind]
    for target in (Y, P):
        with refused(ValueError, "out", *words):
            call(X, target, out=out)
    with refused(ValueError, "out", *words):
        F.log_softmax(X, out=out)
    with refused(ValueError, "out", *words):
        F.log_softmax_backward(X, X, out=out)
    assert (out == 0).all()


@every_writer
def test_a_read_only_out_is_a_value_error(call):
    out = np.zeros_like(X)
    out.flags.writeable = False
    with refused(ValueError, "out"):
        call(X, Y, out=out)
    with refused(ValueError, "out"):
        F.log_softmax(X, out=out)


@pytest.mark.parametrize("shift", [1, 3, 4, 8])
def test_an_out_that_overlaps_in_part_is_a_value_error(shift, rng):
    raw = logits(rng, (40,))
    x, out = raw[:20].reshape(4, 5), raw[shift : shift + 20].reshape(4, 5)
    before = raw.copy()
    for call in (LOSSES[w] for w in WRITERS):
        with refused(ValueError, "out", "overlap"):
            call(x, np.zeros(4, int), out=out)
    with refused(ValueError, "out", "overlap"):
        F.log_softmax(x, out=out)
    with refused(ValueError, "out", "overlap"):
        F.log_softmax_backward(np.ones_like(x), x, out=out)
    np.testing.assert_array_equal(raw, before)


def test_an_out_laid_over_the_input_in_another_order_is_partial_overlap(rng):
    x = logits(rng, (5, 5))
    before = x.copy()
    for view in (x[::-1], x.T):
        with refused(ValueError, "out", "overlap"):
            F.cross_entropy_value_and_grad(view, np.zeros(5, int), out=x)
    np.testing.assert_array_equal(x, before)


@every_writer
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((X, np.array([0, 3])), {}),
        ((X, Y[:1]), {}),
        ((X, Y.astype(np.float32)), {}),
        ((X, Y, np.ones(4, np.float32)), {}),
        ((X, Y), {"reduction": "average"}),
        ((X, P), {"ignore_index": 1}),
        ((X, Y), {"device": "tpu"}),
    ],
    ids=["index", "target_shape", "float_target", "weight_shape", "reduction", "ignore_index", "device"],
)
def test_a_refused_call_leaves_out_as_it_was(arguments, options, call):
    out = np.frombuffer(bytes(range(24)), np.float32).reshape(2, 3).copy()
    before = out.tobytes()
    with pytest.raises((ValueError, TypeError, IndexError)):
        call(*arguments, **options, out=out)
    assert out.tobytes() == before


@every_writer
def test_a_refused_call_in_place_leaves_the_input_as_it_was(call, rng):
    x = logits(rng, (5000, 7))
    before, y = x.copy(), np.zeros(5000, int)
    y[-1] = 7
    with refused(IndexError, "target", "(4999,)"):
        call(x, y, out=x)
    np.testing.assert_array_equal(x, before)


@every_writer
@pytest.mark.parametrize("name", ["target", "weight"])
def test_an_out_over_the_targets_or_the_weights_is_a_value_error(name, call, rng):
    memory = np.zeros(64, np.int64)
    out = memory.view(np.float32)[:40].reshape(20, 2)
    given = {"target": np.zeros(20, np.int64), "weight": np.ones(2, np.float32)}
    given[name] = memory[10:30] if name == "target" else memory.view(np.float32)[39:41]
    with refused(ValueError, "out", name, "overlap"):
        call(logits(rng, (20, 2)), **given, out=out)
    assert not memory.any()


@pytest.mark.parametrize("call", [F.cross_entropy_backward, F.nll_loss_backward])
def test_an_out_over_the_upstream_gradient_is_a_value_error(call, rng):
    memory = rng.normal(size=8).astype(np.float32)
    before = memory.copy()
    with refused(ValueError, "out", "grad_output", "overlap"):
        call(memory[:4], np.ones((4, 2), np.float32), np.zeros(4, int), reduction="none", out=memory.reshape(4, 2))
    np.testing.assert_array_equal(memory, before)


@every_writer
def test_an_out_of_another_kind_of_array_is_filled_too(call):
    for target in (Y, P):
        plain = call(X, target)
        plain = plain[1] if isinstance(plain, tuple) else plain
        out = np.empty_like(X).view(np.matrix)
        result = call(X, target, out=out)
        assert (result[1] if isinstance(result, tuple) else result) is out
        np.testing.assert_array_equal(np.asarray(out), plain)


def test_a_plain_number_is_an_upstream_gradient_for_a_number_too():
    np.testing.assert_array_equal(F.log_softmax_backward(3, np.float64(-1.0)), F.log_softmax_backward(np.float64(3), np.float64(-1.0)))
