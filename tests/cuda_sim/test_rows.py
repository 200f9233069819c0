"""Rows of contiguous classes, walked in every way that a plan can choose, with groups small enough for the simulator."""

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

# name: (lanes, threads, blocks) of a group, words that a thread holds, whether that is the whole row, classes, walked as vectors or numbers
WAYS = {
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
# the second: before sm_80 pairs of half numbers have no instructions
CASES = [(way, True) for way in WAYS] + [("block", False), ("lanes", False)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}{'' if case[1] else ', old'}")
def classes(request, monkeypatch):
    """A number of classes, for which the plan is a certain one."""
    way, modern = request.param
    group, held, resident, count, vectors = WAYS[way]

    def chosen(stored, rows, classes, aligned, capability, multiprocessors, heavy):
        width = plan.WIDTH[stored] if aligned and vectors else 1
        words = 4 if stored in ("uint16", "int16") and width > 1 else width
        grid = -(-rows // (group[1] // group[0])) if group[0] else rows * group[2]
        return plan.Plan(width, group, max(1, held // words), resident, grid)

    monkeypatch.setattr(plan, "rows", chosen)
    monkeypatch.setattr(calls.kernels.kernel_set, "sm80", modern)
    return count


def unaligned(array, offset=1):
    """The same rows, each beginning elsewhere between two multiples of 16 bytes."""
    return calls.placed(array, offset)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(rng, classes, dtype):
    x = unaligned(problems.logits(rng, (ROWS, classes, 1), dtype))
    out = unaligned(np.zeros_like(x))
    expected = reference.log_softmax(x, 1)
    room = (4 if dtype == work(dtype) else 1) * problems.eps(dtype) * np.abs(expected) + problems.floor(dtype)
    problems.assert_within(calls.log_softmax(x, out), expected, room)


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
