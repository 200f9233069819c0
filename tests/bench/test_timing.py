"""Races have the promised structure. Nothing here says how fast anything is: tests run on busy machines."""

import json

import pytest

from nbloss.bench import timing
from nbloss.bench.peers import PEERS, Problem
from nbloss.bench.timing import Plan, race, ratio_to_yardstick

SHORT = Plan(rounds=3, pause=0.0, turn=1e-4)
OPERATION = "cross_entropy_value_and_grad"


def contender(value=None, error=None):
    """A setup for the table: one that gives the right answer (or `value`), or one that fails."""

    def setup(problem):
        if error is not None:
            raise error
        answer = problem.answer(OPERATION) if value is None else value
        return lambda: answer

    return setup


@pytest.fixture
def table(monkeypatch):
    peers = {
        "nbloss": contender(),
        "right": contender(),
        "wrong": contender(value=(0.0, 0.0)),
        "absent": contender(error=NotImplementedError("not installed")),
        "broken": contender(error=TypeError("the API moved")),
    }
    monkeypatch.setitem(PEERS, OPERATION, peers)


def test_a_race_times_who_is_right_and_reports_the_others(table):
    told = []
    record = race(OPERATION, Problem((7, 5)), plan=SHORT, progress=told.append)
    contenders = record["contenders"]
    assert set(contenders) == {"nbloss", "right", "wrong", "absent", "broken", "copy", "read"}
    assert contenders["absent"] == {"absent": "not installed"}
    assert contenders["broken"] == {"failed": "TypeError: the API moved"}
    assert list(contenders["wrong"]) == ["wrong"]
    for name in ("nbloss", "right", "copy", "read"):
        result = contenders[name]
        assert 0 < result["low"] <= result["seconds"] <= result["high"]
        assert result["calls"] >= 3 * 3
        assert result["to_yardstick"] == result["seconds"] / contenders["copy"]["seconds"]
        assert result["to_nbloss"] == result["seconds"] / contenders["nbloss"]["seconds"]
    assert (record["operation"], record["shape"], record["dtype"]) == (OPERATION, [7, 5], "float32")
    assert told and all(OPERATION in text for text in told)
    assert json.loads(json.dumps(record)) == record


def test_a_race_without_nbloss_has_no_ratio_to_it(table):
    record = race(OPERATION, Problem((7, 5)), ["right", "no such peer"], SHORT)
    assert set(record["contenders"]) == {"right", "copy", "read"}
    assert record["contenders"]["right"]["to_nbloss"] is None


def test_every_contender_has_one_turn_per_round_in_changing_order(monkeypatch):
    turns = []
    monkeypatch.setattr(timing, "_turn", lambda run, samples, batch: turns.append(run()) or 1.0)
    names = "abcdef"
    timing._interleaved({n: lambda n=n: n for n in names}, Plan(rounds=8, pause=0.0, turn=1e-4), lambda text: None)
    rounds = [tuple(turns[i : i + len(names)]) for i in range(0, len(turns), len(names))]
    assert [sorted(r) for r in rounds] == [list(names)] * 8
    assert len(set(rounds)) > 1


def test_the_ratio_for_asv_is_a_number_or_a_skip(table):
    assert ratio_to_yardstick(OPERATION, "right", Problem((7, 5)), SHORT) > 0
    with pytest.raises(NotImplementedError):
        ratio_to_yardstick(OPERATION, "absent", Problem((7, 5)), SHORT)
