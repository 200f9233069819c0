"""The points of `bench scaling` as text and as a picture."""

import pytest
from records import FACTS, record

from nbloss.bench.problem import Problem
from nbloss.bench.report import curves


def test_a_point_is_one_line_with_the_timed_peers():
    one = record(nbloss=35e-9, read=1e-9) | {"sweep": "classes"}
    one["contenders"]["jax"] = {"absent": "not installed"}
    assert "nbloss 1, read 0.0286" in curves.line(one) and "jax" not in curves.line(one)


def test_curves_have_a_panel_per_sweep_and_a_line_per_peer():
    pytest.importorskip("matplotlib")
    records = [record(shape=f"{n}x{c}", nbloss=1e-5, copy=1e-6, read=1e-6) | {"sweep": sweep, "threads": threads}
               for sweep, n, c, threads in (("classes", 8, 2, 2), ("classes", 4, 4, 2), ("rows of 10 classes", 8, 10, 2),
                                            ("threads at 8x2", 8, 2, 2), ("threads at 8x2", 8, 2, 1))]  # fmt: skip
    figure = curves.curves(records, FACTS)
    assert len(figure.axes) == 3
    assert [line.get_label() for line in figure.axes[0].lines] == ["nbloss", "copy (memory baseline)"]
    assert list(figure.axes[0].lines[0].get_xdata()) == [2, 4]
    assert list(figure.axes[2].lines[0].get_xdata()) == [1, 2]
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([1e-5 / 16 * 1e9] * 2)
    assert Problem.parse("8x2").size == 16
