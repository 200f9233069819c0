"""A call takes memory for its result and O(rows), whatever the strides and dtypes of its arrays; out= of any strides is written alone."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nbloss.functional as F

ROW_BYTES, FIXED_BYTES = 64, 1 << 20


def rows(rng, dtype):
    return rng.standard_normal((3000, 400), dtype=np.float32).astype(dtype)


# Views of one shape, (3000, 400), or of as many numbers: name -> view of an array in C order. A copy would take 2 MB at least.
VIEWS = {
    "C order": lambda a: a,
    "Fortran order": np.asfortranarray,
    "reversed classes": lambda a: a[:, ::-1].copy()[:, ::-1],
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "a slice of wider rows": lambda a: np.concatenate([a, a[:, :9]], axis=1)[:, : a.shape[1]],
    "every second class": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "every second row and class, transposed": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=1).T.copy()[::2, ::2].T,
    "one row for all": lambda a: np.broadcast_to(a[0], a.shape),
    "next tokens": lambda a: a.reshape(60, 50, 400)[:, :-1].swapaxes(1, 2),
    "channels last": lambda a: a.reshape(60, 5, 10, 400).transpose(0, 3, 1, 2),
    "a window of images": lambda a: a.reshape(30, 400, 10, 10)[:, :, ::2, 1:-1],
}


def beside_the_result(call):
    """The peak of the memory that a call takes, without its results; it runs once before, so that its kernels are there."""
    call()
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - sum(a.nbytes for a in (result if isinstance(result, tuple) else (result,)))


def calls(x, rng):
    """name -> call of every public function on x."""
    target = rng.integers(0, x.shape[1], x.shape[:1] + x.shape[2:])
    p = np.abs(x)
    wide, narrow = p.astype(np.float64), p.astype(ml_dtypes.bfloat16)
    yield "cross_entropy", lambda: F.cross_entropy(x, target)
    yield "none", lambda: F.cross_entropy(x, target, reduction="none")
    yield "value_and_grad", lambda: F.cross_entropy_value_and_grad(x, target)
    yield "label_smoothing", lambda: F.cross_entropy_value_and_grad(x, target, label_smoothing=0.1)
    yield "softcap", lambda: F.cross_entropy_value_and_grad(x, target, softcap=30.0)
    yield "lse_square_scale", lambda: F.cross_entropy_value_and_grad(x, target, lse_square_scale=0.1)
    yield "float64 probabilities", lambda: F.cross_entropy_value_and_grad(x, wide)
    yield "bfloat16 probabilities", lambda: F.cross_entropy(x, narrow)
    yield "log_softmax", lambda: F.log_softmax(x, 1)
    yield "log_softmax_backward", lambda: F.log_softmax_backward(x, x, 1)
    yield "nll_loss", lambda: F.nll_loss(x, target)
    yield "nll_loss_backward", lambda: F.nll_loss_backward(1.0, x, target)
    yield "nll_loss of probabilities", lambda: F.nll_loss(x, wide)
    yield "nll_loss_backward of probabilities", lambda: F.nll_loss_backward(1.0, x, narrow)


NAMES = [name for name, _ in calls(np.ones((1, 2), np.float32), np.random.default_rng(0))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", NAMES)
def test_a_call_takes_memory_for_its_result_and_its_rows(function, rng):
    for layout, view in VIEWS.items():
        x = view(rows(rng, np.float32))
        call = dict(calls(x, rng))[function]
        assert beside_the_result(call) <= ROW_BYTES * (x.size // x.shape[1]) + FIXED_BYTES, layout


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_take_no_more(dtype, rng):
    for layout, view in VIEWS.items():
        x = view(rows(rng, dtype))
        for function in ("value_and_grad", "log_softmax"):
            call = dict(calls(x, rng))[function]
            assert beside_the_result(call) <= ROW_BYTES * (x.size // x.shape[1]) + FIXED_BYTES, (layout, function)


# ------------------------------ out= ------------------------------


def placed(shape, dtype, layout):
    """``(out, memory, mask of out in memory)``; the memory is full of 7."""
    big = np.full([2 * n + 2 for n in shape], 7, dtype)
    memory = np.asfortranarray(big) if "Fortran" in layout else big
    cut = tuple(slice(1, 2 * n + 1, 2) if "steps" in layout else slice(1, n + 1) for n in shape)
    mask = np.zeros(memory.shape, bool, order="F" if "Fortran" in layout else "C")
    mask[cut] = True
    out = memory[cut]
    return (out[tuple(slice(None, None, -1) for _ in shape)] if "backwards" in layout else out), memory, mask


RESULTS = {
    "log_softmax": lambda x, y, out: F.log_softmax(x, 1, out=out),
    "log_softmax_0": lambda x, y, out: F.log_softmax(x, 0, out=out),
    "log_softmax_backward": lambda x, y, out: F.log_softmax_backward(x, x, 1, out=out),
    "cross_entropy_backward": lambda x, y, out: F.cross_entropy_backward(0.5, x, y, out=out),
    "value_and_grad": lambda x, y, out: F.cross_entropy_value_and_grad(x, y, label_smoothing=0.1, out=out)[1],
    "nll_loss_backward": lambda x, y, out: F.nll_loss_backward(0.5, x, y, out=out),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", RESULTS)
@pytest.mark.parametrize("shape", [(6, 7), (40, 65), (3, 70, 4, 5), (2, 5, 33)], ids=str)
def test_out_of_any_strides_is_written_and_nothing_beside_it(shape, function, rng):
    x, y = rng.standard_normal(shape, dtype=np.float32), rng.integers(0, shape[1], shape[:1] + shape[2:])
    expected = RESULTS[function](x, y, np.empty_like(x))
    for layout in ("C", "Fortran", "steps", "Fortran steps", "backwards", "Fortran backwards"):
        out, memory, mask = placed(shape, np.float32, layout)
        assert RESULTS[function](x, y, out) is out, layout
        assert_array_equal(out, expected, err_msg=layout)
        assert (memory[~mask] == 7).all(), layout
        own, memory, mask = placed(shape, np.float32, layout)
        own[...] = x
        assert_array_equal(RESULTS[function](own, y, own), expected, err_msg=layout)
        assert (memory[~mask] == 7).all(), layout
