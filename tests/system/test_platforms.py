"""Linux without what macOS and Windows lack: CPU affinity, Linux's files on caches and control groups, fork, owners of files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from work import ROOT

CALLS = """
import numpy as np
import nbloss, nbloss.functional as F
x, y = np.zeros((70_000, 3), np.float32), np.zeros(70_000, int)
assert np.isclose(F.cross_entropy(x, y), np.log(3)) and np.isclose(F.log_softmax(x)[0, 0], -np.log(3))
"""
WITHOUT = {
    "affinity": "import os; del os.sched_getaffinity",
    "fork": "import os; del os.fork, os.register_at_fork",
    "owners": "import os; del os.getuid, os.geteuid",
    "all": "import os; [delattr(os, n) for n in ('sched_getaffinity', 'fork', 'register_at_fork', 'getuid', 'geteuid')]",
    "Linux's files": """
import pathlib
read = pathlib.Path.read_text
def refuse(path, *arguments, **options):
    if str(path).startswith(("/sys", "/proc")):
        raise FileNotFoundError(path)
    return read(path, *arguments, **options)
pathlib.Path.read_text = refuse
""",
    "the name of Linux": "import numba, sys; sys.platform = 'darwin'",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the other systems lack them anyway")
@pytest.mark.parametrize("lack", WITHOUT)
def test_calls_work_without(lack, tmp_path):
    code = WITHOUT[lack] + "\n" + CALLS
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(ROOT), "NBLOSS_CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # compiled, and from disk
        subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True, timeout=300)
    assert list(tmp_path.rglob("*.kernel"))


def test_caches_of_unknown_size_have_a_usual_one(tmp_path):
    from nbloss.kernels.cpu.tuning import _cache

    assert _cache(2, 1 << 20, tmp_path) == 1 << 20
    (tmp_path / "index2").mkdir()
    (tmp_path / "index2" / "size").write_text("512K\n")
    assert _cache(2, 1 << 20, tmp_path) == 512 * 1024
    (tmp_path / "index2" / "size").write_text("?\n")
    assert _cache(2, 7, tmp_path) == 7


def test_without_control_groups_there_is_no_limit(tmp_path):
    from nbloss._thread_count import _cgroup_limit

    assert _cgroup_limit(tmp_path / "nothing", tmp_path / "nothing") == sys.maxsize


@pytest.mark.parametrize(
    ("system", "variables", "folder"),
    [
        ("darwin", {"HOME": "{tmp}"}, "{tmp}/Library/Caches/nbloss"),
        ("win32", {"LOCALAPPDATA": "{tmp}"}, "{tmp}/nbloss/Cache"),
        ("linux", {"HOME": "{tmp}", "XDG_CACHE_HOME": ""}, "{tmp}/.cache/nbloss"),
        ("linux", {"XDG_CACHE_HOME": "{tmp}/x"}, "{tmp}/x/nbloss"),
    ],
)
def test_each_system_s_cache_folder(system, variables, folder, tmp_path, monkeypatch):
    from nbloss.kernels import disk

    monkeypatch.setattr(sys, "platform", system)
    for name, value in {"NBLOSS_CACHE_DIR": "", **variables}.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert disk.cache_dir() == Path(folder.format(tmp=tmp_path))


def test_without_owners_every_file_is_taken(monkeypatch):
    from nbloss.kernels import disk

    monkeypatch.delattr(os, "getuid", raising=False)
    assert disk._refusal(os.stat("/"), False) is None
