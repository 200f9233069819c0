"""log_softmax and its gradient by the CUDA kernels, against the oracle and against the CPU."""

import calls
import numpy as np
import problems
import pytest
import reference
import simulator
from problems import DTYPES, name, work

SHAPES = [(3, 1, 1), (9, 3, 1), (5, 10, 1), (2, 33, 1), (3, 403, 1), (2, 1, 3), (2, 3, 70), (2, 21, 3), (1, 32, 4), (2, 33, 3), (1, 100, 5)]
EMPTY = [(0, 5, 1), (0, 5, 3)]


def assert_log_softmax(out, x, ulps=4):
    """Every element is within 4 ulp, and for half types also within the rounding to that type."""
    expected = reference.log_softmax(x, 1)
    with np.errstate(all="ignore"):
        tolerance = ulps * problems.eps(work(x.dtype)) * np.abs(expected)
        tolerance = tolerance + (problems.eps(x.dtype) * np.abs(expected) if x.dtype != work(x.dtype) else 0)
    problems.assert_within(out, expected, tolerance + problems.floor(x.dtype))


@pytest.mark.parametrize("shape", SHAPES + EMPTY, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(rng, dtype, shape):
    x = problems.logits(rng, shape, dtype)
    out = calls.log_softmax(x)
    assert_log_softmax(out, x)
    both = x.copy()
    np.testing.assert_array_equal(calls.stored(calls.log_softmax(both, both)), calls.stored(out))


@pytest.mark.parametrize("shape", SHAPES + EMPTY, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backward(rng, dtype, shape):
    """g - exp(y) sum g, within the rounding errors of exp(y), the product, the sum and the difference."""
    y, g = problems.log_probs(rng, shape, dtype), problems.logits(rng, shape, dtype, 1.0)
    out = calls.log_softmax_backward(g, y)
    wide, total = g.astype(reference.WIDE), g.astype(reference.WIDE).sum(axis=1, keepdims=True)
    term = np.exp(y.astype(reference.WIDE)) * total
    eps = problems.eps(work(dtype))
    size = np.abs(wide).sum(axis=1, keepdims=True) * np.exp(y.astype(reference.WIDE))  # sum g may be much smaller, by cancellation
    summed = eps * shape[1] if work(dtype) == np.float32 else np.sqrt(shape[1]) / 8  # float64 has no wider type for the sum
    tolerance = eps * (4 * np.abs(term) + np.abs(wide) + summed * size) + problems.eps(dtype) * np.abs(wide - term)
    problems.assert_within(out, wide - term, tolerance + problems.floor(dtype))


@pytest.mark.parametrize("offset", [1, 3, 6])
@pytest.mark.parametrize("shape", [(3, 37, 1), (2, 203, 1), (2, 5, 3)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_addresses(rng, dtype, shape, offset):
    x = problems.logits(rng, shape, dtype)
    out = calls.log_softmax(calls.with_offset(x, offset), calls.with_offset(x, (offset * 5) % 8))
    assert_log_softmax(out, x)
    y, g = problems.log_probs(rng, shape, dtype), problems.logits(rng, shape, dtype)
    expected = calls.log_softmax_backward(g, y)
    actual = calls.log_softmax_backward(calls.with_offset(g, offset), calls.with_offset(y, (offset * 3) % 8))
    problems.assert_within(actual, expected, 8 * problems.eps(dtype) * (1 + np.abs(g).sum(axis=1, keepdims=True).astype(float)))


@pytest.mark.parametrize("shape", [(5, 6, 1), (5, 70, 1), (1, 6, 5), (1, 40, 5)], ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(rng, dtype, shape):
    outer, classes, inner = shape
    rows = problems.logits(rng, (5, classes), dtype)
    rows[0, 3], rows[1, 4], rows[2, 0], rows[3] = -np.inf, np.nan, np.inf, -np.inf
    rows[4, 1:] = -np.inf
    x = np.ascontiguousarray(rows.reshape(outer, inner, classes).transpose(0, 2, 1))
    out = calls.log_softmax(x).transpose(0, 2, 1).reshape(5, classes).astype(float)
    assert out[0, 3] == -np.inf and np.isfinite(np.delete(out[0], 3)).all()
    assert np.isnan(out[1:4]).all()
    np.testing.assert_array_equal(out[4], [0] + [-np.inf] * (classes - 1))


@pytest.mark.parametrize("shape", [(2, 4, 1), (2, 90, 1), (1, 4, 2), (1, 90, 2)], ids=name)
@pytest.mark.parametrize("margin", [5.25, 20.125, 60.3])
def test_a_confident_row_keeps_its_digits(rng, shape, margin):
    x = problems.logits(rng, shape, np.float32, 0.3)
    x[:, 2] += np.float32(margin)
    assert_log_softmax(calls.log_softmax(x), x)


@pytest.mark.parametrize("shape", [(2, 700, 3), (1, 5000, 1)], ids=name)
def test_many_classes(rng, shape):
    x = problems.logits(rng, shape, np.float32)
    assert_log_softmax(calls.log_softmax(x), x)


@pytest.mark.parametrize("shape", [(3, 7, 1), (2, 300, 1), (2, 7, 3), (1, 40, 3)], ids=name)
def test_the_bits_do_not_depend_on_the_order_of_threads(rng, shape):
    x, g = problems.logits(rng, shape), problems.logits(rng, shape)
    first = calls.log_softmax(x)
    backward = calls.log_softmax_backward(g, first)
    for seed in range(3):
        simulator.seed(seed)
        np.testing.assert_array_equal(calls.log_softmax(x), first)
        np.testing.assert_array_equal(calls.log_softmax_backward(g, first), backward)


# ------------------------------ the CPU kernels ------------------------------


def ulp_difference(a, b):
    """The difference of two float32 results, in ulp of the larger one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.abs(a - b) / (np.maximum(np.abs(a), np.abs(b)) + problems.tiny(np.float32)) / problems.eps(np.float32)


@pytest.mark.parametrize("shape", [(3, 130, 1), (2, 21, 3)], ids=name)
def test_cuda_and_cpu_agree(rng, shape):
    """They agree to 4 ulp. Gradients differ by one more ulp per unit of m - x, whose rounding error the CPU ignores in exp(x - m)."""
    from nbloss.kernels.cpu import kernel_set as cpu

    x = problems.logits(rng, shape, np.float32)
    on_cuda, on_cpu = calls.log_softmax(x), np.empty_like(x)
    cpu.log_softmax(x, on_cpu)
    assert (ulp_difference(on_cuda, on_cpu) <= 4).all()
    target = rng.integers(0, shape[1], shape[0] * shape[2])
    scale, up = np.ones(target.size, np.float32), np.ones(1, np.float32)
    losses, gradients = np.empty((2, target.size), np.float32), np.empty((2, *shape), np.float32)
    calls.kernels.cross_entropy(x, target, -1, scale, None, up, losses[0], gradients[0])
    cpu.cross_entropy(x, target, -1, scale, None, up, losses[1], gradients[1])
    assert (ulp_difference(*losses) <= 4).all()
    assert (ulp_difference(*gradients) <= 4 + x.max(axis=1, keepdims=True) - x).all()
