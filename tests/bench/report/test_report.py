"""The text shows every race, lost ones like won ones."""

import pytest
from records import record

from nbloss.bench.report import report


def test_a_loss_is_printed_like_a_win():
    text = report.verdict([record(nbloss=1.0, torch=2.0, read=0.1), record(nbloss=2.0, torch=1.0, read=0.1),
                           record(nbloss=1.0, torch=1.005, numpy=3.0, read=0.1)])  # fmt: skip
    first, win, loss, tie = text.split("\n")
    assert "1 won, 1 lost, 1 tied" in first
    assert "win" in win and "torch at 2.00x" in win
    assert "LOSS" in loss and "torch at 0.50x" in loss
    assert "tie" in tie


def test_variants_and_memory_baselines_are_no_rivals():
    assert "No race" in report.verdict([record(nbloss=1.0, nbloss_fresh=0.5, read=0.1)])
    assert "No race" in report.verdict([record(torch=1.0, read=0.1)])


def test_the_table_of_a_race_has_a_line_for_every_peer():
    one = record(nbloss=1e-3, torch=2e-3, read=5e-4)
    one["contenders"] |= {"jax": {"absent": "not installed"}, "scipy": {"wrong": "off\nby one"}}
    head, *lines = report.race_table(one).split("\n")
    assert head.split()[:3] == ["cross_entropy", "7x5", "float32"] and "x read" in head
    assert [line.split()[0] for line in lines] == ["(read)", "nbloss", "torch", "jax", "scipy"]
    assert "2.00" in lines[1] and "1 ms" in lines[1] and "2.00" in lines[2] and "absent: not installed" in lines[3]
    assert "wrong: off by one" in lines[4]


def test_the_matrix_has_a_row_per_race_and_a_column_per_rival_that_was_timed():
    records = [record(nbloss=1e-3, torch=2.5e-3, read=5e-4), record(shape="9x5", nbloss=2e-3, numpy=1e-3, read=5e-4)]
    head, rows = report.matrix(records)
    assert head == ["", "nbloss", "x copy/read", "numpy", "torch"]
    assert rows == [["cross_entropy  7x5 float32", "1 ms*", "2.00 read", "", "2.5x"],
                    ["cross_entropy  9x5 float32", "2 ms", "4.00 read", "0.5x*", ""]]  # fmt: skip
    assert all(len(line) < 140 for line in report.summary(records).split("\n"))


def test_without_nbloss_the_matrix_has_times():
    assert report.matrix([record(torch=2.5e-3, read=5e-4)])[1] == [["cross_entropy  7x5 float32", "", "", "2.5 ms*"]]


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us"), (3e-9, "0.003 us")])
def test_durations(seconds, text):
    assert report.duration(seconds) == text
