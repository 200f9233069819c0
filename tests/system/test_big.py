"""More numbers than 32 bits can count, very many rows, very many classes; and many calls, which must not grow the process.

`make big` (`pytest -m big`) runs those that want up to 9 GB of memory, and prints their time; the others are part of every run.
"""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import nbloss.functional as F

BEYOND = 2**31  # the first index that an int32 cannot hold


def assert_rows(losses, x, y, rows, dtype=np.float32):
    """The losses of some rows are the oracle's."""
    for row in rows:
        exact = float(reference.cross_entropy(np.array(x[row]), np.array(y[row])))
        assert abs(float(losses[row]) - exact) <= 8 * np.finfo(dtype).eps * abs(exact), row


# ---- in every run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32770, 65540), (1, 65540, 32770)], ids=["rows", "channels first"])
def test_more_than_2_to_31_numbers_seen_through_a_stride_of_0(shape, rng):
    """Every row is the same one in memory, so that it fits any machine."""
    row = rng.normal(0, 3, 65540).astype(np.float16)
    x = np.broadcast_to(row if len(shape) == 2 else row[:, None], shape)
    assert x.size > BEYOND
    y = rng.integers(0, 65540, 32770)
    if len(shape) == 3:  # classes that lie apart are copied beyond some number: fewer of them there
        x, y = np.broadcast_to(row[:70, None], (1, 70, 32_000_000)), np.broadcast_to(np.uint8(69), 32_000_000)
        assert x.size > BEYOND
        losses = F.cross_entropy(x, y[None], reduction="none")[0]
        assert (losses == F.cross_entropy(row[:70], 69)).all()
        return
    losses = F.cross_entropy(x, y, reduction="none")
    assert_rows(losses, x, y, [0, 1, 32765, 32766, 32769])


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ten_thousand_calls_leave_the_process_as_large_as_it_was(rng):
    x, y, w = rng.normal(size=(32, 10)).astype(np.float32), rng.integers(0, 10, 32), np.ones(10, np.float32)
    bad, soft, out = np.full(32, 10), np.abs(x), np.empty_like(x)

    def calls():
        F.cross_entropy(x, y)
        F.cross_entropy_value_and_grad(x, y, out=out)
        F.cross_entropy(x, y, w, label_smoothing=0.1, reduction="none")
        F.cross_entropy_value_and_grad(x, soft)
        F.log_softmax_backward(x, F.log_softmax(x))
        F.nll_loss_backward(1.0, x, y)
        with pytest.raises(IndexError):
            F.cross_entropy(x, bad)
        F.cross_entropy(x.tolist(), y.tolist())
        F.cross_entropy(x[::-1, ::-1], y[::-1])

    for _ in range(200):
        calls()
    gc.collect()
    counts = [sys.getrefcount(a) for a in (x, y, w, soft, out)]
    objects, size = len(gc.get_objects()), resident()
    for _ in range(1000):  # ten calls each
        calls()
    gc.collect()
    assert [sys.getrefcount(a) for a in (x, y, w, soft, out)] == counts
    assert len(gc.get_objects()) - objects < 100
    assert resident() - size < 2 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_calls_give_their_memory_back(rng):
    x, y = rng.normal(size=(2000, 1000)).astype(np.float32), rng.integers(0, 1000, 2000)
    for _ in range(5):
        F.cross_entropy_value_and_grad(x, y)
    size = resident()
    for _ in range(100):
        F.cross_entropy_value_and_grad(x, y)
    assert resident() - size < x.nbytes


# ---- when asked for ----------------------------------------------------------------------------------------------------


@pytest.mark.big
@pytest.mark.parametrize("shape", [(32770, 65540), (220_000_000, 10)], ids=["long rows", "short rows"])
def test_a_dense_array_of_more_than_2_to_31_numbers_in_place(shape, rng):
    n, count = shape
    assert n * count > BEYOND
    few = rng.normal(0, 3, (997, count)).astype(np.float16)  # a prime number of different rows
    x = np.empty(shape, np.float16)
    for start in range(0, n, 997):
        x[start : start + 997] = few[: n - start]
    labels = rng.integers(0, count, 997)
    y = np.resize(labels, n).astype(np.uint8 if count < 256 else np.int32)
    losses, grads = F.cross_entropy_value_and_grad(few, labels, reduction="none")
    total, grad = F.cross_entropy_value_and_grad(x, y, reduction="sum", out=x)
    assert grad is x
    repeats, rest = divmod(n, 997)
    expected = float(losses.sum(dtype=np.float64)) * repeats + float(losses[:rest].sum(dtype=np.float64))
    assert abs(float(total) - expected) <= 1e-6 * expected
    for row in (0, 1, BEYOND // count - 1, BEYOND // count, BEYOND // count + 1, n - 2, n - 1):
        np.testing.assert_array_equal(x[row], grads[row % 997])


@pytest.mark.big
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fifty_million_rows_of_two_classes(dtype, rng):
    n = 50_000_000 if dtype == np.float32 else 25_000_000
    few, labels = rng.normal(0, 3, (1000, 2)).astype(dtype), rng.integers(0, 2, 1000)
    x, y = np.tile(few, (n // 1000, 1)), np.tile(labels.astype(np.int8), n // 1000)
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    exact = float(reference.cross_entropy(few, labels))
    tolerance = 8 if dtype == np.float32 else 28  # no wider type for the sum of a group: as in problems.assert_loss
    assert abs(float(loss) - exact) <= tolerance * np.finfo(dtype).eps * exact
    part = F.cross_entropy_backward(1000 / n, few, labels)
    np.testing.assert_allclose(grad[-1000:], part, rtol=1e-6)
    np.testing.assert_array_equal(grad[:1000], grad[-1000:])


@pytest.mark.big
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ten_million_classes(dtype, rng):
    x, y = rng.normal(0, 3, (3, 10_000_000)).astype(dtype), np.array([0, 9_999_999, 5_000_000])
    losses, grad = F.cross_entropy_value_and_grad(x, y, reduction="none")
    assert_rows(losses, x, y, range(3), np.float64 if dtype == np.float64 else np.float32)
    if dtype == np.float16:  # most of it lies below the smallest half
        wide = F.cross_entropy_value_and_grad(x.astype(np.float32), y, reduction="none")[1]
        np.testing.assert_array_equal(grad, wide.astype(np.float16))
    else:
        assert (abs(grad.sum(axis=1, dtype=np.float64)) < 1e-5).all()
    columns = F.log_softmax(np.ascontiguousarray(x.T), 0)
    np.testing.assert_array_equal(columns.T, F.log_softmax(x))
