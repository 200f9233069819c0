"""The asv suites work: the tests run them as plain classes, and through asv where it is installed."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = ["control", "cross_entropy", "history", "log_softmax", "memory", "nll_loss", "startup", "table", "variants"]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the wheel does not contain the suites")


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def classes(suite):
    module = importlib.import_module(f"benchmarks.{suite}")
    return [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]


@pytest.mark.parametrize("suite", SUITES)
def test_the_params_of_a_suite_match_its_methods(suite):
    for cls in classes(suite):
        params, names = getattr(cls, "params", []), getattr(cls, "param_names", [])
        assert len(names) == (len(params) if not params or isinstance(params[0], list) else 1)
        assert any(name.startswith(("time", "track", "peakmem")) for name in dir(cls)), cls


@pytest.mark.parametrize("suite", ["cross_entropy", "log_softmax", "nll_loss"])
def test_a_suite_runs_on_its_small_problem_with_nbloss(suite):
    """The large problems compile many kernels for minutes. `asv run --quick` runs them."""
    for cls in classes(suite):
        dtype, shape = cls.params[1][0], cls.params[2][0]
        if shape != "32x10":
            continue
        benchmark = cls()
        benchmark.setup("nbloss", dtype, shape)
        for name in dir(cls):
            if name.startswith("time_"):
                getattr(benchmark, name)("nbloss", dtype, shape)


def test_the_table_has_ratios_and_skips_peers_that_did_not_run(monkeypatch):
    from benchmarks import table
    from nbloss.bench.measure.clock import Plan

    monkeypatch.setattr(table, "PLAN", Plan(rounds=2, pause=0.0, turn=1e-4))
    monkeypatch.setattr(table, "AGAINST", ["copy", "numpy", "sklearn"])
    monkeypatch.setattr(table.Table, "params", [["nll_loss 7x5 float32"], table.AGAINST])
    suite = table.Table()
    ratios = suite.setup_cache()
    for against in ("copy", "numpy"):
        suite.setup(ratios, "nll_loss 7x5 float32", against)
        assert suite.track_ratio(ratios, "nll_loss 7x5 float32", against) > 0
    with pytest.raises(NotImplementedError, match="sklearn"):
        suite.setup(ratios, "nll_loss 7x5 float32", "sklearn")
    assert suite.track_ratio({"a": {"b": 2.0}}, "a", "b") == 2.0


def test_a_variant_has_its_ratio_to_the_plain_call(monkeypatch):
    from benchmarks import variants
    from nbloss.bench.measure.clock import Plan

    monkeypatch.setattr(variants, "PLAN", Plan(rounds=2, pause=0.0, turn=1e-4))
    assert variants.Variants().track_over_plain("weight", "32x10") > 0
    cells = variants.wanted.cells([variants.wanted.VALUE_AND_GRAD], variants.SHAPES, variants.KINDS)
    assert len(cells) == len(variants.KINDS) * len(variants.SHAPES)


def test_a_slower_nbloss_gives_larger_ratios(monkeypatch):
    from benchmarks import table

    result = {"nbloss": {"seconds": 2.0, "to_nbloss": 1.0}, "copy": {"seconds": 1.0, "to_nbloss": 0.5}, "jax": {"absent": "no"}}
    monkeypatch.setattr(table, "race", lambda *given: {"contenders": result})
    assert table.Table()._ratios("cross_entropy", "7x5", "float32") == {"nbloss": 1.0, "copy": 2.0}


def test_asv_finds_every_benchmark(tmp_path):
    """With a copy of the suites and an empty home folder, as on a new machine: asv must not ask a question."""
    pytest.importorskip("asv")
    for name in ("asv.conf.json", "benchmarks"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-m", "asv", "run", "--quick", "--python=same", "--bench", "Control|import_n"]
    # asv removes PYTHONPATH and reads ASV_PYTHONPATH, but its raw timings read the first only. Both are set, so that the
    # checkout need not be installed.
    paths = os.pathsep.join(str(Path(p).resolve()) for p in sys.path)
    environment = os.environ | {"HOME": str(tmp_path / "home"), "PYTHONPATH": paths, "ASV_PYTHONPATH": paths}
    options = {"cwd": tmp_path, "env": environment, "stdin": subprocess.DEVNULL, "timeout": 300}
    done = subprocess.run(command, **options, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Control.time_copy" in done.stdout and "timeraw_import_nbloss" in done.stdout
    assert "failed" not in done.stdout
