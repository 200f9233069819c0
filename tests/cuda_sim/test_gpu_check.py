"""The smoke step of tools/gpu_check finds right results right, and wrong ones wrong. Where a GPU is, nobody has time to doubt it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from gpu_steps import smoke


def lines(capsys):
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("dtype", smoke.DTYPES)
@pytest.mark.parametrize("family", smoke.FAMILIES)
def test_the_kernels_are_right(family, dtype, capsys):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for shape in [(5, 7), (2, 4, 3)]:
        assert smoke.case(family, shape, smoke.numpy_dtype(dtype))
    assert [line["status"] for line in lines(capsys)] == ["passed", "passed"]


@pytest.mark.parametrize("family", smoke.FAMILIES)
def test_an_error_of_a_thousandth_is_found(family, monkeypatch, capsys):
    call, expectation = smoke.FAMILIES[family]

    def wrong(arrays):
        expected = expectation(arrays)
        return tuple(e * 1.001 for e in expected) if isinstance(expected, tuple) else expected * 1.001

    monkeypatch.setitem(smoke.FAMILIES, family, (call, wrong))
    assert not smoke.case(family, (5, 7), np.dtype(np.float32))
    assert lines(capsys)[0]["status"] == "failed"


def test_what_is_not_written_or_written_outside_is_found():
    poisoned = smoke.Poisoned((3, 4), np.float32)
    assert np.isnan(poisoned.checked()).all()
    poisoned.whole.geometry[smoke.GUARD - 1] = 0
    with pytest.raises(ValueError, match="outside of the result"):
        poisoned.checked()
