"""`python -m nbloss bench`: its output, its files and its errors."""

import json

import pytest
from records import FACTS, record, variant

from nbloss.bench import cli, main
from nbloss.bench.measure import files, scaling
from nbloss.bench.measure.clock import Plan
from nbloss.bench.session import cpus

SHORT = Plan(rounds=2, pause=0.0, turn=1e-4)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(cli, "QUICK", SHORT)


def test_it_prints_a_table_and_writes_json_and_a_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    numbers, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    races = "--op cross_entropy log_softmax --shape 7x5 2x3x4x5 2x1.T --dtype float32 float64 --peers nbloss numpy"
    status = main(["--quick", *races.split(), "--json", str(numbers), "--png", str(picture)])
    assert status == 0
    printed = capsys.readouterr().out
    assert "cross_entropy  2x3x4x5 float64" in printed and "numpy" in printed and "quartiles" in printed
    written = json.loads(numbers.read_text())
    assert len(written["races"]) == 2 * 3 * 2
    assert written["machine"]["versions"]["numpy"] and written["machine"]["cpus"] >= 1
    assert all(set(r["contenders"]) == {"nbloss", "numpy", "copy", "read"} for r in written["races"])
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "12"], "(12,)"),
        (["--shape", "3xfour"], "'3xfour'"),
        (["--shape", "0x5"], "(0, 5)"),
        (["--op", "softmin"], "softmin"),
        (["--dtype", "int32"], "int32"),
        (["--peers", "tensorflow"], "tensorflow"),
        (["--json", "no/such/folder/x.json"], "no/such/folder"),
        (["--threads", "0"], "--threads"),
        (["--threads", "99999"], "--threads"),
        (["--from", "no.json"], "no.json"),
        (["--compare", "no.json"], "no.json"),
        (["--compare", "."], "no nbloss package"),
        (["--compare", ".", "--peers", "numpy"], "--peers"),
        (["--compare", ".", "--from", "no.json"], "--from"),
        (["--fill", "no.md"], "no.md"),
        (["scaling", "--op", "nll_loss"], "--op"),
        (["--variants", "--op", "softmin"], "softmin"),
        (["--variants", "--shape", "3x4"], "3x4"),
        (["--variants", "--only", "nothing"], "nothing"),
        (["--variants", "--only", "smoothing", "--op", "nll_loss"], "--only"),
        (["--variants", "--peers", "numpy"], "--peers"),
        (["--variants", "--from", "no.json"], "no.json"),
        (["--variants", "--fill", "no.md"], "no.md"),
        (["--frobnicate"], "--frobnicate"),
        (["--shape"], "--shape"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_give_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_help_is_not_an_error(capsys):
    for command in ([], ["scaling"], ["--variants"]):
        assert main([*command, "--help"]) == 0
        assert "--quick" in capsys.readouterr().out


def test_ctrl_c_keeps_the_finished_races(tmp_path, monkeypatch, capsys):
    from nbloss.bench.measure import timing

    real, calls = timing.race, []

    def race(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr("nbloss.bench.measure.timing.race", race)
    numbers = tmp_path / "bench.json"
    assert main(["--quick", "--op", "nll_loss", "--shape", "7x5", "6x5", "5x5", "--peers", "numpy", "--json", str(numbers)]) == 130
    assert [r["shape"] for r in json.loads(numbers.read_text())["races"]] == ["7x5"]
    assert "nll_loss  7x5 float32" in capsys.readouterr().out


def test_earlier_results_are_shown_drawn_filled_in_and_compared_without_a_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    numbers, picture, page = tmp_path / "bench.json", tmp_path / "bench.png", tmp_path / "page.md"
    files.write(numbers, [record("cross_entropy_value_and_grad", "32x10", nbloss=1.0, torch=2.0, read=0.1)], FACTS)
    page.write_text("<!-- nbloss bench: short -->\n<!-- end of nbloss bench -->\n")
    monkeypatch.setattr("nbloss.bench.measure.timing.race", None)
    paths = ["--from", str(numbers), "--compare", str(numbers), "--png", str(picture), "--fill", str(page)]
    assert main(paths) == 0
    printed = capsys.readouterr().out
    assert "1 won" in printed and "10.00 -> 10.00" in printed and "Abacus" in printed
    assert picture.exists() and "| cross_entropy_value_and_grad" in page.read_text()


def test_threads_restrict_the_run_and_nothing_after_it(tmp_path):
    before, numbers = cpus(), tmp_path / "bench.json"
    assert main(["--quick", "--threads", "1", "--op", "nll_loss", "--shape", "7x5", "--peers", "numpy", "--json", str(numbers)]) == 0
    assert json.loads(numbers.read_text())["machine"]["cpus"] == 1
    assert cpus() == before


def test_a_wrong_peer_is_shown_and_gives_status_1(monkeypatch, capsys):
    from nbloss.bench.peers import PEERS

    monkeypatch.setitem(PEERS["cross_entropy"], "numpy", lambda problem: lambda: 1e9)
    assert main(["--quick", "--op", "cross_entropy", "--shape", "7x5", "--peers", "numpy"]) == 1
    assert "wrong: numpy cross_entropy on 7x5 float32" in capsys.readouterr().out


def test_scaling_measures_writes_and_draws(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scaling, "sweeps", lambda quick: [("classes", (9, 5), cpus()), ("rows of 5 classes", (9, 5), cpus()),
                                                          ("threads at 9x5", (9, 5), 1)])  # fmt: skip
    numbers, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    assert main(["scaling", "--quick", "--peers", "numpy", "--json", str(numbers), "--png", str(picture)]) == 0
    races = json.loads(numbers.read_text())["races"]
    assert [race["sweep"] for race in races] == ["classes", "rows of 5 classes", "threads at 9x5"]
    assert {"nbloss", "nbloss_fresh", "numpy"} < set(races[1]["contenders"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("ns per logit") == 3
    assert main(["scaling", "--from", str(numbers), "--png", str(picture)]) == 0, "drawn again from the results"


def test_results_of_bench_are_no_points_of_scaling(tmp_path, capsys):
    files.write(tmp_path / "bench.json", [record(nbloss=1.0, read=0.5)], FACTS)
    assert main(["scaling", "--from", str(tmp_path / "bench.json")]) == 2
    assert "scaling" in capsys.readouterr().err


def test_variants_are_measured_written_drawn_and_filled_in(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(cli.variant_race, "QUICK", SHORT)
    numbers, picture, page = tmp_path / "variants.json", tmp_path / "variants.png", tmp_path / "page.md"
    page.write_text("<!-- nbloss bench: variants -->\n<!-- end of nbloss bench -->\n")
    chosen = ["--op", "cross_entropy", "nll_loss", "--shape", "32x10", "--only", "sum", "weight"]
    paths = ["--json", str(numbers), "--png", str(picture), "--fill", str(page)]
    assert main(["--variants", "--quick", *chosen, *paths]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(("0 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4")) and "race 4 of 4" in err
    written = json.loads(numbers.read_text())
    assert [(r["operation"], r["variant"]) for r in written["races"]] == [
        ("cross_entropy", "weight"), ("cross_entropy", "sum"), ("nll_loss", "weight"), ("nll_loss", "sum")
    ]  # fmt: skip
    assert written["machine"]["cpus"] >= 1 and picture.read_bytes().startswith(b"\x89PNG") and "| sum | 1.1 |" in page.read_text()
    before = page.read_text()
    assert main(["--variants", "--from", str(numbers), "--png", str(picture), "--fill", str(page)]) == 0, "drawn again from the results"
    assert page.read_text() == before
    assert main(["scaling", "--from", str(numbers)]) == 2


def test_a_ratio_above_its_limit_is_no_error(tmp_path, capsys):
    files.write(tmp_path / "variants.json", [variant(ratio=9.0, to_torch=0.1)], FACTS)
    assert main(["--variants", "--from", str(tmp_path / "variants.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 1 within the wanted limits; 0 of 1 faster than torch"
