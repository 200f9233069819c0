"""Kernels of contiguous rows with every kind of thread group that a plan can choose, in sizes that the simulator can run."""

import calls
import numpy as np
import problems
import pytest
import reference
from problems import DTYPES, name, work
from test_cross_entropy import assert_right, made

from nbloss.kernels.cuda.runtime import plan

ROWS = 3
OPTIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"weighted": True, "ignore_index": 1, "label_smoothing": 0.3}, id="smooth"),
    pytest.param({"weighted": True, "soft": True, "label_smoothing": 0.1}, id="soft"),
]

# name: (lanes, threads, blocks) of the group, words that a thread holds, whether they are the whole row, classes, whether it reads vectors
GROUPS = {
    "one class": ((1, 32, 1), 1, True, 1, False),
    "threads": ((1, 32, 1), 4, True, 4, False),
    "lanes": ((4, 32, 1), 3, True, 9, False),
    "warp": ((32, 64, 1), 4, True, 126, True),
    "warp, numbers": ((32, 64, 1), 4, True, 99, False),
    "block": ((0, 64, 1), 4, True, 203, True),
    "block, numbers": ((0, 64, 1), 4, True, 203, False),
    "cluster": ((0, 32, 4), 4, True, 211, True),
    "cluster, numbers": ((0, 32, 2), 4, True, 211, False),
    "long": ((0, 32, 1), 4, False, 333, True),
    "long, numbers": ((0, 32, 1), 2, False, 133, False),
    "long, cluster": ((0, 32, 2), 4, False, 601, True),
}


def use_group(group_name, monkeypatch, sm80=True):
    """Make every plan use one of GROUPS. Returns the number of classes to test it with."""
    group, held, resident, count, vectors = GROUPS[group_name]

    def chosen(stored, rows, classes, aligned, capability, multiprocessors, heavy):
        width = plan.NUMBERS_PER_VECTOR[stored] if aligned and vectors else 1
        words = 4 if stored in ("uint16", "int16") and width > 1 else width
        grid = -(-rows // (group[1] // group[0])) if group[0] else rows * group[2]
        return plan.Plan(width, group, max(1, held // words), resident, grid)

    monkeypatch.setattr(plan, "rows", chosen)
    monkeypatch.setattr(plan, "width_of_row_per_thread", lambda *problem: 0)
    monkeypatch.setattr(calls.kernels.kernel_set, "sm80", sm80)
    return count


# the second item is False for devices before sm_80, which have no instructions for pairs of half numbers
CASES = [(group_name, True) for group_name in GROUPS] + [("block", False), ("lanes", False)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}{'' if case[1] else ', before sm_80'}")
def classes(request, monkeypatch):
    """A number of classes; the plan uses the thread group of the case."""
    return use_group(request.param[0], monkeypatch, request.param[1])


def unaligned(array, offset=1):
    """The same rows, each with another offset from a multiple of 16 bytes."""
    return calls.with_offset(array, offset)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(rng, classes, dtype):
    x = unaligned(problems.logits(rng, (ROWS, classes, 1), dtype))
    out = unaligned(np.zeros_like(x))
    expected = reference.log_softmax(x, 1)
    tolerance = (4 if dtype == work(dtype) else 1) * problems.eps(dtype) * np.abs(expected) + problems.floor(dtype)
    problems.assert_within(calls.log_softmax(x, out), expected, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_backward(rng, classes, dtype):
    g, y = problems.logits(rng, (ROWS, classes, 1), dtype), problems.log_probs(rng, (ROWS, classes, 1), dtype)
    expected = reference.log_softmax_backward(g, y, 1)
    terms = np.abs(g.astype(float)) + np.exp(y.astype(float)) * np.abs(g.astype(float)).sum(axis=1, keepdims=True)
    problems.assert_within(calls.log_softmax_backward(g, y), expected, 4 * problems.eps(dtype) * terms)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(rng, classes, dtype, options):
    x, target, w, options = made(rng, (ROWS, classes, 1), dtype, **options)
    x = unaligned(x)
    g = rng.uniform(0.5, 2, (ROWS, 1))
    loss, gradient = calls.cross_entropy(x, target, w, g=g, out=unaligned(np.zeros_like(x)), **options)
    assert_right(x, target, w, options, loss, gradient, g.astype(work(dtype)))
    assert_right(x, target, w, options, calls.cross_entropy(x, target, w, gradient=False, **options)[0], None)


@pytest.mark.parametrize("shape", [(65, 10, 1), (130, 3, 1), (9, 100, 1)], ids=name)
def test_the_last_warp_and_block_are_not_full(rng, shape):
    x, target, w, options = made(rng, shape, np.float32)
    assert_right(x, target, w, options, *calls.cross_entropy(x, target))


# rows and classes where a thread works on each row: one block, a block and a row
ROW_PER_THREAD = [(128, 2, 1), (129, 10, 1), (5, 16, 1), (130, 7, 1)]


@pytest.mark.parametrize("sm80", [True, False])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("shape", ROW_PER_THREAD, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_thread_per_row(rng, monkeypatch, dtype, shape, offset, sm80):
    """In place, with ignored rows; the logits of some rows are not finite."""
    monkeypatch.setattr(calls.kernels.kernel_set, "sm80", sm80)
    x, target, w, options = made(rng, shape, dtype, weighted=True, ignore_index=1)
    x = unaligned(x, offset)
    expected = reference.log_softmax(x, 1)
    tolerance = (4 if dtype == work(dtype) else 1) * problems.eps(dtype) * np.abs(expected) + problems.floor(dtype)
    problems.assert_within(calls.log_softmax(x, unaligned(np.zeros_like(x), offset)), expected, tolerance)
    out = unaligned(x, offset)
    loss, gradient = calls.cross_entropy(out, target, w, out=out, **options)
    assert_right(x, target, w, options, loss, gradient)
    assert_right(x, target, w, options, calls.cross_entropy(x, target, w, gradient=False, **options)[0], None)
    x[0, 0], x[1, 1], x[2, :] = np.nan, np.inf, -np.inf
    target[:3] = 0
    target[3] = 1  # ignored: the row may hold anything
    x[3, :] = np.nan
    loss, gradient = calls.cross_entropy(x, target, w, **options)
    assert np.isnan(loss[:3].astype(float)).all() and np.isnan(gradient[:3].astype(float)).all()
    assert loss[3] == 0 and not gradient[3].astype(float).any()
    assert np.isfinite(loss[4:].astype(float)).all() and np.isfinite(gradient[4:].astype(float)).all()
