"""Every file of examples/ runs as its docstring says, and learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {
    "boosting_noisy_labels": ("lightgbm", "sklearn"), "digits_modules": ("sklearn",), "distillation": ("sklearn",),
    "logistic_regression": ("scipy", "sklearn"), "mpi_digits": ("mpi4py", "sklearn"), "temperature": ("sklearn",),
    "torch_char_lm": ("torch",),
}  # fmt: skip
LAST_LINES = "learned", "calibrated", "the weights find the rare class", "smoothing resists the wrong labels"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_learns(path):
    for library in NEEDS.get(path.stem, ()):
        pytest.importorskip(library)
    if path.stem == "mpi_digits":
        pytest.importorskip("mpi4py.MPI", reason="no MPI library", exc_type=(ImportError, RuntimeError))
    # From the checkout without an installation too; one BLAS thread, because these matrices are too small for two.
    path_list = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path_list, "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, path, "--quick"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.splitlines()[-1] in LAST_LINES


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= NEEDS.keys() | {"char_lm", "policy_gradient", "segmentation", "tied_bigram"}
