"""Turns, samples and quartiles. No test asserts a speed."""

from nbloss.bench.measure.clock import Plan, quartiles, schedule, takes_part, turn, wall_clock


def test_the_wall_clock_gives_seconds_per_call():
    calls = []
    assert 0 < wall_clock(lambda: calls.append(sum(range(10000))), 5) < 1
    assert len(calls) == 5


def test_short_calls_are_batched_and_long_calls_are_timed_one_by_one():
    plan = Plan(rounds=7, pause=0.0)
    assert schedule(None, plan, lambda run, calls: 1e-6) == (7, 200, 50)
    assert schedule(None, plan, lambda run, calls: 1e-3) == (7, 12, 1)
    assert schedule(None, plan, lambda run, calls: 0.2) == (5, 1, 1)
    assert schedule(None, plan, lambda run, calls: 60.0) == (3, 1, 1)


def test_a_turn_is_the_median_after_an_untimed_call():
    calls, seconds = [], iter([3.0, 1.0, 2.0])
    assert turn(lambda: calls.append(1), 3, 1, lambda run, batch: next(seconds)) == 2.0
    assert calls == [1]


def test_turns_are_spread_evenly_over_the_rounds():
    assert [takes_part(k, 3, 6) for k in range(6)] == [False, True] * 3
    assert all(takes_part(k, 6, 6) for k in range(6))


def test_quartiles_of_one_value_are_that_value():
    assert list(quartiles([2.0])) == [2.0] * 3
    assert list(quartiles([1.0, 2.0, 3.0, 4.0, 5.0])) == [2.0, 3.0, 4.0]
