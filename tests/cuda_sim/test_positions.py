"""Threads that take several neighbouring positions, against threads that take one: the same bits in every result."""

import calls
import numpy as np
import pytest
from problems import name
from test_cross_entropy import made

import nbloss
import nbloss.functional as F
from nbloss.backends.array_interop import numpy_dtype
from nbloss.kernels.cuda.channels_first import positions

HALF_TYPES = ["float16", "bfloat16"]
# dtype, (outer, C, inner), positions of a thread
CASES = [
    *[(dtype, (2, 5, 8), 8) for dtype in HALF_TYPES],
    *[(dtype, (1, 21, 12), 4) for dtype in HALF_TYPES],
    *[(dtype, (2, 7, 4), 4) for dtype in HALF_TYPES],
    *[(dtype, (2, 5, 6), 1) for dtype in HALF_TYPES],
    ("float32", (2, 7, 12), 4),
    ("float32", (2, 21, 4), 2),
    ("float32", (3, 3, 6), 2),
    ("float32", (2, 7, 5), 1),
    ("float64", (2, 7, 6), 2),
    ("float64", (2, 7, 5), 1),
    ("float64", (1, 9, 4), 1),
]


@pytest.fixture
def widths(monkeypatch):
    """The numbers of positions that were chosen."""
    found, choose = [], positions.per_thread

    def noted(*arguments):
        found.append(choose(*arguments))
        return found[-1]

    monkeypatch.setattr(positions, "per_thread", noted)
    return found


def narrow(call, monkeypatch):
    """The result of a call whose threads take one position."""
    with monkeypatch.context() as patch:
        patch.setattr(positions, "per_thread", lambda *arguments: 1)
        return call()


def bits(array):
    return array.view(f"u{array.itemsize}")


def with_specials(x, target):
    """Some positions hold nan or infinity. The last of them is ignored; its neighbours are not."""
    rows = x.transpose(0, 2, 1)
    rows[0, 0, 1], rows[0, 1, 2], rows[0, 2, 0] = -np.inf, np.nan, np.inf
    rows[-1, -1] = -np.inf
    rows[-1, -2] = np.nan
    target[-1, -2] = -100


def same(wide, one):
    for a, b in zip(wide, one, strict=True):
        np.testing.assert_array_equal(bits(np.asarray(a)), bits(np.asarray(b)))


@pytest.mark.parametrize("sm80", [True, False], ids=["", "before sm_80"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {name(case[1])}")
def test_the_bits_do_not_depend_on_the_positions_of_a_thread(rng, case, sm80, widths, monkeypatch):
    dtype, shape, expected = case
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(calls.kernels.kernel_set, "sm80", sm80)
    x, target, w, _ = made(rng, shape, numpy_dtype(dtype), weighted=True)
    with_specials(x, target)
    x = calls.with_offset(x, 0)
    g = rng.uniform(0.5, 2, target.shape)

    def results():
        both = calls.with_offset(x, 0)
        loss, gradient = calls.cross_entropy(x, target, w, g=g, out=calls.with_offset(x, 0))
        in_place, overwritten = calls.cross_entropy(both, target, w, g=g, out=both)
        alone = calls.cross_entropy(x, target, w, gradient=False)[0]
        log_p = calls.log_softmax(x, calls.with_offset(x, 0))
        log_p_in_place = calls.with_offset(x, 0)
        calls.log_softmax(log_p_in_place, log_p_in_place)
        p = calls.softmax(x, calls.with_offset(x, 0))
        same((in_place, overwritten, alone, log_p_in_place), (loss, gradient, loss, log_p))
        assert (gradient[-1, :, -2] == 0).all() and loss[-1, -2] == 0
        return loss, gradient, log_p, p

    wide = results()
    assert set(widths) == {expected}
    same(wide, narrow(results, monkeypatch))


@pytest.mark.parametrize(("offset", "expected"), [(0, 4), (2, 2), (3, 1)])
def test_unaligned_addresses(rng, offset, expected, widths):
    """Arrays that are aligned to 8 bytes only are read in accesses of 8 bytes, and others one number at a time."""
    x, target, w, _ = made(rng, (2, 5, 8), np.float32)
    aligned = calls.cross_entropy(calls.with_offset(x, 0), target, w, out=calls.with_offset(x, 0))
    widths.clear()
    same(calls.cross_entropy(calls.with_offset(x, offset), target, w, out=calls.with_offset(x, 0)), aligned)
    same(calls.cross_entropy(calls.with_offset(x, 0), target, w, out=calls.with_offset(x, offset)), aligned)
    assert widths == [expected, expected]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(3, 3, 400), (2, 21, 4)], ids=name)
def test_the_last_block_adds_the_losses(rng, shape, reduction, widths, monkeypatch):
    """With fewer blocks than with one position per thread; 150 threads of 8 positions are two blocks."""
    x, target, _, _ = made(rng, shape, np.float16)
    x = nbloss.to_device(x, "cuda")

    def call():
        return [nbloss.to_host(result) for result in F.cross_entropy_value_and_grad(x, target, reduction=reduction)]

    wide = call()
    assert widths and min(widths) > 1
    same(wide, narrow(call, monkeypatch))
