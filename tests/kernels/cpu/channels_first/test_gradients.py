"""The gradients of log_softmax and softmax, channels first: the bits of rows, wherever images, rows and cache lines begin."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from problems import FLOATS, logits, name

import nbloss
import nbloss.functional as F

DTYPES = [pytest.param(d, id=np.dtype(d).name) for d in FLOATS]
# few classes, and the fewest of many; the fewest positions; whole and ragged runs of 256 and of 128; more classes than fit a tile
SHAPES = [
    (2, 1, 130),
    (3, 48, 64),
    (3, 49, 64),
    (2, 300, 65),
    (1, 48 + 5, 700),
    (5, 65, 9, 21),
    (2, 257, 8, 8),
    (1, 1001, 600),
    (1, 5000, 70),
]
ROWS = [(64, 192), (65, 999), (640, 200), (513, 208), (1000, 1000), (257, 5000), (300, 191)]


def same(ours, theirs):
    assert_array_equal(ours.astype(float), theirs.astype(float))  # NumPy knows bfloat16's nan from itself


def given(rng, shape, dtype, forward=F.log_softmax, backward=F.log_softmax_backward):
    """An upstream gradient and the forward's result of a shape whose classes are last, and the gradient."""
    g, y = logits(rng, shape, dtype), forward(logits(rng, shape, dtype), -1)
    return g, y, backward(g, y, -1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
@pytest.mark.parametrize("operation", ["log_softmax", "softmax"])
def test_channels_first_has_the_bits_of_rows(operation, shape, dtype, threads, rng):
    forward, backward = getattr(F, operation), getattr(F, f"{operation}_backward")
    n, c, *inner = shape
    g, y, grad = (np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in given(rng, (n, *inner, c), dtype, forward, backward))
    before = nbloss.get_num_threads()
    nbloss.set_num_threads(threads)
    try:
        same(backward(g, y, 1), grad)
        around = np.full((n + 2, *shape[1:]), 7, dtype)
        same(backward(g, y, 1, out=around[1:-1]), grad)
        same(around[[0, -1]], np.full((2, *shape[1:]), 7, dtype))
        for kept in (g, y):
            over = kept.copy()
            backward(over if kept is g else g, over if kept is y else y, 1, out=over)
            same(over, grad)
    finally:
        nbloss.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROWS, ids=name)
def test_transposed_rows_have_the_bits_of_rows_and_nothing_beside_them_is_written(shape, dtype, rng):
    g, y, grad = given(rng, shape, dtype)
    g, y = np.asfortranarray(g), np.asfortranarray(y)
    rows, c = shape
    for start in (0, 1, 3, 8, 15):  # lines begin elsewhere in every row
        around = np.full((rows + 2) * c + 16, 7, dtype)
        first = c + start
        out = around[first : first + rows * c].reshape(shape)
        same(F.log_softmax_backward(g, y, 1, out=out), grad)
        beside = np.concatenate([around[:first], around[first + rows * c :]])
        same(beside, np.full_like(beside, 7))


def test_images_and_classes_cut_out_of_others(rng):
    n, c, h, w = shape = 3, 70, 10, 13
    g, y, grad = (np.moveaxis(a, -1, 1) for a in given(rng, (n, h, w, c), np.float32))
    large = logits(rng, (2 * n, 2 * c, h, w), np.float32)
    cut = large[::2, ::2]
    cut[...] = y
    same(F.log_softmax_backward(g, cut, 1), grad)
    same(F.log_softmax_backward(np.ascontiguousarray(g), cut, 1), grad)
    same(F.log_softmax_backward(1.0, cut, 1), F.log_softmax_backward(np.ones(shape, np.float32), np.ascontiguousarray(y), 1))
