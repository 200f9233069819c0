"""Errors of `linear_cross_entropy`: each says what should be and what came, before anything is computed or written."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nbloss
import nbloss.functional as F

N, C, D = 4, 5, 3


def arguments(**changes):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((N, D), dtype=np.float32), rng.standard_normal((C, D), dtype=np.float32)
    return {"input": x, "linear_weight": w, "target": rng.integers(0, C, N), "linear_bias": np.ones(C, np.float32)} | changes


OUT = "out should be a tuple of three, an array or None for each of input, linear_weight, linear_bias"


def f32(*shape):
    return np.full(shape, 0.5, np.float32)


REFUSED = {
    "weight of other features": (
        {"linear_weight": f32(5, 4)},
        ValueError,
        "linear_weight should have shape (C, ..., 3), input's features last; got (5, 4)",
    ),
    "weight without classes": (
        {"linear_weight": f32(3)},
        ValueError,
        "linear_weight should have shape (C, ..., 3), input's features last; got (3,)",
    ),
    "no class": ({"linear_weight": f32(0, 3)}, ValueError, "linear_weight should have at least one class; got shape (0, 3)"),
    "bias": ({"linear_bias": f32(3)}, ValueError, "linear_bias should have shape (5,), one per output; got (3,)"),
    "input of three axes": (
        {"input": f32(1, 4, 3)},
        ValueError,
        "input should have shape (D,) or (N, D); got (1, 4, 3): reshape(-1, 3) it",
    ),
    "a number": ({"input": np.float32(1)}, ValueError, "input should have shape (D,) or (N, D); got ()"),
    "an unbatched input with more outputs": (
        {"input": f32(3), "linear_weight": f32(5, 2, 3)},
        ValueError,
        "input should have shape (N, D) where linear_weight has more than two axes; got (3,)",
    ),
    "other dtype": (
        {"linear_weight": np.ones((C, D), np.float16)},
        TypeError,
        "linear_weight should have input's dtype float32; got float16",
    ),
    "integers": (
        {"input": np.ones((N, D), int)},
        TypeError,
        "input should have dtype float16, bfloat16 (ml_dtypes), float32 or float64; got",
    ),
    "memory": ({"max_memory": 0}, ValueError, "max_memory should be a positive number of bytes; got 0"),
    "memory, nan": ({"max_memory": float("nan")}, ValueError, "max_memory should be a positive number of bytes; got nan"),
    "memory, text": ({"max_memory": "1 GB"}, TypeError, "max_memory should be a number of bytes; got '1 GB'"),
    "ignore_index with probabilities": (
        {"target": f32(N, C), "ignore_index": 3},
        ValueError,
        "ignore_index should be None with a target of probabilities; got 3",
    ),
    "negative ignore_index with probabilities": (
        {"target": f32(N, C), "ignore_index": -100},
        ValueError,
        "ignore_index should be None with a target of probabilities; got -100",
    ),
    "wrt": ({"wrt": ["x"]}, ValueError, "wrt should hold names from 'input', 'linear_weight', 'linear_bias'; got 'x'"),
    "target out of range": (
        {"target": np.array([0, 1, 5, 2])},
        IndexError,
        "target should be in [0, 5) or -100 (ignore_index): got 5 at index (2,); 1 of 4",
    ),
    "target's shape": (
        {"target": np.zeros(3, int)},
        ValueError,
        "target should have shape (4,) (class numbers) or (4, 5) (probabilities) to go with logits of shape (4, 5); got (3,)",
    ),
    "one-hot integers": (
        {"target": np.zeros((N, C), int)},
        TypeError,
        "target should hold floats where it has logits' shape (probabilities",
    ),
    "classes last": (
        {"linear_weight": f32(C, 2, D), "linear_bias": f32(C, 2), "target": f32(N, 2, C)},
        ValueError,
        "to go with logits of shape (4, 5, 2); got (4, 2, 5)",
    ),
    "float class numbers": ({"target": np.array([0.5, 1, 2, 3])}, TypeError, "got 0.5 at index (0,): probabilities have logits' shape"),
    "class weights": ({"weight": f32(4)}, ValueError, "weight should have shape (5,), one per class; got (4,)"),
    "sample weights": ({"sample_weight": f32(5)}, ValueError, "sample_weight should have the loss's shape (4,); got (5,)"),
    "upstream gradient": ({"grad_output": f32(4)}, ValueError, "grad_output should be a number or have the loss's shape (); got (4,)"),
    "upstream gradient of rows": (
        {"grad_output": f32(3), "reduction": "none"},
        ValueError,
        "grad_output should be a number or have the loss's shape (4,); got (3,)",
    ),
    "reduction": ({"reduction": "meen"}, ValueError, "reduction should be one of"),
    "device": ({"device": "tpu"}, ValueError, "tpu"),
    "stats' name": (
        {"stats": {"margin": f32(N)}},
        ValueError,
        "stats should hold arrays by names from 'lse', 'log_prob', 'argmax', 'correct', 'entropy'; got 'margin'",
    ),
    "stats' dtype": ({"stats": {"argmax": f32(N)}}, ValueError, "argmax of stats should have dtype int64; got float32"),
    "stats' shape": ({"stats": {"lse": f32(3)}}, ValueError, "lse of stats should have shape (4,), the loss's; got (3,)"),
    "stats without an array": ({"stats": {"lse": None}}, TypeError, "lse of stats should be a NumPy array; got None"),
    "stats of probabilities": (
        {"stats": {"correct": np.ones(N, bool)}, "target": f32(N, C)},
        ValueError,
        "stats should not hold 'correct' with a target of prob",
    ),
    "accumulate into nothing": (
        {"accumulate": True},
        ValueError,
        "out should have an array for each gradient that accumulate=True adds to; got None for input",
    ),
    "out of two": ({"out": (None, None)}, ValueError, f"{OUT}; got 2"),
    "one out": ({"out": f32(3, D)}, ValueError, f"{OUT}; got ndarray"),
    "out's shape": ({"out": (f32(D, N), None, None)}, ValueError, "out of input should have shape (4, 3), input's; got (3, 4)"),
    "out's dtype": ({"out": (None, np.ones((C, D)), None)}, ValueError, "out of linear_weight should have dtype float32; got float64"),
    "out is a list": ({"out": (None, None, [0.0] * C)}, TypeError, "out of linear_bias should be a NumPy array; got list"),
    "out repeats": (
        {"out": (np.lib.stride_tricks.as_strided(f32(D), (N, D), (0, 4)), None, None)},
        ValueError,
        "out of input should have a place in memory",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_and_nothing_is_written(name):
    changes, kind, message = REFUSED[name]
    given = arguments(**changes)
    out = (f32(*np.shape(given["input"])), f32(*given["linear_weight"].shape), f32(C)) if np.ndim(given["input"]) else None
    stats = {"entropy": f32(*np.shape(given["input"])[:1])}
    if "out" not in changes and name != "accumulate into nothing" and given["linear_weight"].dtype == np.float32:
        given |= {"out": out, "stats": given.get("stats", {}) | stats}
    with pytest.raises(kind) as caught:
        F.linear_cross_entropy_value_and_grad(**given)
    assert message in str(caught.value)
    if out is not None:
        assert all((a == 0.5).all() for a in (*out, *stats.values()))


def test_results_may_overlap_no_argument_and_no_other_result():
    for name in ("input", "linear_weight", "linear_bias", "sample_weight", "grad_output"):
        memory = np.full(60, 0.5, np.float32)
        given = arguments(
            input=f32(N, D), linear_weight=f32(C, D), linear_bias=f32(C), sample_weight=f32(N), grad_output=f32(N), reduction="none"
        )
        shape = given[name].shape
        given[name] = memory[: np.prod(shape)].reshape(shape)
        for place, shape_of_out in enumerate(((N, D), (C, D), (C,))):
            out = [None, None, None]
            out[place] = memory[: np.prod(shape_of_out)].reshape(shape_of_out)
            with pytest.raises(ValueError, match=f"should share no memory with {name}; got an overlap"):
                F.linear_cross_entropy_value_and_grad(**given, out=out)
        with pytest.raises(ValueError, match=f"lse of stats should share no memory with {name}"):
            F.linear_cross_entropy_value_and_grad(**given, stats={"lse": memory[:N]})
        assert (memory == 0.5).all()
    memory = f32(C * D)
    with pytest.raises(ValueError, match="out of linear_bias should share no memory with the out of linear_weight"):
        F.linear_cross_entropy_value_and_grad(**arguments(), out=(None, memory.reshape(C, D), memory[:C]))
    with pytest.raises(ValueError, match="entropy of stats should share no memory with lse of stats"):
        F.linear_cross_entropy(**arguments(), stats={"lse": memory[:N], "entropy": memory[1 : N + 1]})
    with pytest.raises(ValueError, match="lse of stats should share no memory with the out of linear_weight"):
        F.linear_cross_entropy_value_and_grad(**arguments(), out=(None, memory.reshape(C, D), None), stats={"lse": memory[:N]})


def test_a_gpu_is_refused_with_what_to_do(monkeypatch):
    given = arguments()
    with pytest.raises(nbloss.DeviceUnavailableError):
        F.linear_cross_entropy(**given, device="cuda")


def test_ignore_index_none_means_minus_100():
    given = arguments()
    given["target"][0] = -100
    assert F.linear_cross_entropy(**given) == F.linear_cross_entropy(**given, ignore_index=-100)
    given["target"][0] = 3
    assert F.linear_cross_entropy(**given, ignore_index=3) == F.linear_cross_entropy(
        **given | {"target": np.where(given["target"] == 3, -100, given["target"])}
    )


def test_a_wrong_upstream_gradient_is_refused_by_backward_too():
    given = arguments()
    out = tuple(np.full_like(given[name], 7) for name in ("input", "linear_weight", "linear_bias"))
    with pytest.raises(ValueError, match="loss's shape"):
        F.linear_cross_entropy_backward(np.ones(3), **given, out=out)
    for a in out:
        assert_array_equal(a, 7)
