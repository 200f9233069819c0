"""log_softmax of many classes that lie first: the bits of rows, wherever images begin, and whichever positions are confident."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from problems import FLOATS, logits, name

import nbloss
import nbloss.functional as F

DTYPES = [pytest.param(d, id=np.dtype(d).name) for d in FLOATS]
# whole and ragged runs of 128 positions; last vectors of classes in the first and in the second partial sum; several blocks of classes
SHAPES = [(2, 49, 1024), (2, 300, 1025), (2, 65, 33, 37), (1, 257, 1100), (1, 1001, 1030)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_channels_first_has_the_bits_of_rows(shape, dtype, threads, rng):
    n, c, *inner = shape
    rows = logits(rng, (n, *inner, c), dtype)
    flat = rows.reshape(-1, c)
    flat[::3, c // 2] = 40  # confident
    flat[1::7, :-1], flat[2::11, 5], flat[4::13], flat[5::17, 3] = -np.inf, np.nan, -np.inf, np.inf
    expected = np.ascontiguousarray(np.moveaxis(F.log_softmax(rows, -1), -1, 1)).astype(float)  # NumPy knows bfloat16's nan from itself
    x = np.ascontiguousarray(np.moveaxis(rows, -1, 1))
    before = nbloss.get_num_threads()
    nbloss.set_num_threads(threads)
    try:
        assert_array_equal(F.log_softmax(x, 1).astype(float), expected)
        around = np.full((n + 2, *shape[1:]), 7, dtype)
        F.log_softmax(x, 1, out=around[1:-1])
        assert_array_equal(around[1:-1].astype(float), expected)
        assert (around[[0, -1]] == 7).all()
        assert_array_equal(F.log_softmax(x, 1, out=x).astype(float), expected)
    finally:
        nbloss.set_num_threads(before)
