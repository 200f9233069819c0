"""Races have the documented structure. No test asserts a speed, because tests run on busy machines."""

import json
from itertools import pairwise

import pytest

from nbloss.bench.measure import timing
from nbloss.bench.measure.clock import Plan
from nbloss.bench.measure.timing import race
from nbloss.bench.peers import PEERS
from nbloss.bench.problem import Problem

SHORT = Plan(rounds=3, pause=0.0, turn=1e-4)
OPERATION = "cross_entropy_value_and_grad"


def peer(value=None, error=None):
    """A setup function for the table: its callable returns the expected result or `value`, or the setup raises `error`."""

    def setup(problem):
        if error is not None:
            raise error
        answer = problem.answer(OPERATION) if value is None else value
        return lambda: answer

    return setup


@pytest.fixture
def table(monkeypatch):
    peers = {
        "nbloss": peer(),
        "right": peer(),
        "wrong": peer(value=(0.0, 0.0)),
        "absent": peer(error=NotImplementedError("not installed")),
        "broken": peer(error=TypeError("the API moved")),
    }
    monkeypatch.setitem(PEERS, OPERATION, peers)


def test_a_race_times_the_right_peers_and_reports_the_others(table):
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
    assert (record["operation"], record["shape"], record["dtype"]) == (OPERATION, "7x5", "float32")
    assert told and all(OPERATION in text for text in told)
    assert json.loads(json.dumps(record)) == record


def test_a_race_without_nbloss_has_no_ratio_to_it(table):
    record = race(OPERATION, Problem((7, 5)), ["right", "no such peer"], SHORT)
    assert set(record["contenders"]) == {"right", "copy", "read"}
    assert record["contenders"]["right"]["to_nbloss"] is None


def turns_of(monkeypatch, seconds, plan):
    """The order of the turns of peers whose calls take the given seconds on a simulated clock."""
    turns = []
    monkeypatch.setattr(timing, "turn", lambda run, samples, batch, timer: turns.append(run()) or 1.0)
    runs = {name: lambda name=name: name for name in seconds}
    timing.interleaved(runs, plan, lambda run, calls: seconds[run()], lambda text: None)
    return turns


def test_every_peer_has_one_turn_per_round_in_a_changing_order(monkeypatch):
    names = "abcdef"
    turns = turns_of(monkeypatch, dict.fromkeys(names, 1e-3), Plan(rounds=8, pause=0.0, turn=1e-4))
    rounds = [tuple(turns[i : i + len(names)]) for i in range(0, len(turns), len(names))]
    assert [sorted(r) for r in rounds] == [list(names)] * 8
    assert len(set(rounds)) > 1


def test_a_slow_peer_skips_rounds_evenly(monkeypatch):
    turns = turns_of(monkeypatch, {"quick": 1e-3, "slow": 0.5, "slowest": 60.0}, Plan(rounds=12, pause=0.0, budget=3.0))
    assert [turns.count(name) for name in ("quick", "slow", "slowest")] == [12, 6, 3]
    at = [turns[: i + 1].count("quick") for i, name in enumerate(turns) if name == "slowest"]
    assert at[0] <= 5 and at[-1] >= 11 and min(b - a for a, b in pairwise(at)) >= 3


def test_a_race_accepts_another_timer(table):
    record = race(OPERATION, Problem((7, 5)), ["right"], SHORT, timer=lambda run, calls: (run(), 42.0)[1])
    assert record["contenders"]["right"]["seconds"] == 42


def test_variants_of_nbloss_run_only_where_they_are_named(monkeypatch):
    monkeypatch.setitem(PEERS, OPERATION, {"nbloss": peer(), "nbloss_fresh": peer()})
    assert "nbloss_fresh" not in race(OPERATION, Problem((7, 5)), plan=SHORT)["contenders"]
    assert "nbloss_fresh" in race(OPERATION, Problem((7, 5)), ["nbloss_fresh"], SHORT)["contenders"]
