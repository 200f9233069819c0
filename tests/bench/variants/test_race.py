"""Timing a variant: the record, its JSON, and what happens where a call fails or differs."""

import json

import numpy as np
import pytest

from nbloss.bench.measure.clock import Plan
from nbloss.bench.variants import calls, race, wanted

SHORT = Plan(rounds=2, pause=0.0, turn=1e-4, budget=1e-3)


@pytest.mark.parametrize("operation", wanted.OPERATIONS)
def test_a_record_has_ratios_and_fits_into_json(operation):
    variant = next(v for v in ("weight", "float64") if v in wanted.OPERATIONS[operation][0])
    record = race.measure(operation, variant, "32x10", SHORT)
    assert json.loads(json.dumps(record)) == record
    assert (record["operation"], record["variant"], record["shape"]) == (operation, variant, "32x10")
    assert record["limit"] == wanted.limit(operation, variant, "32x10")
    assert record["dtype"] == ("float64" if variant == "float64" else "float32")
    assert 0 < record["low"] <= record["ratio"] <= record["high"]
    assert set(record["contenders"]) == {"nbloss", "plain", "torch"}
    assert all({"seconds", "low", "high", "calls"} == set(record["contenders"][who]) for who in ("nbloss", "plain"))


@pytest.mark.parametrize("cell", wanted.cells(quick=True), ids=" ".join)
def test_torch_does_the_same(cell, monkeypatch):
    """The check before the timing: every variant of the quick run has torch's result."""
    pytest.importorskip("torch")
    monkeypatch.setattr(race, "interleaved", lambda runs, plan, tell: ({who: {} for who in runs}, {who: [1.0, None, 3.0] for who in runs}))
    record = race.measure(*cell)
    assert record["contenders"] == {"nbloss": {}, "plain": {}, "torch": {}}
    assert (record["ratio"], record["to_torch"]) == (1.0, 1.0)


def test_a_ratio_is_the_median_of_the_rounds_that_both_had():
    assert race._ratio([2.0, 6.0, None, 8.0], [1.0, 2.0, 5.0, None]) == [2.25, 2.5, 2.75]


def test_what_torch_lacks_or_computes_otherwise_is_not_timed(monkeypatch):
    monkeypatch.setattr(calls, "torch", lambda *given: lambda: _Tensor(7.0))
    record = race.measure(wanted.LOSS, "sum", "32x10", SHORT)
    assert "differs" in record["contenders"]["torch"]["wrong"] and record["to_torch"] is None and record["ratio"] > 0

    def absent(*given):
        raise NotImplementedError("not installed")

    monkeypatch.setattr(calls, "torch", absent)
    assert race.measure(wanted.LOSS, "sum", "32x10", SHORT)["contenders"]["torch"] == {"absent": "not installed"}
    left_out = race.measure(wanted.LOSS, "sum", "32x10", SHORT, with_torch=False)
    assert "absent" in left_out["contenders"]["torch"] and left_out["ratio"] > 0


def test_a_call_of_nbloss_that_fails_is_reported(monkeypatch):
    def fails(operation, call):
        raise ValueError("no such out")

    monkeypatch.setattr(calls, "nbloss", fails)
    record = race.measure(wanted.LOSS, "sum", "32x10", SHORT)
    assert record["contenders"] == {"nbloss": {"failed": "ValueError: no such out"}}
    assert record["ratio"] is None and record["to_torch"] is None


class _Tensor:
    """What the check needs of a tensor."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def detach(self):
        return self

    def double(self):
        return self

    def numpy(self):
        return self.value


@pytest.mark.parametrize(
    ("mine", "other", "dtype", "same"),
    [
        ([1.0, 2.0], [1.0, 2.00001], "float32", True),
        ([1.0, 2.0], [1.0, 2.1], "float32", False),
        ([1e-9, 2e-9], [0.0, 0.0], "float32", True),  # lost digits of confident rows, beside plain numbers of 1
        ([np.nan, -np.inf], [np.nan, -np.inf], "float32", True),
        ([1.0, np.inf], [1.0, -np.inf], "float32", False),
        ([1.0, 2.0], [1.0, np.nan], "float32", False),
        ([1.0, 2.0], [1.0, 2.3], "float16", False),
        ([1.0, 2.0], [1.0, 2.1], "float16", True),  # torch adds halves in half precision
        ([1.0, 2.0], [1.0, np.inf], "float32", False),
        ([1.0, np.inf], [1.0, 2.0], "float16", False),
        ([1.0, 2.0], [1.0, np.inf], "float16", True),  # torch's float16 sums overflow
        ([1.0, 2.0], [1.0, np.nan], "float16", True),
    ],
)
def test_the_results_are_compared(mine, other, dtype, same):
    try:
        race._compare(np.array(mine), _Tensor(other), np.array([1.0, 1.0]), dtype)
    except race.Different:
        assert not same
    else:
        assert same
