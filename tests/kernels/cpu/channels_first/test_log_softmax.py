"""log_softmax of arrays with the classes first: the same bits as of rows, for every size of the images and wherever they lie."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from problems import FLOATS, logits, name

import nbloss.functional as F
from nbloss.kernels.cpu.tuning import MACHINE

DTYPES = [pytest.param(d, id=np.dtype(d).name) for d in FLOATS]
SHAPES = [(2, 1, 64), (3, 2, 65), (1, 5, 127), (2, 10, 28, 28), (2, 21, 128), (1, 47, 129), (2, 48, 9, 21), (3, 3, 700), (5, 7, 16, 4)]


def same(ours, theirs):
    assert_array_equal(ours.astype(float), theirs.astype(float))  # NumPy knows bfloat16's nan from itself


def as_rows(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def as_channels_first(rows):
    return np.moveaxis(rows, -1, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_channels_first_has_the_bits_of_rows(shape, dtype, rng):
    x, g = logits(rng, shape, dtype), logits(rng, shape, dtype)
    x[:, :1].flat[::5], x.flat[::91] = 80, -np.inf
    y = F.log_softmax(x, 1)
    same(y, as_channels_first(F.log_softmax(as_rows(x), -1)))
    grad = F.log_softmax_backward(g, y, 1)
    same(grad, as_channels_first(F.log_softmax_backward(as_rows(g), as_rows(y), -1)))
    same(F.log_softmax(x, 1, out=np.empty_like(x)), y)
    over = x.copy()
    same(F.log_softmax(over, 1, out=over), y)
    over = y.copy()
    same(F.log_softmax_backward(g, over, 1, out=over), grad)
    over = g.copy()
    same(F.log_softmax_backward(over, y, 1, out=over), grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 9, 40), (3, 21, 10, 13)], ids=name)
def test_images_cut_out_of_larger_arrays(shape, dtype, rng):
    """Images apart, classes apart, an upstream gradient in another layout or of one number: nothing beside the result is written."""
    n, c, h, w = shape
    large = logits(rng, (2 * n, 2 * c, h, w), dtype)
    x, g = large[::2, ::2], logits(rng, shape, dtype)
    y = F.log_softmax(x, 1)
    same(y, F.log_softmax(x.copy(), 1))
    grad = F.log_softmax_backward(g, y, 1)
    cut = F.log_softmax(large, 1)[::2, ::2]
    cut[...] = y
    same(F.log_softmax_backward(as_channels_first(as_rows(g)), cut, 1), grad)
    same(F.log_softmax_backward(1.0, y, 1), F.log_softmax_backward(np.ones_like(y), y, 1))
    around = np.full((n + 2, c, h, w), 7, dtype)
    F.log_softmax(x, 1, out=around[1:-1])
    same(around[1:-1], y)
    F.log_softmax_backward(g, y, 1, out=around[1:-1])
    same(around[1:-1], grad)
    assert (around[[0, -1]] == 7).all()


@pytest.mark.parametrize("shape", [(21, 97, 101), (10, 128, 128), (3, 250, 250)], ids=name)
def test_results_too_large_for_the_caches_have_the_bits_of_small_ones(shape, rng):
    count = MACHINE["nontemporal_channels"] // (4 * int(np.prod(shape))) + 1
    x = np.resize(logits(rng, (2, *shape)), (count, *shape))
    y, grad = F.log_softmax(x, 1), F.log_softmax_backward(x, x, 1)
    for p in range(count):
        same(y[p : p + 1], F.log_softmax(x[p : p + 1], 1))
        same(grad[p : p + 1], F.log_softmax_backward(x[p : p + 1], x[p : p + 1], 1))
