"""The variants, their shapes and their wanted limits."""

import pytest

from nbloss.bench.variants import inputs, wanted


def test_every_variant_has_arrays_and_a_limit_and_runs():
    made = {*inputs.MAKERS, *wanted.AXES}
    assert made == set(wanted.LIMITS)
    assert {variant for _, variant, _ in wanted.cells()} == made


def test_no_variant_runs_twice():
    found = wanted.cells()
    assert len(set(found)) == len(found)
    assert set(wanted.cells(quick=True)) < set(found)


@pytest.mark.parametrize(
    ("cell", "limit"),
    [
        ((wanted.VALUE_AND_GRAD, "weight", "65536x10"), 1.15),
        ((wanted.VALUE_AND_GRAD, "smoothing", "65536x10"), 1.3),
        ((wanted.VALUE_AND_GRAD, "smoothing", "32x10"), 2),
        ((wanted.VALUE_AND_GRAD, "Fortran order", "64x50257"), 3),
        ((wanted.VALUE_AND_GRAD, "Fortran order", "2048x1000"), 2),
        ((wanted.LOSS, "prob target", "2048x1000"), 2.2),
        ((wanted.BACKWARD, "prob target", "2048x1000"), 1.6),
        ((wanted.LOG_SOFTMAX, "axis 0, Fortran order", "32x10"), 3),
    ],
)
def test_limits(cell, limit):
    assert wanted.limit(*cell) == limit


def test_every_axis_of_two_to_four_dimensions_in_both_orders_but_the_plain_one():
    for operation in (wanted.LOG_SOFTMAX, wanted.LOG_SOFTMAX_BACKWARD):
        for shape, rank in (("1024x1024", 2), ("100x100x100", 3), ("32x32x32x32", 4)):
            variants = [variant for _, variant, _ in wanted.cells([operation], [shape])]
            every = {f"axis {axis}, {order}" for axis in range(rank) for order in ("C order", "Fortran order")}
            assert {*variants} == every - {f"axis {rank - 1}, C order"}


def test_views_are_of_rows_and_the_shift_is_of_tokens():
    shapes = {variant: {shape for _, v, shape in wanted.cells() if v == variant} for variant in wanted.LIMITS}
    assert shapes["next-token shift"] == {wanted.TOKENS}
    assert shapes["channels last"] == {wanted.PIXELS}
    assert all(shape.count("x") == 1 for shape in shapes["reversed classes"])


def test_cells_are_chosen_by_name():
    assert wanted.cells(["nll_loss"], ["32x10"], ["weight", "smoothing"]) == [("nll_loss", "weight", "32x10")]
    assert wanted.cells(["cross_entropy"], ["65536x10"], ["sum"], quick=True) == [("cross_entropy", "sum", "65536x10")]
    assert wanted.cells(["nll_loss"], [wanted.TOKENS]) == []
