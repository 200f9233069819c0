"""The history of nbloss's speed: its suite, the committed results, and the pages of `tools/history`."""

import importlib.util
import itertools
import json
import re
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

import nbloss

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

pytestmark = pytest.mark.skipif(not RESULTS.is_dir(), reason="the wheel does not contain the suites")


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """`tools/history` as a module: it has no suffix. asv keeps a file in the home folder, and the tool changes folders."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("tools_history", str(ROOT / "tools" / "history"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def records(name="*"):
    paths = sorted(RESULTS.glob(f"*/{name}.json"))
    assert paths
    return [(path, json.loads(path.read_text())) for path in paths]


# ---------------------------------------- the suite ----------------------------------------


def test_processor_time_is_that_of_the_call():
    from benchmarks.history import processor_clock

    def busy():
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    assert 0.02 <= processor_clock(busy, 3) < 0.03
    assert processor_clock(lambda: time.sleep(0.05), 2) < 0.02


@pytest.fixture
def threads():
    before = nbloss.get_num_threads()
    yield
    nbloss.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_slower_call_gives_larger_ratios_and_a_wrong_one_none(monkeypatch):
    import nbloss.functional as F
    from benchmarks.history import OPERATION, measure

    plain = getattr(F, OPERATION)
    found = measure("64x100", ["copy", "numpy"], 5)
    monkeypatch.setattr(F, OPERATION, lambda *given, **named: [plain(*given, **named) for _ in range(4)][-1])
    slower = measure("64x100", ["copy", "numpy"], 5)
    assert all(slower[name] > 2 * found[name] > 0 for name in ("copy", "numpy"))

    monkeypatch.setattr(F, OPERATION, lambda x, y, **named: (plain(x, y, **named)[0] * 2, named["out"]))
    with pytest.raises(ValueError, match="wrong result"):
        measure("64x100", ["copy"], 1)


def test_a_point_is_the_median_of_processes(monkeypatch):
    from benchmarks.history import History, median_of_processes

    found = median_of_processes(
        [{"a": {"copy": 3.0, "numpy": 1.0}}, {"a": {"copy": 9.0, "numpy": 0.5}}, {"a": {"copy": 4.0, "numpy": 0.25}}]
    )
    assert found == {"a": {"copy": 4.0, "numpy": 0.5}}

    monkeypatch.setattr(History, "params", [["7x5", "5x7"], ["copy"]])
    monkeypatch.setattr(History, "processes", 2)
    monkeypatch.setattr(History, "rounds", 1)
    found = History().setup_cache()
    assert list(found) == ["7x5", "5x7"]
    assert all(History().track_ratio(found, shape, "copy") > 0 for shape in found)


# ---------------------------------------- the committed results ----------------------------------------


@pytest.mark.parametrize(
    ("cpu", "count", "name"),
    [
        ("AMD EPYC", "2", "amd-epyc-2"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", "4", "intel-xeon-platinum-8480-4"),
        ("Apple M2 Pro", "10", "apple-m2-pro-10"),
        ("aarch64", "1", "aarch64-1"),
    ],
)
def test_a_machine_is_named_for_its_processor(cpu, count, name):
    from benchmarks.machine import generic_name

    assert generic_name(cpu, count) == name


def test_the_results_name_no_host():
    from benchmarks.machine import generic_name

    described = {"arch", "cpu", "machine", "num_cpu", "os", "ram"}
    for path, record in records():
        of_machine = record if path.name == "machine.json" else record["params"]
        assert set(of_machine) - {"python", "version"} == described, path
        assert path.parent.name == of_machine["machine"] == generic_name(of_machine["cpu"], of_machine["num_cpu"])
        assert of_machine["os"] in ("Linux", "Darwin", "Windows")
        assert not record.get("env_vars")
        assert not [text for text in strings(record) if "/" in text or "\\" in text], path


def strings(value):
    """All texts in a JSON value, names of fields included."""
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_the_results_are_numbers_of_todays_suite():
    """asv drops results of another version without a word, and shows no point where a commit was not built."""
    from benchmarks.history import History

    for path, record in records("*-*"):
        values, params, version = record["results"]["history.History.track_ratio"][:3]
        assert version == History.version, path
        assert params == [[repr(value) for value in values] for values in History.params], path
        assert all(0 < value < 1000 for value in values), path
    kept = json.loads((RESULTS / "benchmarks.json").read_text())
    assert [name for name in kept if name != "version"] == ["history.History.track_ratio"]
    assert kept["history.History.track_ratio"]["version"] == History.version


# ---------------------------------------- the pages ----------------------------------------


def test_asvs_settings_stay_and_the_folders_change(tool):
    pytest.importorskip("asv")
    from asv.config import Config

    plain = vars(Config.load(str(ROOT / "asv.conf.json")))
    changed = {name for name, value in vars(tool.configuration()).items() if plain[name] != value}
    assert changed == {"results_dir", "branches"}


def test_other_suites_are_left_out(tool, tmp_path):
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps({"history.A.b": {}, "table.history.c": {}, "version": 2}))
    tool.keep_suite(path)
    assert json.loads(path.read_text()) == {"history.A.b": {}, "version": 2}


def test_the_pages_have_every_measured_commit(tool, tmp_path):
    reason = tool.missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path / "site" / "commits"
    subprocess.run([sys.executable, str(ROOT / "tools" / "history"), "pages", str(folder)], check=True, cwd=tmp_path)
    index = json.loads((folder / "index.json").read_text())
    assert (folder / "index.html").is_file()
    assert list(index["benchmarks"]) == ["history.History.track_ratio"]
    assert set(tool.measured()) <= set(index["revision_to_hash"].values())
    assert len(tool.measured()) == len(records("*-*"))
    graph = next((folder / "graphs" / "arch-x86_64").rglob("history.History.track_ratio.json"))
    assert len(json.loads(graph.read_text())) == len(tool.measured())


def test_without_the_commits_there_is_a_page_that_says_so(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    reason = tool.missing()
    assert reason in ("asv is not installed", "there is no git repository")
    tool.pages(tmp_path / "commits")
    assert reason in (tmp_path / "commits" / "index.html").read_text()
    assert capsys.readouterr().out == f"The pages of the history are left out: {reason}.\n"


def test_a_commit_that_is_not_in_the_repository_is_counted(tool, monkeypatch):
    pytest.importorskip("asv")
    try:
        tool.git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository")
    monkeypatch.setattr(tool, "measured", lambda: [tool.git("rev-parse", "HEAD"), "0" * 40])
    assert tool.missing().startswith("1 of the measured commits")


def test_the_table_of_the_page_has_the_first_and_the_last_point():
    points = sorted((record for _, record in records("*-*")), key=lambda record: record["date"])
    ends = [dict(zip(cells(), point["results"]["history.History.track_ratio"][0], strict=True)) for point in (points[0], points[-1])]
    page = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \(([\d, ]+)\) \| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert rows
    for shape, against, *shown in rows:
        found = [end[shape.replace(", ", "x"), against.lower()] for end in ends]
        assert [f"{value:.{len(text.partition('.')[2])}f}" for value, text in zip(found, shown, strict=True)] == shown, shape


def cells():
    """The pairs of shape and yardstick, in the order of a result's numbers."""
    from benchmarks.history import History

    return list(itertools.product(*History.params))
