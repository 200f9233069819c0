"""Pictures are drawn without a window system."""

import pytest
from records import FACTS, record

from nbloss.bench.report import picture

pytest.importorskip("matplotlib")


def test_a_race_has_a_mark_for_every_timed_peer_at_its_multiple_of_nbloss(tmp_path):
    one = record(nbloss=1e-3, torch=2.5e-3, numpy=0.2, read=5e-4)
    one["contenders"]["jax"] = {"absent": "not installed"}
    figure = picture.races([one] * 5, FACTS)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7x5 float32"] * 5
    marks = {(round(line.get_xdata()[0], 9), line.get_ydata()[0]) for line in axes.lines if line.get_marker() not in ("", "None")}
    assert marks == {(x, place) for x in (1, 2.5, 200, 0.5) for place in range(1, 6)}  # line 0 names the operation
    assert [text.get_text() for text in axes.texts] == ["cross_entropy", *["1 ms"] * 5]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["nbloss", "torch", "numpy", "baseline (read)"]
    picture.try_write(tmp_path / "races.png", [one], FACTS, picture.races)
    assert (tmp_path / "races.png").read_bytes().startswith(b"\x89PNG")


def test_the_axis_has_ticks_and_says_what_a_multiple_is():
    figure = picture.races([record(nbloss=1e-3, torch=7e-3, read=5e-4)], FACTS)
    figure.canvas.draw()
    (axes,) = figure.axes
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert {"1x", "2x", "5x"} <= set(shown)
    assert "multiple of nbloss's time" in axes.get_xlabel()


def test_races_without_nbloss_are_multiples_of_the_baseline():
    (axes,) = picture.races([record(torch=7e-3, read=1e-3)], FACTS).axes
    assert "multiple of the time of the baseline" in axes.get_xlabel()
    assert 7 in [round(line.get_xdata()[0], 9) for line in axes.lines if line.get_marker() == "o"]


def test_a_library_has_one_style_in_all_pictures():
    some, more = record(nbloss=1, jax=2, read=1), record(nbloss=1, torch=2, numpy=3, jax=2, new=4, read=1)
    assert picture._styles([some])["jax"] == picture._styles([more])["jax"]
    assert len(set(picture._styles([more]).values())) == len(picture._styles([more]))


def test_a_race_without_timed_peers_has_a_panel_too():
    assert picture.races([record(read=5e-4)], FACTS).axes


def test_a_missing_matplotlib_is_reported_and_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    picture.try_write(tmp_path / "races.png", [record(read=5e-4)], FACTS, picture.races)
    assert "matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "races.png").exists()
