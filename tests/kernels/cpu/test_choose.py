"""The chooser: both ways into the kernels get the same algorithm, and every kernel that it names exists."""

from importlib import import_module
from itertools import product

import numpy as np
import pytest

from nbloss.kernels.cpu import choose
from nbloss.kernels.cpu.choose import MODULES, Choice
from nbloss.kernels.cpu.tuning import CHANNELS_MIN_POSITIONS, LANES_MAX_CLASSES, TRANSPOSED_MIN_CLASSES
from nbloss.kernels.math.epilogue import RowOptions, typed

CLASSES = [1, 2, LANES_MAX_CLASSES, LANES_MAX_CLASSES + 1, 200, 1000, TRANSPOSED_MIN_CLASSES]
INNER = [1, 2, CHANNELS_MIN_POSITIONS - 1, CHANNELS_MIN_POSITIONS, 500]


def algorithm(choice):
    """The last two words of a general kernel's module, or the algorithm in a fused kernel's name."""
    words = choice.kernel.split(".")
    return words[-1].partition("_")[2] if words[-2] == "fused" else words[-3]


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(("classes", "inner"), [(c, i) for c, i in product(CLASSES[1:], INNER) if c <= LANES_MAX_CLASSES or i == 1])
def test_the_fused_way_has_the_algorithm_of_the_general_way(classes, inner, gradient):
    x = np.empty((3, classes, inner), np.float32)
    general = choose.choose("cross_entropy", [x], x if gradient else None)
    for sums in (False, True):
        fused = choose.fused("cross_entropy", [x], x if gradient else None, sums)
        assert algorithm(fused) == algorithm(general)
        assert fused.grain.chunk == general.grain.chunk
        assert general.why in fused.why
        assert fused.view == general.view


def choices():
    """A choice for every operation, layout and kind of options."""
    every = None, RowOptions(0.1), RowOptions(None, None, 30.0, 1.0)
    for classes, inner, transposed, row_options in product([*CLASSES, TRANSPOSED_MIN_CLASSES + 1], INNER, (False, True), every):
        shape = (3, classes, inner)
        x = np.empty(shape[::-1], np.float32).transpose(2, 1, 0) if transposed else np.empty(shape, np.float32)
        for operation in MODULES:
            inputs = [x, x] if operation.endswith("softmax_backward") or operation.startswith("nll") else [x]
            for out in (np.empty(shape, np.float32), x) if "softmax" in operation else (None, np.empty(shape, np.float32)):
                yield choose.choose(operation, inputs, out, row_options if operation in ("cross_entropy", "cross_entropy_soft") else None)
        for operation, sums, out in product(("nll", "cross_entropy", "cross_entropy_soft"), (False, True), (None, x)):
            options = row_options if operation != "nll" else None
            yield choose.fused(operation, [x, x] if operation.endswith("soft") else [x], out, sums, options)
    yield from (choose.ROW_SCALE, choose.ROW_SUM, choose.NLL, choose.nll_backward(10))


def test_every_kernel_that_is_named_exists():
    names = {choice.kernel for choice in choices()}
    assert len(names) > 20
    for name in names:
        module, _, function = name.rpartition(".")
        assert callable(getattr(import_module(module), function)), name


def test_every_choice_gives_a_reason_and_a_grain():
    for choice in choices():
        assert isinstance(choice, Choice)
        assert choice.why
        assert choice.grain.elements > 0 and choice.grain.multiple > 0 and choice.grain.chunk >= choice.grain.multiple


@pytest.mark.parametrize("classes", [2, LANES_MAX_CLASSES, LANES_MAX_CLASSES + 1, TRANSPOSED_MIN_CLASSES, TRANSPOSED_MIN_CLASSES + 1])
def test_the_rows_of_a_transposed_array_are_positions(classes):
    rows = np.empty((classes, 70), np.float32).T[:, :, None]  # rows that are neighbours in memory
    channels = np.empty((1, classes, 70), np.float32)
    assert choose.choose("cross_entropy", [rows], None)[:2] == choose.choose("cross_entropy", [channels], None)[:2]


def test_row_options_never_take_the_pipeline():
    x = np.empty((2, 21, 5000), np.float32)
    assert algorithm(choose.choose("cross_entropy", [x], x)) == "channels_first"
    assert algorithm(choose.choose("cross_entropy", [x], x, RowOptions(0.1))) == "row_per_lane"


def test_options_are_in_the_type_that_is_computed_in():
    """A float64 option would make a row's bits depend on the layout."""
    kinds = [type(v) for v in typed(RowOptions(0.1, None, 30.0, 1.0), np.dtype(np.float32))]
    assert kinds == [np.float32, type(None), np.float32, np.float32]
    assert typed(None, np.dtype(np.float32)) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("cap", "scale"), [(1e300, 1.0), (1e-300, 1.0), (1e-300, 1e300), (1e300, 1e-300), (None, 1e300), (30.0, 0.5)])
def test_a_cap_and_a_scale_have_a_finite_ratio_in_any_type(cap, scale, dtype):
    with np.errstate(all="raise"):
        options = typed(RowOptions(None, None, cap, scale), np.dtype(dtype))
        assert 0 < options.logit_scale < np.inf
        if cap is not None:
            assert 0 < options.softcap < np.inf
    if cap is not None:
        with np.errstate(all="ignore"):
            assert options.logit_scale / options.softcap < np.inf
    if (cap, scale) == (30.0, 0.5):
        assert options == RowOptions(None, None, 30.0, 0.5)


def test_mapped_logits_have_kernels_of_their_own_above_48_classes():
    capped = RowOptions(None, None, 30.0, 1.0)
    for x in (np.empty((40, 100, 1), np.float32), np.empty((4, 100, 30), np.float32)):
        assert algorithm(choose.choose("cross_entropy", [x], x, capped)) == "mapped"
        assert algorithm(choose.fused("cross_entropy_soft", [x, x], x, True, capped)) == "mapped"
    x = np.empty((40, LANES_MAX_CLASSES, 1), np.float32)
    assert algorithm(choose.choose("cross_entropy", [x], x, capped)) == "row_per_lane"
