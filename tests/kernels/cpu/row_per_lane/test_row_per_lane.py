"""One row per lane, for short rows and for classes that lie first: every class count, every layout, every number of rows."""

from itertools import pairwise

import numpy as np
import pytest
import reference
from layouts import LAYOUTS
from numpy.testing import assert_array_equal
from problems import FLOATS, assert_gradient, assert_loss, class_index, logits

import nbloss.functional as F
from nbloss.kernels.cpu.tuning import LONG_ROW_BYTES, MACHINE

CLASSES = [*range(1, 21), 31, 32, 33, 47, 48, 49, 63, 64, 65, 66, 70]
DTYPES = [pytest.param(d, id=np.dtype(d).name) for d in FLOATS]


def results(x, y, **options):
    return (*F.cross_entropy_value_and_grad(x, y, reduction="none", **options), F.log_softmax(x, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_count_of_classes_against_the_oracle(dtype, rng):
    for classes in CLASSES:
        x, y = logits(rng, (37, classes), dtype), class_index(rng, (37, classes))
        loss, grad, _ = results(x, y)
        wide = reference.log_softmax(x, 1)
        assert_loss(loss, -wide[np.arange(37), y], dtype, note=classes, terms=classes)
        assert_gradient(grad, x, np.exp(wide), np.arange(classes) == y[:, None], note=classes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 10, 16, 21, 64, 65])
def test_rows_do_not_depend_on_their_number(classes, dtype, rng):
    """A row alone, in a tile that is not full, and among many: the same bits, and nothing beside it is touched."""
    x, y = logits(rng, (50, classes), dtype), class_index(rng, (50, classes))
    loss, grad, logp = results(x, y)
    for start, stop in pairwise([0, 1, 3, 18, 19, 34, 50]):
        around = np.full((52, classes), 7, dtype)
        inside = around[1 : 1 + stop - start]
        some, _ = F.cross_entropy_value_and_grad(x[start:stop], y[start:stop], reduction="none", out=inside)
        assert_array_equal(some, loss[start:stop])
        assert_array_equal(inside, grad[start:stop])
        assert_array_equal(F.log_softmax(x[start:stop], 1, out=inside), logp[start:stop])
        assert (around[0] == 7).all()
        assert (around[1 + stop - start :] == 7).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [10, 49, 100, 300, 700, 1100])
def test_rows_do_not_depend_on_ignored_ones_between(classes, smoothing, rng):
    """A row's maximum is found while earlier rows are computed; ignored rows, whatever they hold, change nothing."""
    x, y = logits(rng, (60, classes), np.float32), class_index(rng, (60, classes))
    loss, grad, _ = results(x, y, label_smoothing=smoothing)
    scattered = [np.flatnonzero(rng.random(60) < share) for share in (0.3, 0.9)]
    for kept in ([0], [59], [0, 59], range(0, 60, 2), range(30, 60), *scattered):
        some = np.isin(np.arange(60), kept)
        dirty = np.where(some[:, None], x, rng.choice(np.float32([np.nan, np.inf, 1e30, -np.inf]), x.shape))
        ours = results(dirty, np.where(some, y, -100), label_smoothing=smoothing)
        assert_array_equal(ours[0], np.where(some, loss, 0))
        assert_array_equal(ours[1], np.where(some[:, None], grad, 0))
        assert_array_equal(F.cross_entropy(dirty, np.where(some, y, -100), reduction="none", label_smoothing=smoothing), ours[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(21, 97, 101), (21, 64, 64), (3, 250, 250), (50_257,), (150_001,)])
def test_results_too_large_for_the_caches_have_the_bits_of_small_ones(shape, dtype, rng):
    """Large results are written with nontemporal stores; each row of them has the bits that it has alone."""

    def results_of_all(x, y):
        return *results(x, y), F.log_softmax_backward(x, x, 1)

    size = int(np.prod(shape))
    each = size * np.dtype(dtype).itemsize
    most = MACHINE["nontemporal_channels" if len(shape) > 1 else "nontemporal_long_rows" if each > LONG_ROW_BYTES else "nontemporal_rows"]
    count = min(most // each + 1, 2**25 // size)
    x = np.resize(logits(rng, (2, *shape), dtype), (count, *shape))
    y = np.resize(class_index(rng, (2, *shape)), (count, *shape[1:]))
    ours = results_of_all(x, y)
    for p in range(count):
        for many, alone in zip(ours, results_of_all(x[p : p + 1], y[p : p + 1]), strict=True):
            assert_array_equal(many[p], alone[0])


@pytest.mark.parametrize("shape", [(40, 3), (40, 16), (3, 5, 7), (3, 21, 40), (2, 10, 4, 9)])
def test_every_layout_and_in_place(shape, rng):
    x, y = logits(rng, shape), class_index(rng, shape)
    expected = results(x, y)
    for layout, lay in LAYOUTS.items():
        for ours, theirs in zip(results(lay(x), y), expected, strict=True):
            assert_array_equal(ours, theirs, err_msg=layout)
    again = x.copy()
    F.log_softmax(again, 1, out=again)
    assert_array_equal(again, expected[2])
    again = x.copy()
    F.cross_entropy_value_and_grad(again, y, reduction="none", out=again)
    assert_array_equal(again, expected[1])


@pytest.mark.parametrize("classes", [2, 10, 64, 65])
def test_logits_far_below_the_maximum_weigh_nothing(classes, rng):
    """-inf, and everything below the smallest exponential, add exactly 0; nan does not hide among them."""
    x = np.full((17, classes), -112.0, np.float32)
    x[:, 0] = 0.0
    x[::2, 1:] = -np.inf
    loss, grad, _ = results(x, np.zeros(17, np.int64))
    assert (loss == 0).all()
    assert (grad == 0).all()
    x[3, 1] = np.nan
    loss, grad, logp = results(x, np.zeros(17, np.int64))
    assert np.flatnonzero(np.isnan(loss)).tolist() == [3]
    assert np.flatnonzero(np.isnan(grad).any(1)).tolist() == [3]
    assert np.flatnonzero(np.isnan(logp).any(1)).tolist() == [3]


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 15), (3, 7, 17), (2, 21, 47), (5, 3, 16), (2, 70, 33)])
def test_logits_and_targets_in_another_order_than_the_result(shape, rng):
    """Classes first in memory, or last, under a result in C order: tiles that are not full are packed and unpacked in different ways."""
    x, y = logits(rng, shape), class_index(rng, shape)
    soft = rng.random(shape).astype(np.float32)
    options = {"label_smoothing": 0.1, "reduction": "none"}
    expected = (*results(x, y), *F.cross_entropy_value_and_grad(x, soft, **options), *F.cross_entropy_value_and_grad(x, y, **options))
    for order in ((1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 1, 0), (2, 0, 1)):
        back = np.argsort(order)
        a, b = (np.ascontiguousarray(v.transpose(order)).transpose(back) for v in (x, soft))
        again = (*results(a, y), *F.cross_entropy_value_and_grad(a, b, **options), *F.cross_entropy_value_and_grad(a, y, **options))
        for ours, theirs in zip(again, expected, strict=True):
            assert_array_equal(ours, theirs, err_msg=f"{order}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [64, 100, 2500])
def test_rows_of_a_group_do_not_touch_each_other(classes, dtype, rng):
    """Ordinary, confident, ignored and nan rows, in groups of every mixture: each has the bits that it has alone."""
    x, y = logits(rng, (41, classes), dtype), class_index(rng, (41, classes))
    lead = np.arange(41) % 3 == 1
    x[lead, y[lead]] = 90
    x[::7] = np.nan
    x[3::11, 5] = np.inf
    y[::5] = -100
    g = np.where(y == -100, np.inf, 2).astype(np.float32 if dtype.itemsize == 2 else dtype)
    loss, grad, logp = results(x, y)
    forced = F.cross_entropy_backward(g, x, y, reduction="none")
    assert (loss[::5] == 0).all() and (grad[::5] == 0).all() and (forced[::5] == 0).all()
    assert_array_equal(F.cross_entropy(x, y, reduction="none"), loss)
    for k in range(41):
        own = slice(k, k + 1)
        alone = (*results(x[own], y[own]), F.cross_entropy_backward(g[own], x[own], y[own], reduction="none"))
        for ours, theirs in zip(alone, (loss, grad, logp, forced), strict=True):
            assert_array_equal(ours.astype(float), theirs[own].astype(float), err_msg=str(k))  # NumPy knows bfloat16's nan from itself


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_too_long_to_keep_their_exponentials(dtype, rng):
    shape = (4, 100_003)
    x, y = logits(rng, shape, dtype), class_index(rng, shape)
    x[1, y[1]] = 50  # confident
    y[3] = -100
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none")
    wide = reference.log_softmax(x, 1)
    hit = (np.arange(shape[1]) == y[:, None]) & (y[:, None] >= 0)
    assert_loss(loss, np.where(y < 0, 0, -wide[np.arange(4), y]), dtype, terms=shape[1])
    assert_gradient(grad, x, np.exp(wide) * (y[:, None] >= 0), hit)
    F.cross_entropy_value_and_grad(x, y, reduction="none", out=x)
    assert_array_equal(x, grad)
