"""Errors of wrong arguments: the type of each, and what its message holds."""

import numpy as np
import pytest
from problems import name
from refusals import LOSSES, P, X, Y, every_loss, refused

import nbloss.functional as F

# ---- targets ---------------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("bad", [3, -1, 100, -99, 2**40, -(2**63), 2**63 - 1])
def test_a_target_outside_the_classes_is_an_index_error_that_says_where(bad, call):
    y = np.array([0, bad, 1, bad, 2])
    with refused(IndexError, "target", str(bad), "(1,)", "3", "2"):
        call(np.zeros((5, 3), np.float32), y)


@every_loss
def test_the_first_offender_in_reading_order_is_named_with_its_whole_index(call):
    y = np.zeros((4, 5, 6), int)
    y[2, 3, 1], y[2, 1, 4], y[3, 0, 0] = 77, 55, 66
    for target in (y, np.asfortranarray(y), y[:, ::-1].copy()[:, ::-1]):
        with refused(IndexError, "target", "55", "(2, 1, 4)", "7", "3"):
            call(np.zeros((4, 7, 5, 6), np.float32), target)


@every_loss
def test_an_unbatched_offender_is_named_too(call):
    with refused(IndexError, "target", "9", "()"):
        call(np.zeros(3, np.float32), 9)


@every_loss
@pytest.mark.parametrize(("integer", "bad"), [(np.uint8, 255), (np.int8, -1), (np.uint64, 2**64 - 100), (np.uint64, 2**63)], ids=name)
def test_the_offending_value_is_printed_as_its_own_type_has_it(integer, bad, call):
    """uint64(2^64 - 100) has the bits of the default ignore_index and must not pass for it."""
    with refused(IndexError, "target", str(bad), "(1,)"):
        call(X, np.array([0, bad], integer))


@every_loss
def test_true_is_no_class_of_a_single_class(call):
    with refused(IndexError, "target", "1"):
        call(np.zeros((2, 1), np.float32), np.array([False, True]))


@every_loss
def test_a_bad_target_in_many_rows_is_found_wherever_it_is(call):
    y = np.zeros(30001, np.int32)
    for at in (0, 12345, 30000):
        bad = y.copy()
        bad[at] = 3
        with refused(IndexError, "target", f"({at},)"):
            call(np.zeros((30001, 3), np.float32), bad)


@every_loss
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((2, 3), (1,)), ((3,), (1,)),
        ((2, 3, 4), (2, 3)), ((2, 3, 4), (2,)), ((2, 3, 4, 5), (2, 5, 4)), ((0, 3), (1,)),
    ],
    ids=name,
)  # fmt: skip
def test_a_target_of_the_wrong_shape_is_a_value_error_with_both_shapes(x, y, call):
    want = x[:0] if len(x) == 1 else (x[0], *x[2:])
    with refused(ValueError, "target", str(want), str(y)):
        call(np.zeros(x, np.float32), np.zeros(y, int))


@every_loss
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_class_numbers_are_a_type_error_with_the_cure(dtype, call):
    with refused(TypeError, "target", ".astype(np.int64)", np.dtype(dtype).name):
        call(X, Y.astype(dtype))


@every_loss
@pytest.mark.parametrize("dtype", [object, complex, "U3", "datetime64[s]"], ids=str)
def test_a_target_of_no_number_type_is_a_type_error(dtype, call):
    with refused(TypeError, "target"):
        call(X, np.zeros(2, dtype))
    with refused(TypeError, "target"):
        call(X, np.zeros((2, 3), dtype))


@every_loss
def test_float_targets_of_neither_shape_are_a_value_error(call):
    with refused(ValueError, "target", "(2, 4)", "(2, 3)"):
        call(X, np.zeros((2, 4), np.float32))


@every_loss
@pytest.mark.parametrize("ignored", [0, 1, 5])
def test_ignore_index_has_no_meaning_for_probabilities(ignored, call):
    with refused(ValueError, "ignore_index", str(ignored)):
        call(X, P, ignore_index=ignored)


# ---- inputs and weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool, complex, np.complex64, object, "U3", "datetime64[s]"], ids=str)
def test_logits_of_other_types_are_a_type_error_that_says_which_are_taken(dtype):
    x = np.zeros((2, 3), dtype)
    words = [
        "input",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        *([x.dtype.name] if x.dtype.name == str(x.dtype) else []),
    ]
    for call in LOSSES.values():
        with refused(TypeError, *words):
            call(x, Y)
    with refused(TypeError, *words):
        F.log_softmax(x)
    with refused(TypeError, "output"):
        F.log_softmax_backward(np.zeros((2, 3)), x)


@pytest.mark.skipif(np.finfo(np.longdouble).bits == 64, reason="long double is float64 here")
def test_long_double_is_refused_rather_than_rounded():
    with refused(TypeError, "input", "float64"):
        F.cross_entropy(X.astype(np.longdouble), Y)


@pytest.mark.parametrize("argument", ["input", "target", "weight"])
@every_loss
def test_masked_arrays_are_a_type_error(call, argument):
    """Their mask would be dropped in silence."""
    arguments = {"input": X, "target": Y, "weight": np.ones(3, np.float32)}
    arguments[argument] = np.ma.masked_array(arguments[argument])
    with refused(TypeError, argument, "mask"):
        call(*arguments.values())


def test_masked_arrays_are_a_type_error_for_log_softmax_too():
    with refused(TypeError, "input", "mask"):
        F.log_softmax(np.ma.masked_array(X))


@every_loss
def test_a_scalar_has_no_class_axis(call):
    with refused(ValueError, "input"):
        call(np.float32(1), 0)


@every_loss
@pytest.mark.parametrize("shape", [(2,), (4,), (), (1, 3), (3, 1), (0,)], ids=name)
def test_a_weight_of_the_wrong_shape_is_a_value_error_with_both_shapes(shape, call):
    with refused(ValueError, "weight", "(3,)", str(shape)):
        call(X, Y, np.ones(shape, np.float32))


@every_loss
@pytest.mark.parametrize("dtype", [complex, object, "U3"], ids=str)
def test_a_weight_of_no_float_type_is_a_type_error(dtype, call):
    with refused(TypeError, "weight"):
        call(X, Y, np.ones(3, dtype))


# ---- options ---------------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("bad", ["average", "MEAN", "", 3, True, ["mean"]], ids=str)
def test_an_unknown_reduction_is_a_value_error_with_the_choices(bad, call):
    with refused(ValueError, "reduction", repr(bad), "mean", "sum", "none"):
        call(X, Y, reduction=bad)


@pytest.mark.parametrize("bad", [-0.1, 1.1, -3, 2, np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("call", [LOSSES[k] for k in ("cross_entropy", "cross_entropy_backward", "value_and_grad")])
@pytest.mark.parametrize("target", [Y, P], ids=["index", "probability"])
def test_label_smoothing_outside_0_to_1_is_a_value_error(target, call, bad):
    with refused(ValueError, "label_smoothing", str(bad)):
        call(X, target, label_smoothing=bad)


CROSS_ENTROPIES = [LOSSES[k] for k in ("cross_entropy", "cross_entropy_backward", "value_and_grad")]
every_cross_entropy = pytest.mark.parametrize("call", CROSS_ENTROPIES, ids=["cross_entropy", "cross_entropy_backward", "value_and_grad"])
MEANING = {"label_smoothing": "a number in [0, 1]", "lse_square_scale": "a number, at least 0"}


@pytest.mark.parametrize("bad", [-1, -0.1, np.nan, np.inf, -np.inf, np.float32(-2)], ids=str)
@every_cross_entropy
@pytest.mark.parametrize("target", [Y, P], ids=["index", "probability"])
def test_an_lse_square_scale_that_is_negative_or_not_finite_is_a_value_error(target, call, bad):
    with refused(ValueError) as info:
        call(X, target, lse_square_scale=bad)
    assert str(info.value) == f"lse_square_scale should be a finite number, at least 0; got {float(bad)}"


@pytest.mark.parametrize("bad", ["x", "0.1", b"0.1", None, [0.1], np.ones(2), 1j, np.array("x")], ids=repr)
@every_cross_entropy
@pytest.mark.parametrize("option", MEANING)
def test_a_row_option_that_is_no_number_is_a_type_error(option, call, bad):
    with refused(TypeError) as info:
        call(X, Y, **{option: bad})
    assert str(info.value) == f"{option} should be {MEANING[option]}; got {bad!r}"


@every_cross_entropy
@pytest.mark.parametrize("zero", [0, 0.0, -0.0, np.float32(0), False, np.array(0)], ids=repr)
@pytest.mark.parametrize("option", MEANING)
def test_any_zero_means_no_row_option(option, zero, call):
    np.testing.assert_equal(call(X, Y, **{option: zero}), call(X, Y))


@pytest.mark.parametrize("call", [F.nll_loss, lambda *a, **k: F.nll_loss_backward(1.0, *a, **k)], ids=["nll_loss", "nll_loss_backward"])
@pytest.mark.parametrize("option", MEANING)
def test_nll_loss_has_no_row_options(option, call):
    with refused(TypeError, option):
        call(X, Y, **{option: 0.0})


@pytest.mark.parametrize("dim", [2, -3, 100])
def test_a_dim_out_of_range_is_an_axis_error(dim):
    with refused(np.exceptions.AxisError, str(dim), "2"):
        F.log_softmax(X, dim)
    with refused(np.exceptions.AxisError, str(dim), "2"):
        F.log_softmax_backward(X, X, dim)


@pytest.mark.parametrize("call", [F.cross_entropy, F.nll_loss])
def test_options_are_keyword_only(call):
    with pytest.raises(TypeError):
        call(X, Y, None, -100)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("call", [F.cross_entropy_backward, F.nll_loss_backward])
def test_a_grad_output_of_another_shape_is_a_value_error_with_both_shapes(call, reduction):
    want = (2,) if reduction == "none" else ()
    for shape in ((3,), (2, 1), (2, 3)):
        with refused(ValueError, "grad_output", str(want), str(shape)):
            call(np.ones(shape), X, Y, reduction=reduction)


def test_a_grad_output_of_log_softmax_has_the_shape_of_the_output():
    with refused(ValueError, "grad_output", "(2, 3)", "(3,)"):
        F.log_softmax_backward(np.ones(3, np.float32), X)


@pytest.mark.parametrize("call", [F.cross_entropy_backward, F.nll_loss_backward])
def test_a_complex_or_object_grad_output_is_a_type_error(call):
    for bad in (1j, np.array(None), "1"):
        with refused(TypeError, "grad_output"):
            call(bad, X, Y)
