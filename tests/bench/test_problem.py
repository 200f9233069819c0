"""Problems: their options, shapes and arrays."""

import numpy as np
import pytest

from nbloss.bench.problem import Problem, relative_error


@pytest.mark.parametrize(
    ("options", "message"),
    [({"shape": (5,)}, "shape"), ({"shape": (0, 5)}, "shape"), ({"shape": (7, 5), "dtype": "int8"}, "dtype"),
     ({"shape": (2, 3, 4), "transposed": True}, "transposed"),
     ({"shape": (7, 5), "axis": 0}, "axis"), ({"shape": (2, 3, 4), "axis": -1}, "axis")],
)  # fmt: skip
def test_a_problem_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Problem(**options)


def test_a_problem_is_the_same_for_the_same_seed():
    one, same, other = Problem((7, 5)), Problem((7, 5), axis=-1), Problem((7, 5), seed=1)
    np.testing.assert_array_equal(one.logits, same.logits)
    np.testing.assert_array_equal(one.target, same.target)
    assert (one.logits != other.logits).any()


def test_a_shape_is_parsed_and_written_alike():
    for text, shape in (("7x5", (7, 5)), ("2x3x4x5", (2, 3, 4, 5)), ("5x7.T", (7, 5))):
        problem = Problem.parse(text, "float64")
        assert (problem.shape, problem.shape_text, problem.dtype) == (shape, text, "float64")
        assert (problem.size, problem.rows) == (np.prod(shape), np.prod(shape) // shape[1])


def test_a_transposed_problem_has_the_same_numbers_with_strided_classes():
    flat, turned = Problem((7, 5)), Problem.parse("5x7.T")
    for name in ("logits", "log_probs", "grad_output"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(flat, name))
        assert getattr(turned, name).T.flags.c_contiguous


def test_the_relative_error_is_of_the_largest_value_and_keeps_nan():
    want = np.array([0.0, -4.0])
    assert relative_error(np.array([0.0, -3.0]), want) == 0.25
    assert np.isnan(relative_error(np.array([np.nan, -4.0]), want))
    assert relative_error(np.zeros(2), np.zeros(2)) == 0
