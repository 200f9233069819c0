"""What most tests use: dtypes, shapes, options, inputs made from a seed, and how close is close enough."""

from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
import reference

from nbloss import _fast_path

try:
    from ml_dtypes import bfloat16, finfo
except ImportError:
    bfloat16, finfo = None, np.finfo

FLOATS = [np.float16, *([bfloat16] if bfloat16 else []), np.float32, np.float64]
DTYPES = [pytest.param(d, id=np.dtype(d).name) for d in FLOATS]
WIDE_DTYPES = [pytest.param(d, id=np.dtype(d).name) for d in (np.float32, np.float64)]
INTEGERS = [np.dtype(c) for c in "bBhHiIlLqQ"]
REDUCTIONS = ["mean", "sum", "none", None]

CLASS_COUNTS = [1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127]
MANY_CLASSES = [1000, 5000, 20011]
SHAPES = [
    (1,), (7,), (33,),
    *((5, c) for c in CLASS_COUNTS),
    (64, 10), (37, 3), (3, 4, 5), (2, 17, 9), (4, 33, 1), (2, 3, 4, 5), (2, 9, 1, 17), (2, 3, 2, 3, 2), (2, 65, 2, 1, 3),
]  # fmt: skip


def name(value):
    """A readable test id: 5x7 for a shape, a dtype's name, the value itself otherwise."""
    if isinstance(value, tuple):
        return "x".join(map(str, value)) or "scalar"
    return value.name if isinstance(value, np.dtype) else str(value)


def eps(dtype):
    return float(finfo(dtype).eps)


def tiny(dtype):
    """The smallest normal number: below it nothing is promised but being near 0."""
    return float(finfo(dtype).smallest_normal)


def floor(dtype):
    """Where a result may round to: the arithmetic may flush subnormals, a half type's own are kept to one unit."""
    return max(tiny(work(dtype)), tiny(dtype) * eps(dtype))


def work(dtype):
    """What the arithmetic is done in, and the dtype of a loss: half types compute in float32."""
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


@contextmanager
def general_path():
    """Within this context all calls take the general path, which leaves nothing out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fast_path, "loss", lambda *given, **options: None)
        patch.setattr(_fast_path, "along_axis", lambda *given, **options: None)
        yield


def class_count(shape):
    return shape[0 if len(shape) == 1 else 1]


def rows_shape(shape):
    """The shape of the losses of an input of this shape."""
    return () if len(shape) == 1 else (shape[0], *shape[2:])


def logits(rng, shape, dtype=np.float32, scale=3.0):
    return np.asarray(rng.normal(0, scale, shape).astype(dtype))


def log_probs(rng, shape, dtype=np.float32):
    x = logits(rng, shape, np.float64)
    return np.asarray(reference.log_softmax(x, 0 if len(shape) == 1 else 1).astype(np.float64).astype(dtype))


def class_index(rng, shape, dtype=np.int64):
    """Class numbers to go with an input of `shape`."""
    return np.asarray(rng.integers(0, class_count(shape), rows_shape(shape))).astype(dtype)


def probabilities(rng, shape, dtype=np.float32):
    axis = 0 if len(shape) == 1 else 1
    y = rng.gamma(0.7, size=shape) + 1e-3
    return np.asarray((y / y.sum(axis=axis, keepdims=True)).astype(dtype))


def one_hot(target, shape, dtype=np.float32):
    hot = np.arange(class_count(shape)) == np.asarray(target)[..., None]
    return np.asarray(np.moveaxis(hot, -1, 0 if len(shape) == 1 else 1)).astype(dtype)


def weights(rng, count, dtype=np.float32):
    """Class weights that every dtype holds exactly."""
    return (rng.integers(1, 17, count) / 8).astype(dtype)


def with_ignored(rng, target, ignore_index, chance=0.3):
    """The target with some entries replaced by ignore_index."""
    return np.where(rng.random(target.shape) < chance, ignore_index, target).astype(target.dtype)


def index_options(count):
    """Every combination of ignore_index (absent, inside, outside), smoothing, reduction, and whether there is a weight."""
    for weighted, ignored, smoothing, reduction in product([False, True], [-100, count // 2, count + 3], [0.0, 0.1], REDUCTIONS):
        yield weighted, {"ignore_index": ignored, "label_smoothing": smoothing, "reduction": reduction}


def probability_options():
    for weighted, smoothing, reduction in product([False, True], [0.0, 0.1, 1.0], REDUCTIONS):
        yield weighted, {"label_smoothing": smoothing, "reduction": reduction}


def upstream_like(rng, loss):
    """A grad_output: an array for row losses, a number for a reduced one; never tiny."""
    shape = np.shape(loss)
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape)


def assert_loss(actual, expected, dtype, ulps=4, note="", terms=1):
    """The contract's rule: each loss within 4 ulp of its own size. It is stated for float32; in float64 there is no wider type to
    sum many ``terms`` in: its error grows like a random walk of half an ulp a step, in 16 lanes."""
    expected = np.asarray(expected)
    assert actual.dtype == work(dtype), note
    assert np.shape(actual) == expected.shape, note
    assert isinstance(actual, np.ndarray) == (expected.ndim > 0), f"scalar results are NumPy scalars {note}"
    tolerance = ulps if work(dtype) == np.float32 else 4 * ulps + np.sqrt(terms) / 8
    np.testing.assert_allclose(
        np.asarray(actual).astype(reference.WIDE), expected, rtol=tolerance * eps(work(dtype)), atol=tiny(work(dtype)), err_msg=str(note)
    )  # fmt: skip


def assert_within(actual, expected, tolerance, note=""):
    """|actual - expected| <= tolerance, element by element; nan and inf must agree."""
    actual = np.asarray(actual).astype(reference.WIDE)
    expected = np.asarray(expected).astype(reference.WIDE)
    assert actual.shape == expected.shape, note
    odd = ~np.isfinite(expected)
    np.testing.assert_array_equal(actual[odd], expected[odd], err_msg=str(note))
    with np.errstate(all="ignore"):
        over = ~odd & ~(np.abs(actual - expected) <= tolerance)
    if over.any():
        at = tuple(int(i) for i in np.argwhere(over)[0])
        wanted, tolerance = expected[at], np.broadcast_to(tolerance, over.shape)[at]
        raise AssertionError(f"{over.sum()} of {over.size} off, first {at}: {actual[at]} not {wanted} ± {tolerance} {note}")


def assert_gradient(actual, x, spread, hit, note="", size=None):
    """The gradient spread - hit of logits x: rounding of exp(x - m), of the sum over the classes (a random walk in each of
    16 lanes, of half an ulp a step), of both terms, and of the result's own dtype. ``size``: of the terms, if not |spread| + |hit|."""
    x, dtype = np.asarray(x), np.asarray(x).dtype
    assert actual.dtype == dtype.newbyteorder("="), note
    wide = x.astype(reference.WIDE)
    with np.errstate(all="ignore"):
        gap = np.abs(wide - wide.max(axis=reference.class_axis(x), keepdims=True)) if x.size else wide
        gap = np.where(np.isfinite(gap), gap, 0)
        summed = np.sqrt(class_count(x.shape)) / 8
        arithmetic = eps(work(dtype)) * (8 + gap + summed) * (np.abs(spread) + np.abs(hit) if size is None else size)
        stored = eps(dtype) * np.abs(spread - hit) if dtype != work(dtype) else 0
    assert_within(actual, spread - hit, arithmetic + stored + floor(dtype), note)
