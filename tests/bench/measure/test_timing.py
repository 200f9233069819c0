"""Races have the promised structure. Nothing here says how fast anything is: tests run on busy machines."""

import json
from itertools import pairwise

import pytest

from nbloss.bench import timing
from nbloss.bench.peers import PEERS, Problem
from nbloss.bench.timing import Plan, race, wall_clock

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
    assert (record["operation"], record["shape"], record["dtype"]) == (OPERATION, "7x5", "float32")
    assert told and all(OPERATION in text for text in told)
    assert json.loads(json.dumps(record)) == record


def test_a_race_without_nbloss_has_no_ratio_to_it(table):
    record = race(OPERATION, Problem((7, 5)), ["right", "no such peer"], SHORT)
    assert set(record["contenders"]) == {"right", "copy", "read"}
    assert record["contenders"]["right"]["to_nbloss"] is None


def turns_of(monkeypatch, seconds, plan):
    """Who had a turn, in order, of contenders whose calls take so long by a clock of our own."""
    turns = []
    monkeypatch.setattr(timing, "_turn", lambda run, samples, batch, timer: turns.append(run()) or 1.0)
    runs = {name: lambda name=name: name for name in seconds}
    timing._interleaved(runs, plan, lambda run, calls: seconds[run()], lambda text: None)
    return turns


def test_every_contender_has_one_turn_per_round_in_changing_order(monkeypatch):
    names = "abcdef"
    turns = turns_of(monkeypatch, dict.fromkeys(names, 1e-3), Plan(rounds=8, pause=0.0, turn=1e-4))
    rounds = [tuple(turns[i : i + len(names)]) for i in range(0, len(turns), len(names))]
    assert [sorted(r) for r in rounds] == [list(names)] * 8
    assert len(set(rounds)) > 1


def test_a_slow_contender_sits_out_rounds_but_not_the_beginning_or_the_end_alone(monkeypatch):
    turns = turns_of(monkeypatch, {"quick": 1e-3, "slow": 0.5, "slowest": 60.0}, Plan(rounds=12, pause=0.0, budget=3.0))
    assert [turns.count(name) for name in ("quick", "slow", "slowest")] == [12, 6, 3]
    at = [turns[: i + 1].count("quick") for i, name in enumerate(turns) if name == "slowest"]
    assert at[0] <= 5 and at[-1] >= 11 and min(b - a for a, b in pairwise(at)) >= 3


def test_another_timer_may_be_given(table):
    record = race(OPERATION, Problem((7, 5)), ["right"], SHORT, timer=lambda run, calls: (run(), 42.0)[1])
    assert record["contenders"]["right"]["seconds"] == 42


def test_the_wall_clock_gives_seconds_per_call():
    calls = []
    assert 0 < wall_clock(lambda: calls.append(sum(range(10000))), 5) < 1
    assert len(calls) == 5


def test_variants_of_nbloss_race_where_they_are_named(monkeypatch):
    monkeypatch.setitem(PEERS, OPERATION, {"nbloss": contender(), "nbloss_fresh": contender()})
    assert "nbloss_fresh" not in race(OPERATION, Problem((7, 5)), plan=SHORT)["contenders"]
    assert "nbloss_fresh" in race(OPERATION, Problem((7, 5)), ["nbloss_fresh"], SHORT)["contenders"]
