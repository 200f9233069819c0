"""docs/scale.md: each recipe runs as a script, beside the files that it reads, and finds what one pass finds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nbloss

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)^```$", TEXT, re.M | re.S))
NEEDS = {"joblib": "joblib", "Dask": "distributed", "Ray": "ray", "Slurm and MPI": "mpi4py.MPI"}


def test_there_is_a_recipe_for_each_engine():
    assert list(RECIPES) == list(NEEDS)
    assert all(len(code.splitlines()) <= 28 for code in RECIPES.values())


@pytest.mark.skipif(not hasattr(nbloss, "evaluate"), reason="no nbloss.evaluate")
@pytest.mark.parametrize("engine", NEEDS)
def test_a_recipe_runs(engine, tmp_path):
    pytest.importorskip(NEEDS[engine], exc_type=(ImportError, RuntimeError))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1700, 40)).astype(np.float32), rng.integers(0, 40, 1700)
    np.save(tmp_path / "logits.npy", x)
    np.save(tmp_path / "targets.npy", y)
    (tmp_path / "recipe.py").write_text(RECIPES[engine], encoding="utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, "recipe.py"], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    count, loss = done.stdout.splitlines()[-1].split()[:2]
    assert int(count) == 1700
    assert float(loss) == pytest.approx(float(nbloss.functional.cross_entropy(x.astype(np.float64), y)), rel=1e-6)
