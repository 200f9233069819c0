"""Comparing two source trees. No test asserts a speed."""

import json
import os
import re
import signal
import sys

import pytest
from records import FACTS, record

from nbloss.bench import cli, main
from nbloss.bench.measure import files, trees
from nbloss.bench.measure.clock import Plan
from nbloss.bench.session import BadArguments

SHORT = Plan(rounds=3, pause=0.0, turn=1e-4)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(trees, "QUICK", SHORT)


def package(folder, init="", functional=""):
    """A source tree with another package."""
    (folder / "nbloss").mkdir(parents=True)
    (folder / "nbloss" / "__init__.py").write_text(init)
    (folder / "nbloss" / "functional.py").write_text(functional)
    return str(folder)


def test_the_tree_compared_with_itself(short, tmp_path, capsys):
    numbers = tmp_path / "trees.json"
    command = ["--quick", "--compare", trees.HERE, "--op", "nll_loss", "cross_entropy", "--shape", "7x5", "--json", str(numbers)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"old: nbloss 0.1.0 in {trees.HERE}" in printed and "nll_loss  7x5 float32" in printed and "new/old" in printed
    counts = re.fullmatch(r"slower: (\d), faster: (\d), same: (\d)", printed.strip().split("\n")[-1])
    assert sum(map(int, counts.groups())) == 2
    written = json.loads(numbers.read_text())
    assert written["machine"]["cpus"] >= 1 and set(written["trees"]) == {"old", "new"}
    for race in written["comparisons"]:
        assert race["rounds"] == len(race["ratios"]) == 3
        assert race["verdict"] in ("slower", "faster", "same")
        for part in ("old", "new"):
            assert 0 < race[part]["low"] <= race[part]["seconds"] <= race[part]["high"]
        assert race["ratio"]["low"] <= race["ratio"]["median"] <= race["ratio"]["high"]


def test_a_tree_that_cannot_run_a_race_is_reported_and_the_status_is_0(short, tmp_path, capsys):
    old = package(tmp_path / "old", functional="def nll_loss(x, y):\n    return x[0, 0]\n")
    assert main(["--quick", "--compare", old, "--op", "nll_loss", "log_softmax", "--shape", "7x5"]) == 0
    printed = capsys.readouterr().out
    assert "not compared: old: ValueError: wrong result" in printed and "not compared: old: AttributeError" in printed
    assert "not compared: 2\nslower: 0, faster: 0, same: 0" in printed


@pytest.mark.parametrize(
    ("init", "message"),
    [("raise RuntimeError('half written')", "half written"), ("import os; os._exit(3)", "status 3")],
    ids=["error", "exit"],
)
def test_a_tree_that_cannot_be_imported_gives_one_line_and_status_2(init, message, tmp_path, capsys):
    assert main(["--compare", package(tmp_path / "old", init)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_a_folder_without_the_package_is_refused(tmp_path):
    with pytest.raises(BadArguments, match="no nbloss package"):
        trees.Pair(str(tmp_path))


def test_a_json_file_keeps_its_meaning(tmp_path, capsys):
    files.write(tmp_path / "bench.json", [record(nbloss=1.0, read=0.1)], FACTS)
    path = str(tmp_path / "bench.json")
    assert cli.main(["--from", path, "--compare", path]) == 0
    assert "10.00 -> 10.00" in capsys.readouterr().out


def test_the_turns_alternate_between_old_and_new(monkeypatch):
    asked = []

    class Fake(trees.Worker):
        def send(self, do, **values):
            asked.append((self.tree, do))

        def receive(self):
            return {"schedule": [4, 9, 2] if self.tree == "/old" else [3, 7, 5], "seconds": 1.0 if self.tree == "/old" else 2.0}

        def ask(self, do, **values):
            if do == "turn":
                assert values == {"samples": 7, "batch": 5}
            return super().ask(do, **values)

    pair = object.__new__(trees.Pair)
    pair.workers = {"old": Fake("/old"), "new": Fake("/new")}
    found = pair.race("nll_loss", "7x5", "float32", Plan(rounds=6, pause=0.0))
    assert [tree for tree, do in asked if do == "turn"] == ["/old", "/new"] * 3, "as often as the slower one allows"
    assert found["ratios"] == [2.0] * 3 and found["verdict"] == "slower"


def test_a_crashed_worker_is_started_again():
    worker = trees.Worker(trees.HERE)
    try:
        assert worker.ask("hello") == {"version": "0.1.0"}
        os.kill(worker.process.pid, signal.SIGTERM)
        worker.process.wait()
        assert worker.ask("hello") == {"version": "0.1.0"} and worker.processor_seconds > 0
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([1.5, 1.6, 1.7], "slower"),
        ([0.5, 0.6, 0.7], "faster"),
        ([0.9, 1.04, 1.2], "same"),
        ([1.02, 1.02, 1.02], "same"),
        ([0.98] * 3, "same"),
    ],
)
def test_a_verdict_needs_both_quartiles_beyond_the_margin(factors, verdict):
    assert trees.summary([2.0] * 3, [2.0 * factor for factor in factors])["verdict"] == verdict


def test_the_worker_uses_the_python_of_this_process_and_the_public_functions_only():
    source = (trees.Path(trees._SCRIPT)).read_text()
    assert "nbloss.functional" in source and "nbloss.kernels" not in source and "nbloss.bench" not in source.split('"""')[2]
    assert sys.version_info >= (3, 11), "the option -P"
