"""Arrays of any layout: the bits of C order, and nothing beside the output is touched."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from nbloss.kernels.cpu import choose, kernel_set
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES
from nbloss.kernels.math.epilogue import RowOptions

# Each shape is (outer, C, inner): partial vectors of classes and of positions, runs shorter than a vector, several blocks
SHAPES = [(70, 53, 1), (1, 100, 37), (3, 49, 64), (5, 130, 5), (2, 1030, 19), (9, 64, 16), (600, 300, 1)]
FEW = [(40, 3, 1), (3, 21, 70), (5, 48, 7)]  # these take other kernels
OPERATIONS = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward", "cross_entropy", "cross_entropy_soft"]
OPERATIONS += ["nll_soft", "nll_soft_backward", "nll_backward", "cross_entropy of capped logits", "cross_entropy_soft of scaled logits"]
STORED = {"float32": np.float32, "float64": np.float64, "float16": np.uint16, "bfloat16": np.int16}
LAYOUTS = [
    "".join(signs) + order for order in ("ocj", "ojc", "coj", "jco", "joc") for signs in product("+-2", repeat=3) if signs.count("2") < 3
]


def laid_out(array, layout):
    """A view with the numbers of an (outer, C, inner) array whose axes lie in memory in the order of the last three letters.

    The first three characters belong to the axes o, c, j: walked forwards, backwards, or every second element. Returns the view, its
    memory, and a mask of the elements of the memory that belong to it.
    """
    axes = ["ocj".index(letter) for letter in layout[3:]]
    steps = [layout[k] for k in axes]
    memory = np.zeros([array.shape[k] * (2 if step == "2" else 1) + 3 for k, step in zip(axes, steps, strict=True)], array.dtype)
    memory[...] = 77
    cut = tuple(
        slice(1, 1 + n * (2 if step == "2" else 1), 2 if step == "2" else 1)
        for n, step in zip([array.shape[k] for k in axes], steps, strict=True)
    )
    view = memory[cut]
    view = view[tuple(slice(None, None, -1) if step == "-" else slice(None) for step in steps)].transpose(np.argsort(axes))
    view[...] = array
    mine = np.zeros(memory.shape, bool)
    mine[cut] = True
    return view, memory, mine


def stored(rng, shape, dtype, scale=3):
    x = (rng.standard_normal(shape) * scale).astype(np.float64 if dtype == "float64" else np.float32)
    if dtype == "float16":
        return x.astype(np.float16).view(np.uint16)
    return (x.view(np.uint32) >> 16).astype(np.uint16).view(np.int16) if dtype == "bfloat16" else x


def operations(rng, shape, dtype):
    """name -> (function of inputs and out, arrays of inputs)."""
    computed = np.float64 if dtype == "float64" else np.float32
    x, g, y = (stored(rng, shape, dtype) for _ in range(3))
    outer, classes, inner = shape
    count = outer * inner
    target = rng.integers(0, classes, count)
    scale, upstream, w = (rng.random(n).astype(computed) for n in (count, count, classes))
    scale[::7] = 0
    options = RowOptions(0.125)

    def cross_entropy(x, out, options=options):
        loss = np.empty(count, computed)
        kernel_set.cross_entropy(x, target, -1, scale, options, None if out is None else upstream, loss, out)
        return loss

    def soft(x, y, out, options=None):
        loss = np.empty(count, computed)
        kernel_set.cross_entropy_soft(x, y, w, 0.9, 0.01, None, 0, None, None, options, None if out is None else upstream, loss, out)
        return loss

    probabilities = rng.random(shape).astype(computed)
    narrow = stored(rng, shape, "float16", 0.1)

    def nll_soft(logp, y, out):
        loss = np.empty(count, computed)
        kernel_set.nll_soft(logp, y, w, loss)
        return loss

    return {
        "nll_soft": (nll_soft, [x, narrow]),
        "nll_soft_backward": (lambda y, out: kernel_set.nll_soft_backward(y, None, upstream, out), [x]),
        "nll_backward": (lambda x, out: kernel_set.nll_backward(target, -1, scale, upstream, out), [x]),
        "log_softmax": (kernel_set.log_softmax, [x]),
        "softmax": (kernel_set.softmax, [x]),
        "softmax_backward": (kernel_set.softmax_backward, [g, y]),
        "log_softmax_backward": (kernel_set.log_softmax_backward, [g, y]),
        "cross_entropy": (cross_entropy, [x]),
        "cross_entropy_soft": (soft, [x, probabilities]),
        "cross_entropy of capped logits": (partial(cross_entropy, options=RowOptions(None, None, 5.0, 1.0)), [x]),
        "cross_entropy_soft of scaled logits": (partial(soft, options=RowOptions(None, None, None, 0.75)), [x, probabilities]),
    }


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", STORED)
def test_every_layout_of_every_array_gives_the_bits_of_c_order(name, dtype, rng):
    for shape in [*SHAPES, *FEW] if dtype == "float32" else SHAPES[:2]:
        function, inputs = operations(rng, shape, dtype)[name]
        expected = np.empty_like(inputs[0])
        losses = function(*inputs, expected)
        for _ in range(8):
            chosen = rng.choice(LAYOUTS, len(inputs) + 1)
            views = [laid_out(a, layout)[0] for a, layout in zip(inputs, chosen, strict=False)]
            out, memory, mine = laid_out(np.zeros_like(expected), chosen[-1])
            found = function(*views, out)
            if name == "nll_soft":
                assert_array_equal(found, losses, err_msg=f"{shape} {chosen}")
                continue
            assert_array_equal(out, expected, err_msg=f"{shape} {chosen}")
            assert (memory[~mine] == 77).all(), (shape, chosen)
            if losses is not None:
                assert_array_equal(found, losses, err_msg=f"{shape} {chosen}")
        if dtype == "float32" and losses is not None:
            assert_array_equal(function(*views, None), function(*inputs, None))
        if name == "nll_soft":
            continue
        own, memory, mine = laid_out(inputs[1 if name.endswith("softmax_backward") else 0], chosen[0])
        function(*([inputs[0], own] if name.endswith("softmax_backward") else [own, *inputs[1:]]), own)
        assert_array_equal(own, expected)
        assert (memory[~mine] == 77).all()


def test_only_layouts_without_contiguous_classes_are_copied():
    rows = np.empty((40, 100), np.float32)
    shifted = np.empty((4, 30, 100), np.float32)[:, :-1].swapaxes(1, 2)
    for x in (rows[:, :, None], rows[::-1, :, None], np.empty((40, 200), np.float32)[:, 50:150, None], shifted):
        assert ".vector_per_row." in choose.choose("cross_entropy", [x], x).kernel
    for x in (rows[:, ::-1, None], np.asfortranarray(rows)[:, :, None], np.empty((4, 100, 30), np.float32)):
        assert ".blocked." in choose.choose("cross_entropy", [x], x).kernel
        assert ".blocked." in choose.choose("cross_entropy", [rows[:, :, None]], rows[:, ::-1, None]).kernel
    few = np.empty((40, LANES_MAX_CLASSES), np.float32)[:, ::-1, None]
    assert ".row_per_lane." in choose.choose("cross_entropy", [few], few).kernel
