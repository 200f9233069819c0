"""Rows of contiguous classes, walked in every way that a plan can choose, with groups small enough for the simulator."""

import calls
import numpy as np
import problems
import pytest
import reference
from problems import DTYPES, name, work
from test_cross_entropy import OPTIONS, assert_right, made

from nbloss.kernels.cuda import plan

ROWS = 3

# name: (lanes, threads, blocks) of a group, words that a thread holds, whether that is the whole row, numbers of classes
WAYS = {
    "threads": ((1, 32, 1), 4, True, [1, 3, 4]),
    "lanes": ((4, 32, 1), 3, True, [9, 12]),
    "warp": ((32, 64, 1), 4, True, [100, 126]),
    "block": ((0, 64, 1), 8, True, [403]),
    "cluster": ((0, 32, 4), 4, True, [211]),
    "long": ((0, 64, 1), 4, False, [600]),
    "long-cluster": ((0, 32, 2), 4, False, [1001]),
}
CASES = [
    (way, classes, vectors) for way, (*_, counts) in WAYS.items() for classes in counts for vectors in ([1] if classes < 20 else [1, 0])
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{'vectors' if case[2] else 'numbers'}")
def classes(request, monkeypatch):
    """A number of classes, for which the plan is a certain one."""
    way, count, vectors = request.param
    group, held, resident, _ = WAYS[way]

    def chosen(stored, rows, classes, aligned, capability, multiprocessors, heavy):
        width = plan.WIDTH[stored] if aligned and vectors and count > 20 else 1
        words = 4 if stored in ("uint16", "int16") and width > 1 else width
        needed = held if width == 1 else max(1, held // words)
        grid = -(-rows // (group[1] // group[0])) if group[0] else rows * group[2]
        return plan.Plan(width, group, needed, resident, grid)

    monkeypatch.setattr(plan, "rows", chosen)
    return count


@pytest.fixture(params=["modern", "old"])
def kernels(request, monkeypatch):
    monkeypatch.setattr(calls.kernels.twin, "modern", request.param == "modern")
    return calls


def unaligned(array, offset=1):
    """The same rows, each beginning elsewhere between two multiples of 16 bytes."""
    return calls.placed(array, offset)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(rng, kernels, classes, dtype):
    x = unaligned(problems.logits(rng, (ROWS, classes, 1), dtype))
    out = unaligned(np.zeros_like(x))
    expected = reference.log_softmax(x, 1)
    room = (4 if dtype == work(dtype) else 1) * problems.eps(dtype) * np.abs(expected) + problems.floor(dtype)
    problems.assert_within(kernels.log_softmax(x, out), expected, room)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_backward(rng, kernels, classes, dtype):
    g, y = problems.logits(rng, (ROWS, classes, 1), dtype), problems.log_probs(rng, (ROWS, classes, 1), dtype)
    expected = reference.log_softmax_backward(g, y, 1)
    terms = np.abs(g.astype(float)) + np.exp(y.astype(float)) * np.abs(g.astype(float)).sum(axis=1, keepdims=True)
    problems.assert_within(kernels.log_softmax_backward(g, y), expected, 4 * problems.eps(dtype) * terms)


@pytest.mark.parametrize("options", [*OPTIONS, pytest.param({"soft": True, "weighted": True, "label_smoothing": 0.1}, id="soft")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(rng, kernels, classes, dtype, options):
    x, target, w, options = made(rng, (ROWS, classes, 1), dtype, **options)
    x = unaligned(x)
    g = rng.uniform(0.5, 2, (ROWS, 1))
    loss, gradient = kernels.cross_entropy(x, target, w, g=g, out=unaligned(np.zeros_like(x)), **options)
    assert_right(x, target, w, options, loss, gradient, g.astype(work(dtype)))
    assert_right(x, target, w, options, kernels.cross_entropy(x, target, w, gradient=False, **options)[0], None)


@pytest.mark.parametrize("shape", [(65, 10, 1), (130, 3, 1), (9, 100, 1)], ids=name)
def test_the_last_warp_and_block_are_not_full(rng, shape):
    x, target, w, options = made(rng, shape, np.float32)
    assert_right(x, target, w, options, *calls.cross_entropy(x, target))
