"""Comparisons of two result files and of two source trees as text."""

from records import record

from nbloss.bench.measure.trees import summary
from nbloss.bench.report import comparison


def test_a_comparison_is_independent_of_a_slow_machine():
    then = [record(nbloss=1.0, read=0.5), record(shape="9x5", nbloss=1.0, read=0.5), record(shape="8x5", nbloss=1.0, read=0.5)]
    now = [record(nbloss=2.0, read=1.0), record(shape="9x5", nbloss=1.0, read=0.25), record(shape="8x5", nbloss=0.5, read=0.5)]
    _, same, slower, faster = comparison.compare(then, now).split("\n")
    assert "same" in same and "2.00 -> 2.00" in same
    assert "SLOWER" in slower and "(+100%)" in slower
    assert "FASTER" in faster and "(-50%)" in faster


def test_a_comparison_without_common_races_reports_that():
    assert "no race" in comparison.compare([record(nbloss=1.0, read=0.5)], [record(dtype="float64", nbloss=1.0, read=0.5)])


RACE = {"operation": "cross_entropy", "shape": "7x5", "dtype": "float32", "threads": 2}


def test_two_trees_are_shown_race_by_race_and_counted():
    trees = {name: {"path": f"/{name}", "version": "1.2"} for name in ("old", "new")}
    assert comparison.head(trees).split("\n")[:2] == ["old: nbloss 1.2 in /old", "new: nbloss 1.2 in /new"]
    records = [RACE | summary([1.0] * 3, [k * s for s in (0.99, 1.0, 1.01)]) for k in (1.5, 0.5, 1.0)] + [RACE | {"failed": "old: no"}]
    slower, faster, same, failed = map(comparison.line, records)
    assert slower.split()[:2] == ["SLOWER", "cross_entropy"] and "1 s" in slower and "1.5 s" in slower and "1.492 - 1.508" in slower
    assert "FASTER" in faster and "500 ms" in faster and "0.500" in faster
    assert same.split()[0] == "same"
    assert "not compared: old: no" in failed
    *_, left_out, counts = comparison.tally(records, 0.03).split("\n")
    assert (left_out, counts) == ("not compared: 1", "slower: 1, faster: 1, same: 1")
