"""What tests/interop/test_mpi.py runs on every rank: ``mpirun -n N python mpi_cases.py NAME``."""

import re
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from numpy.testing import assert_allclose, assert_array_equal

import nbloss.functional as F
from nbloss.interop import mpi

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
import reference
import tiers

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
ROWS, CLASSES = 37, 11


def shares(total):
    """Where each rank's share begins and ends: unequal ones, and with four ranks an empty one."""
    inner = [round(total * (k / SIZE) ** 1.7) for k in range(1, SIZE)]
    cuts = [0, *inner, total]
    if SIZE == 4:
        cuts[2] = cuts[1]
    return cuts


def problem(dtype, shape=(ROWS, CLASSES)):
    rng = np.random.default_rng(3)
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    x[0, y[0]] += 40  # a confident row
    y[5::6] = -100
    x[5] = np.nan  # which is ignored
    return x, y


def options(dtype, every=True):
    """Options of a call; without ``every`` those that need few kernels."""
    w = np.linspace(0.1, 2, CLASSES).astype(dtype)
    own = np.random.default_rng(1).integers(0, 3, ROWS).astype(dtype)
    yield {"sample_weight": own, "label_smoothing": 0.1, "weight": w}
    yield {"divisor": 50.0}
    yield {}
    if every:
        for weight, smoothing, scale in product((None, w), (0.0, 0.2), (0.0, 1e-2)):
            yield {"weight": weight, "label_smoothing": smoothing, "lse_square_scale": scale}
        yield {"softcap": 5.0, "logit_scale": 0.5, "weight": w}
        yield {"logit_scale": 2.0}


def reductions(given):
    return ("mean",) if "divisor" in given else ("mean", "sum", "none")


def local(given, part):
    """The options of a rank that has some of the rows."""
    return {name: value[part] if name == "sample_weight" else value for name, value in given.items()}


def check(actual, true, dtype, grad=False):
    unit = np.finfo(dtype).eps
    assert actual.dtype == dtype
    assert_allclose(actual, true.astype(float), rtol=40 * unit, atol=10 * unit if grad else 0)


def rows(dtype):
    x, y = problem(dtype)
    cuts = shares(ROWS)
    part = slice(cuts[RANK], cuts[RANK + 1])
    for given in options(dtype, tiers.is_slow()):  # each option has kernels of its own
        for reduction in reductions(given):
            mine = local(given, part)
            loss, grad = mpi.cross_entropy_value_and_grad(x[part], y[part], reduction=reduction, **mine)
            assert_array_equal(loss, mpi.cross_entropy(x[part], y[part], reduction=reduction, **mine))
            true = reference.cross_entropy(x, y, reduction=reduction, **given)
            check(loss, true[part] if reduction == "none" else true, dtype)
            g = reference.cross_entropy_backward(1.0, x, y, reduction=reduction, **given)[part]
            check(grad, g, dtype, grad=True)
            if reduction == "none":
                assert_array_equal(loss, F.cross_entropy(x[part], y[part], reduction="none", **mine))


def classes(dtype):
    x, y = problem(dtype)
    cuts = shares(CLASSES)
    part = slice(cuts[RANK], cuts[RANK + 1])
    for given in options(dtype):
        for reduction in reductions(given):
            out = np.empty_like(x[:, part])
            loss, grad = mpi.cross_entropy_value_and_grad(x[:, part], y, split="classes", reduction=reduction, out=out, **given)
            assert grad is out
            assert_array_equal(loss, mpi.cross_entropy(x[:, part], y, split="classes", reduction=reduction, **given))
            check(loss, reference.cross_entropy(x, y, reduction=reduction, **given), dtype)
            true = reference.cross_entropy_backward(1.0, x, y, reduction=reduction, **given)[:, part]
            check(grad, true, dtype, grad=True)
            assert_array_equal(grad[5], 0)


def more(dtype):
    """Probabilities, K-d inputs, upstream gradients, nothing that counts, another communicator."""
    x, y = problem(dtype)
    x[5] = 0
    q = np.random.default_rng(5).dirichlet(np.ones(CLASSES), ROWS).astype(dtype)
    cuts = shares(ROWS)
    part = slice(cuts[RANK], cuts[RANK + 1])
    loss, grad = mpi.cross_entropy_value_and_grad(x[part], q[part], grad_output=3.0)
    check(loss, reference.cross_entropy(x, q), dtype)
    check(grad, reference.cross_entropy_backward(3.0, x, q)[part], dtype, grad=True)

    cuts = shares(CLASSES)
    of_classes = slice(cuts[RANK], cuts[RANK + 1])
    image, labels = problem(dtype, (6, CLASSES, 2, 3))
    image[5] = 0
    g = np.linspace(-1, 1, 36).reshape(6, 2, 3).astype(dtype)
    given = {"split": "classes", "reduction": "none", "label_smoothing": 0.1, "ignore_index": 2}
    labels[labels == -100] = 2
    loss, grad = mpi.cross_entropy_value_and_grad(image[:, of_classes], labels, grad_output=g, **given)
    given.pop("split")
    check(loss, reference.cross_entropy(image, labels, **given), dtype)
    check(grad, reference.cross_entropy_backward(g, image, labels, **given)[:, of_classes], dtype, grad=True)

    none = np.full(ROWS, -100)
    for empty, want in (("nan", np.nan), ("zero", 0)):
        for split, block in (("rows", x[part]), ("classes", x[:, of_classes])):
            target = none[part] if split == "rows" else none
            loss, grad = mpi.cross_entropy_value_and_grad(block, target, split=split, empty=empty)
            assert_array_equal(loss, want)
            assert_array_equal(grad, 0)

    alone = mpi.cross_entropy(x, y, comm=MPI.COMM_SELF)
    check(alone, reference.cross_entropy(x, y), dtype)


def edges(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 1, 2, -inf], [-inf] * 4, [1, 2, -inf, 3], [1, nan, 2, 3], [inf, 1, 2, 3], [nan, 1, inf, 2]], dtype)
    y = np.array([2, 2, 2, 2, 2, -100])
    cuts = shares(4)
    part = slice(cuts[RANK], cuts[RANK + 1])
    loss, grad = mpi.cross_entropy_value_and_grad(x[:, part], y, split="classes", reduction="none")
    assert_allclose(loss, F.cross_entropy(x, y, reduction="none"), rtol=1e-6)
    assert_allclose(grad, F.cross_entropy_backward(1.0, x, y, reduction="none")[:, part], rtol=1e-6)


def refuses(kind, words, call):
    """Every rank raises, and none waits."""
    with pytest.raises(kind, match=re.escape(words)) as raised:
        call()
    assert raised.type is kind


def errors(dtype):
    x, y = problem(dtype)
    x[5] = 0
    cuts, last = shares(CLASSES), SIZE - 1
    block = x[:, cuts[RANK] : cuts[RANK + 1]]
    wrong = y.copy()
    if last == RANK:
        wrong[3] = 99
    for call in (mpi.cross_entropy, mpi.cross_entropy_value_and_grad):
        for split, mine in (("rows", x), ("classes", block)):
            refuses(IndexError, "got 99 at index (3,)", lambda: call(mine, wrong, split=split))  # noqa: B023
            refuses(ValueError, "reduction should be", lambda: call(mine, y, split=split, reduction="all"))  # noqa: B023
            smoothing = 2.0 if last == RANK else 0.0
            refuses(ValueError, "label_smoothing should be", lambda: call(mine, y, split=split, label_smoothing=smoothing))  # noqa: B023
            refuses(TypeError, "input should have dtype", lambda: call(mine.astype(int) if last == RANK else mine, y, split=split))  # noqa: B023
    refuses(ValueError, "split should be", lambda: mpi.cross_entropy(x, y, split="columns"))
    refuses(ValueError, "out should have", lambda: mpi.cross_entropy_value_and_grad(block, y, split="classes", out=np.empty(1, dtype)))
    refuses(TypeError, "class numbers", lambda: mpi.cross_entropy(block, block, split="classes"))
    g = np.ones(3 if last == RANK else ROWS)
    for split, mine in (("rows", x), ("classes", block)):
        given = {"split": split, "reduction": "none", "grad_output": g}
        refuses(ValueError, "grad_output", lambda: mpi.cross_entropy_value_and_grad(mine, y, **given))  # noqa: B023
    if SIZE > 1:
        refuses(ValueError, "split should be the same", lambda: mpi.cross_entropy(x, y, split="classes" if last == RANK else "rows"))
        refuses(ValueError, "the same on all ranks", lambda: mpi.cross_entropy(block, np.roll(y, RANK), split="classes"))
        other = np.where(np.arange(ROWS) == 0, -100, y) if last == RANK else y
        refuses(ValueError, "the same on all ranks", lambda: mpi.cross_entropy(block, other, split="classes"))
        refuses(ValueError, "the same rows", lambda: mpi.cross_entropy(block[: ROWS - RANK], y[: ROWS - RANK], split="classes"))
    assert COMM.allreduce(1) == SIZE  # the ranks are in step


def evaluation(dtype):
    import nbloss

    x, y = problem(dtype)
    x[5] = 0
    cuts = shares(ROWS)
    part = slice(cuts[RANK], cuts[RANK + 1])
    both, whole = mpi.evaluate(x[part], y[part]), nbloss.evaluate(x, y)
    assert both.count == whole.count
    assert both.accuracy == whole.accuracy
    assert_allclose(both.loss, whole.loss, rtol=1e-6)


if __name__ == "__main__":
    for kind in (np.float32, np.float64):
        for name in sys.argv[1:]:
            globals()[name](np.dtype(kind))
    if RANK == 0:
        print("passed")
