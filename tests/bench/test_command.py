"""`python -m nbloss bench`: what it writes, and what it says to bad arguments."""

import json

import pytest

from nbloss.bench import main, report
from nbloss.bench.timing import Plan


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("nbloss.bench.timing.QUICK", Plan(rounds=2, pause=0.0, turn=1e-4))


def test_it_prints_a_table_and_writes_json_and_a_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    numbers, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    races = "--op cross_entropy log_softmax --shape 7x5 2x3x4x5 1x2 --dtype float32 float64 --peers nbloss numpy"
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
        (["--frobnicate"], "--frobnicate"),
        (["--shape"], "--shape"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_are_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_help_is_not_an_error(capsys):
    assert main(["--help"]) == 0
    assert "--quick" in capsys.readouterr().out


def record(**seconds):
    contenders = {n: {"seconds": s, "low": s * 0.99, "high": s * 1.01, "calls": 9, "to_yardstick": 1.0} for n, s in seconds.items()}
    for result in contenders.values():
        result["to_nbloss"] = result["seconds"] / seconds["nbloss"]
    return {"operation": "cross_entropy", "shape": [7, 5], "dtype": "float32", "yardstick": "read", "bytes": 140,
            "rounds": 9, "contenders": contenders}  # fmt: skip


def test_a_loss_is_printed_like_a_win():
    text = report.verdict([record(nbloss=1.0, torch=2.0, read=0.1), record(nbloss=2.0, torch=1.0, read=0.1),
                           record(nbloss=1.0, torch=1.005, numpy=3.0, read=0.1)])  # fmt: skip
    first, win, loss, tie = text.split("\n")
    assert "1 won, 1 lost, 1 tied" in first
    assert "win" in win and "torch at 2.00x" in win
    assert "LOSS" in loss and "torch at 0.50x" in loss
    assert "tie" in tie


def test_a_busy_machine_is_said_to_be_one():
    facts = {"processor": "Abacus", "cpus": 2, "threads": {}, "versions": {}}
    assert "NOT A RESULT" in report.about(facts | {"others_cpus": 1.5})
    assert "NOT" not in report.about(facts | {"others_cpus": 0.02}) + report.about(facts | {"others_cpus": None})


def test_the_busy_meter_gives_a_number_or_nothing():
    others = report.BusyMeter().others
    assert sum(range(10**6)) and (others() is None or others() >= 0)


def test_a_wrong_contender_is_shown_and_is_an_error(monkeypatch, capsys):
    from nbloss.bench.peers import PEERS

    monkeypatch.setitem(PEERS["cross_entropy"], "numpy", lambda problem: lambda: 1e9)
    assert main(["--quick", "--op", "cross_entropy", "--shape", "7x5", "--peers", "numpy"]) == 1
    assert "wrong: numpy cross_entropy on 7x5 float32" in capsys.readouterr().out
