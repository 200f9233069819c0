"""The kernel that adds the targets' terms to the gradients of a last layer: in order, whatever the strides and the threads."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nbloss
from nbloss.backends.cpu import CPU


def added(x, rows, factors, after, out, out_rows):
    """The terms one after the other, each rounded as an operation of the dtype rounds."""
    result, after = out.copy(), out.dtype.type(after)
    for row, factor, into in zip(rows, factors, out_rows, strict=True):
        result[into] += x[row] * factor * after
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F", "reversed"])
@pytest.mark.parametrize("columns", [0, 1, 7, 8, 16, 17, 100])
def test_terms_are_added_in_order(dtype, order, columns, rng):
    x = rng.standard_normal((20, columns)).astype(dtype)
    x = x[::-1, ::-1] if order == "reversed" else np.asarray(x, order=order)
    rows, out_rows = rng.integers(0, 20, 60), rng.integers(0, 9, 60)
    factors, out = rng.standard_normal(60).astype(dtype), rng.standard_normal((9, columns)).astype(dtype)
    wanted = added(x, rows, factors, 0.25, out, out_rows)
    CPU.kernels.scatter_rows(x, rows, factors, 0.25, out, out_rows)
    assert_array_equal(out, wanted)


def test_threads_change_no_bit(rng):
    x, rows, out_rows = rng.standard_normal((500, 200), dtype=np.float32), rng.integers(0, 500, 6000), rng.integers(0, 3, 6000)
    factors, results = rng.standard_normal(6000, dtype=np.float32), []
    before = nbloss.get_num_threads()
    try:
        for threads in (1, 2, 3):
            nbloss.set_num_threads(threads)
            results.append(np.zeros((3, 200), np.float32))
            CPU.kernels.scatter_rows(x, rows, factors, 1.0, results[-1], out_rows)
    finally:
        nbloss.set_num_threads(before)
    assert_array_equal(results[1], results[0])
    assert_array_equal(results[2], results[0])
    assert_array_equal(results[0], added(x, rows, factors, 1.0, np.zeros((3, 200), np.float32), out_rows))
