"""Short rows and pixels go through tiles of 16 (8) positions: every count of classes, every way of lying in memory, every ragged end."""

from itertools import pairwise

import numpy as np
import pytest
import reference
from layouts import LAYOUTS
from numpy.testing import assert_array_equal
from problems import FLOATS, assert_gradient, assert_loss, class_index, logits

import nbloss.functional as F

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
    """A row alone, in a ragged tile and in the middle of many: the same bits, and nothing beside it is touched."""
    x, y = logits(rng, (50, classes), dtype), class_index(rng, (50, classes))
    loss, grad, logp = results(x, y)
    for start, stop in pairwise([0, 1, 3, 18, 19, 34, 50]):
        room = np.full((52, classes), 7, dtype)
        inside = room[1 : 1 + stop - start]
        some, _ = F.cross_entropy_value_and_grad(x[start:stop], y[start:stop], reduction="none", out=inside)
        assert_array_equal(some, loss[start:stop])
        assert_array_equal(inside, grad[start:stop])
        assert_array_equal(F.log_softmax(x[start:stop], 1, out=inside), logp[start:stop])
        assert (room[0] == 7).all()
        assert (room[1 + stop - start :] == 7).all()


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
def test_arrays_that_are_walked_in_other_ways_than_the_result(shape, rng):
    """Classes first in memory, or last, under a result in C order: ragged tiles are brought and carried in different ways."""
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
