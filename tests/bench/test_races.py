"""Which races run."""

import pytest

from nbloss.bench.problem import DTYPES, OPERATIONS, Problem
from nbloss.bench.races import CORE, DEFAULT, QUICK, SHAPES, SMALL, USUAL, VALUE_AND_GRAD, chosen


def test_without_a_choice_the_default_races_run():
    pytest.importorskip("ml_dtypes")
    assert chosen(None, None, None, quick=False) == list(DEFAULT)
    assert chosen(None, None, None, quick=True) == list(QUICK)
    assert {(VALUE_AND_GRAD, shape, "float32") for shape in SHAPES} <= set(DEFAULT)


def test_a_choice_means_every_combination():
    assert chosen(["nll_loss"], ["7x5", "5x7.T"], ["float64"], quick=True) == [("nll_loss", s, "float64") for s in ("7x5", "5x7.T")]
    assert chosen(None, ["7x5"], None, quick=False) == [(operation, "7x5", "float32") for operation in USUAL]
    assert chosen(["nll_loss"], None, None, quick=False) == [("nll_loss", shape, "float32") for shape in CORE]
    assert len(chosen(["nll_loss", "nll_loss"], ["7x5", "7x5"], None, quick=False)) == 1


def test_small_calls_of_every_operation_are_added_to_the_default_races_only():
    pytest.importorskip("ml_dtypes")
    races = chosen(None, None, None, quick=False, more=SMALL)
    assert races[: len(DEFAULT)] == list(DEFAULT) and len(races) == len(set(races))
    assert {(operation, "32x10", "float32") for operation in OPERATIONS} <= set(races)
    assert chosen(["nll_loss"], ["7x5"], None, quick=False, more=SMALL) == [("nll_loss", "7x5", "float32")]


def test_all_stands_for_every_value():
    pytest.importorskip("ml_dtypes")
    races = chosen(["all"], ["all"], ["all"], quick=False)
    assert len(races) == len(set(races)) == len(OPERATIONS) * len(SHAPES) * len(DTYPES)


def test_there_are_ten_shapes():
    shapes = {Problem.parse(text).shape for text in SHAPES}
    assert len(shapes) == 9, "the transposed one has the shape of another"
    assert {(32, 10), (65536, 10), (4096, 1000), (128, 128256), (8, 21, 512, 512), (64, 10, 28, 28)} < shapes
