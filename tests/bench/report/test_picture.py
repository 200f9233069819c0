"""Pictures are drawn without a window system."""

import pytest
from records import FACTS, record

from nbloss.bench.report import picture

pytest.importorskip("matplotlib")


def test_a_panel_has_a_bar_for_every_timed_peer(tmp_path):
    one = record(nbloss=1e-3, torch=2.5e-3, numpy=0.2, read=5e-4)
    one["contenders"]["jax"] = {"absent": "not installed"}
    figure = picture.races([one] * 5, FACTS)
    panels = [p for p in figure.axes if p.patches]
    assert len(panels) == 5
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["nbloss", "torch", "numpy"]
    assert [bar.get_width() for bar in panels[0].patches] == [1e-3, 2.5e-3, 0.2]
    assert "2.5 ms  (2.5x)" in [text.get_text() for text in panels[0].texts]
    picture.try_write(tmp_path / "races.png", [one], FACTS, picture.races)
    assert (tmp_path / "races.png").read_bytes().startswith(b"\x89PNG")


def test_a_race_without_timed_peers_has_a_panel_too():
    assert picture.races([record(read=5e-4)], FACTS).axes


def test_a_missing_matplotlib_is_reported_and_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    picture.try_write(tmp_path / "races.png", [record(read=5e-4)], FACTS, picture.races)
    assert "matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "races.png").exists()
