"""`python -m nbloss bench scaling`: its points, its numbers, its picture."""

import json

import pytest
from records import FACTS, record

from nbloss.bench import main, scaling
from nbloss.bench.peers import cpus
from nbloss.bench.problem import Problem
from nbloss.bench.timing import Plan


def test_the_sweeps_cover_two_to_a_quarter_of_a_million_classes():
    points = scaling.sweeps(quick=False)
    classes = [shape for sweep, shape, _ in points if sweep == "classes"]
    assert [c for _, c in classes] == [2**k for k in range(1, 19)]
    assert {n * c for n, c in classes} == {scaling.SIZE}
    rows = [n for sweep, (n, _), _ in points if sweep == "rows of 1000 classes"]
    assert rows[0] == 1 and rows[-1] * 1000 > scaling.SIZE / 4 and rows == sorted(rows)
    assert {t for _, _, t in points} == set(range(1, cpus() + 1))


def test_a_point_is_nanoseconds_per_number():
    one = record(nbloss=35e-9, read=1e-9) | {"sweep": "classes"}
    one["contenders"]["jax"] = {"absent": "not installed"}
    assert scaling.per_number(one, "nbloss") == pytest.approx(1.0)
    assert scaling.per_number(one, "jax") is None
    assert "nbloss 1, read 0.0286" in scaling.line(one) and "jax" not in scaling.line(one)


def test_it_measures_writes_and_draws(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scaling, "QUICK", Plan(rounds=2, pause=0.0, turn=1e-4))
    monkeypatch.setattr(scaling, "sweeps", lambda quick: [("classes", (9, 5), cpus()), ("rows of 5 classes", (9, 5), cpus()),
                                                          ("threads at 9x5", (9, 5), 1)])  # fmt: skip
    numbers, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    assert main(["scaling", "--quick", "--peers", "numpy", "--json", str(numbers), "--png", str(picture)]) == 0
    races = json.loads(numbers.read_text())["races"]
    assert [race["sweep"] for race in races] == ["classes", "rows of 5 classes", "threads at 9x5"]
    assert {"nbloss", "nbloss_fresh", "numpy"} < set(races[1]["contenders"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("ns per number") == 3
    assert main(["scaling", "--from", str(numbers), "--png", str(picture)]) == 0, "drawn again from the numbers"


def test_curves_have_a_panel_per_sweep_and_a_line_per_contender():
    pytest.importorskip("matplotlib")
    from nbloss.bench.curves import curves

    records = [record(shape=f"{n}x{c}", nbloss=1e-5, copy=1e-6, read=1e-6) | {"sweep": sweep, "threads": threads}
               for sweep, n, c, threads in (("classes", 8, 2, 2), ("classes", 4, 4, 2), ("rows of 10 classes", 8, 10, 2),
                                            ("threads at 8x2", 8, 2, 2), ("threads at 8x2", 8, 2, 1))]  # fmt: skip
    figure = curves(records, FACTS)
    assert len(figure.axes) == 3
    assert [line.get_label() for line in figure.axes[0].lines] == ["nbloss", "copy (what memory takes)"]
    assert list(figure.axes[0].lines[0].get_xdata()) == [2, 4]
    assert list(figure.axes[2].lines[0].get_xdata()) == [1, 2]
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([1e-5 / 16 * 1e9] * 2)
    assert Problem.parse("8x2").size == 16


def test_numbers_of_bench_are_no_points(tmp_path, capsys):
    from nbloss.bench import files

    files.write(tmp_path / "bench.json", [record(nbloss=1.0, read=0.5)], FACTS)
    assert main(["scaling", "--from", str(tmp_path / "bench.json")]) == 2
    assert "scaling" in capsys.readouterr().err
