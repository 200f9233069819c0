"""Pieces: every element once, at its own position, through views that a kernel can walk."""

import numpy as np
import pytest

from nbloss.kernels import layouts
from nbloss.kernels.layouts import BLOCK_BYTES, pieces


@pytest.fixture(autouse=True)
def fresh_plans():
    """Plans are kept; those of a test with other limits must not outlive it."""
    layouts._plan.cache_clear()
    yield
    layouts._plan.cache_clear()


def random_view(rng, shape, dtype, write=False):
    """A view of the shape with random order of axes, steps, signs, gaps and, where it is only read, strides of 0."""
    order = rng.permutation(len(shape))
    big, cut = [], []
    for k in order:
        n, kind = shape[k], rng.integers(0, 6 if not write else 5)
        step, gap = (2, 0) if kind == 1 else (1, rng.integers(0, 3)) if kind == 2 else (1, 0)
        if kind == 5:
            big.append(1)
            cut.append(slice(None))
            continue
        big.append(n * step + gap)
        cut.append(slice(None, n * step, step) if kind != 3 else slice(n - 1, None, -1) if n else slice(0, 0))
    memory = np.arange(1, np.prod(big, dtype=int) + 1).astype(dtype).reshape(big)
    view = memory[tuple(cut)]
    if not write:
        view = np.broadcast_to(view, [shape[k] for k in order])
    return view.transpose(np.argsort(order)), memory


def rows(array, axis):
    """The definition: positions in C order of the other axes."""
    array = array.reshape(array.shape or 1)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def check(inputs, out, axis):
    """Run ``pieces`` as kernels would, and compare every element with the definition."""
    expected = [None if a is None else rows(a, axis) for a in inputs]
    count, total = 0, 0
    for piece in pieces(axis, inputs, out):
        assert piece.start == total
        total = piece.stop
        count += 1
        for view, wanted in zip(piece.inputs, expected, strict=True):
            if view is None:
                assert wanted is None
                continue
            outer, classes, inner = view.shape
            assert outer * inner == piece.stop - piece.start
            assert not any(s % view.itemsize for s, n in zip(view.strides, view.shape, strict=True) if n > 1)
            np.testing.assert_array_equal(view.transpose(0, 2, 1).reshape(-1, classes), wanted[piece.start : piece.stop])
        if piece.out is not None:
            numbers = -np.arange(piece.start, piece.stop).reshape(piece.out.shape[0], 1, -1)
            piece.out[...] = numbers - 0.25 * np.arange(piece.out.shape[1])[:, None]
    positions = len(expected[0])
    assert total == positions
    if out is not None:
        np.testing.assert_array_equal(rows(out, axis), -np.arange(positions)[:, None] - 0.25 * np.arange(out.shape[axis]))
    return count


@pytest.mark.parametrize("least", [0, 50, 10**9])
@pytest.mark.parametrize("block", [1, 200, BLOCK_BYTES])
def test_random_views_are_walked_once_and_nothing_beside_out_is_touched(least, block, rng, monkeypatch):
    monkeypatch.setattr(layouts, "PIECE_MIN_ELEMENTS", least)
    monkeypatch.setattr(layouts, "BLOCK_BYTES", block)
    for _ in range(150):
        shape = rng.integers(1, 5, rng.integers(1, 6))
        axis = int(rng.integers(0, len(shape)))
        x, _ = random_view(rng, shape, np.float64)
        y, _ = random_view(rng, shape, np.float32)
        out, memory = random_view(rng, shape, np.float64, write=True)
        inside = np.zeros(memory.shape, bool)
        inside.reshape(-1)[out.astype(int).reshape(-1) - 1] = True
        before = memory.copy()
        check([x, None, y], out, axis)
        np.testing.assert_array_equal(memory[~inside], before[~inside])


@pytest.mark.parametrize(
    ("array", "axis", "count"),
    [
        (np.zeros((64, 50)), 1, 1),
        (np.zeros((50, 64)).T, 1, 1),
        (np.zeros((4, 9, 500)).swapaxes(1, 2)[:, :, :-1], 1, 1),
        (np.zeros((4, 129, 320))[:, :-1].swapaxes(1, 2), 1, 1),
        (np.zeros((2, 16, 16, 9)).transpose(0, 3, 1, 2), 1, 1),
        (np.zeros((3, 40, 32, 32))[:, :, ::2, 1:-1], 1, 3),
        (np.zeros((2, 3, 40, 9, 9, 9)).transpose(0, 2, 1, 3, 4, 5)[:, :, :, ::2, :, 1:-1], 1, 6 * 5),
        (np.zeros((1, 40, 1, 30)), 1, 1),
        (np.zeros(7), 0, 1),
        (np.zeros(()), 0, 1),
        (np.zeros((0, 5)), 1, 0),
        (np.zeros((5, 0)), 1, 0),
    ],
)
def test_a_call_has_as_few_pieces_as_possible(array, axis, count, monkeypatch):
    monkeypatch.setattr(layouts, "PIECE_MIN_ELEMENTS", 100)
    found = list(pieces(axis, [array]))
    assert len(found) == count
    assert all(np.shares_memory(view, array) for piece in found for view in piece.inputs)


@pytest.mark.parametrize(("rows_", "classes"), [(9, 5), (30_000, 7), (3, 100_000)])
def test_fields_of_records_are_copied_in_blocks(rows_, classes, rng):
    record = np.zeros((rows_, classes), np.dtype([("flag", np.uint8), ("x", np.float32), ("out", np.float32)]))
    record["x"] = rng.standard_normal((rows_, classes))
    record["flag"] = 7
    x, plain = record["x"], np.array(record["x"])
    for axis in (0, 1):
        check([x, plain], record["out"].astype(np.float64), axis)
        check([plain], record["x"].astype(np.float64)[:, ::-1], axis)
        for piece in pieces(axis, [x], record["out"]):
            assert piece.inputs[0].nbytes <= max(BLOCK_BYTES, 4 * x.shape[axis])
            piece.out[...] = 2 * piece.inputs[0]
        np.testing.assert_array_equal(record["out"], 2 * x)
    assert (record["flag"] == 7).all()


@pytest.mark.parametrize("axis", range(4))
def test_in_any_order_an_array_in_fortran_order_is_one_piece(axis, rng):
    x = np.asfortranarray(rng.standard_normal((3, 4, 5, 6)))
    out = np.empty_like(x)
    (piece,) = pieces(axis, [x], out, any_order=True)
    piece.out[...] = piece.inputs[0]
    np.testing.assert_array_equal(out, x)
    assert piece.inputs[0].shape[1] == x.shape[axis]
    assert np.shares_memory(piece.inputs[0], x)
    (piece,) = pieces(axis, [x.T], any_order=True)
    assert piece.stop == x.size // x.T.shape[axis]
