"""Statistics of rows, for every kind of thread group and for strided classes, against the reference."""

import calls
import numpy as np
import problems
import pytest
import reference
from numpy.testing import assert_array_equal
from problems import DTYPES, WIDE_DTYPES, eps, work
from test_row_options import KERNELS
from test_rows import use_group

IGNORED = 1


def shape_of(kernel, monkeypatch, sm80=True):
    """The shape of a kernel's case, whose thread group all plans then use."""
    shape, group = KERNELS[kernel]
    if group:
        assert use_group(group, monkeypatch, sm80) == shape[1]
    return shape


def check(x, target, ignore_index=-100):
    """The statistics with a target; the same without it have the same bits in rows that count."""
    actual = calls.cross_entropy_stats(x, target, ignore_index)
    lse, log_prob, argmax, correct, entropy = reference.stats(x, target, ignore_index)
    unit = eps(work(x.dtype))
    counts = target != ignore_index
    with np.errstate(all="ignore"):
        top = np.where(counts, np.abs(x.astype(reference.WIDE)).max(axis=1), 0)
    problems.assert_within(actual[0], lse, 4 * unit * (top + np.abs(lse)))
    gap = np.nan_to_num(np.abs(log_prob), posinf=0)
    problems.assert_within(actual[1], log_prob, 8 * unit * gap + problems.tiny(work(x.dtype)))
    assert_array_equal(actual[2], argmax)
    assert_array_equal(actual[3], correct)
    assert actual[3].view(np.uint8).max(initial=0) <= 1
    problems.assert_within(actual[4], entropy, 16 * unit * np.abs(entropy) + problems.tiny(work(x.dtype)))
    without = calls.cross_entropy_stats(x)
    assert without[1] is None and without[3] is None
    for a, b in zip(actual[::2], without[::2], strict=True):
        assert_array_equal(a[counts], b[counts])
    return actual


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_each_kernel(rng, monkeypatch, dtype, kernel):
    outer, classes, inner = shape = shape_of(kernel, monkeypatch)
    x, target = problems.logits(rng, shape, dtype), rng.integers(2, classes, (outer, inner))
    x[0, 2, 0] = -np.inf
    target[-1, -1] = x[-1, :, -1].astype(np.float64).argmax()
    check(x, target)
    target[0, 0], x[0, 3, 0] = IGNORED, np.nan  # an ignored position may hold any logits
    actual = check(x, target, IGNORED)
    assert [a[0, 0] for a in actual] == [0, 0, -1, False, 0]


@pytest.mark.parametrize("kernel", ["lanes", "warp", "block", "cluster", "long", "registers", "online softmax"])
@pytest.mark.parametrize("sm80", [True, False])
def test_ties_nan_and_infinities(rng, monkeypatch, sm80, kernel):
    outer, classes, inner = shape = shape_of(kernel, monkeypatch, sm80)
    for dtype in (np.float16, np.float32):
        x, target = problems.logits(rng, shape, dtype), rng.integers(0, classes, (outer, inner))
        x[0, classes // 2 :, 0] = x[0, :, 0].max() + np.asarray(1, dtype)  # many maxima: the first one is the argmax, all are correct
        target[0, 0] = classes - 1
        x[1, [classes - 1, classes // 2], 0] = np.nan
        x[-1, :, -1] = -np.inf
        actual = check(x, target)
        assert actual[2][0, 0] == actual[2][1, 0] == classes // 2 and actual[3][0, 0] and not actual[3][1, 0]
        assert actual[2][-1, -1] == 0
        x[-1, [2, 4], -1] = np.inf
        target[-1, -1] = 4
        actual = check(x, target)
        assert actual[2][-1, -1] == 2 and actual[3][-1, -1] and np.isnan(actual[4][-1, -1])


@pytest.mark.parametrize("kernel", ["lanes", "block", "long", "registers", "online softmax"])
@pytest.mark.parametrize("dtype", WIDE_DTYPES)
def test_a_confident_row_keeps_its_digits(rng, monkeypatch, dtype, kernel):
    outer, classes, inner = shape = shape_of(kernel, monkeypatch)
    x, target = problems.logits(rng, shape, dtype, 1.0), rng.integers(0, classes, (outer, inner))
    np.put_along_axis(x, target[:, None], x.max(axis=1, keepdims=True) + np.asarray(25, dtype), 1)
    actual = check(x, target)
    assert (actual[4] > 0).all() and (actual[4] < 1e-7).all() and actual[3].all()
