"""What tests run in other threads and processes: calls of every kind of kernel, large enough to be shared among threads.

Scripts import it by its name; a digest is of every byte of the results, and `judge` holds the results against the oracle.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
ROWS, CLASSES = 1033, 129


def _numbers():
    rng = np.random.default_rng(7)
    x = rng.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
    y = rng.integers(0, CLASSES, ROWS)
    y[::7] = -100
    return x, y, rng.uniform(0.5, 2, CLASSES).astype(np.float32)


def run_job(name):
    """The arrays that one kind of call returns."""
    import nbloss.functional as F

    x, y, w = _numbers()
    if name == "log_softmax":
        return [F.log_softmax(x)]
    if name == "columns":
        return [F.log_softmax(x, 0)]
    if name == "value_and_grad":
        return list(F.cross_entropy_value_and_grad(x, y, w))
    if name == "smooth":
        return list(F.cross_entropy_value_and_grad(x, y, w, label_smoothing=0.1))
    if name == "soft":
        return list(F.cross_entropy_value_and_grad(x, np.abs(x)))
    return [F.nll_loss(x, y, w), F.nll_loss_backward(1.0, x, y, w)]


JOBS = ["log_softmax", "columns", "value_and_grad", "smooth", "soft", "nll"]


def digest(name):
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in run_job(name))).hexdigest()


def judge(name):
    """Raise unless the results of a job are the oracle's."""
    import reference
    from problems import assert_gradient, assert_loss

    x, y, w = _numbers()
    results = run_job(name)
    if name in ("log_softmax", "columns"):
        exact = reference.log_softmax(x, 1 if name == "log_softmax" else 0)
        np.testing.assert_allclose(results[0].astype(float), exact.astype(float), rtol=4 * np.finfo(np.float32).eps)
        return
    target, weight, options = y, w, {}
    if name == "smooth":
        options = {"label_smoothing": 0.1}
    if name == "soft":
        target, weight = np.abs(x), None
    if name == "nll":
        assert_loss(results[0], reference.nll_loss(x, y, w), np.float32)
        gradient = reference.nll_loss_backward(1.0, x, y, w)
        np.testing.assert_allclose(results[1].astype(float), gradient.astype(float), rtol=1e-6, atol=0)
        return
    assert_loss(results[0], reference.cross_entropy(x, target, weight, **options), np.float32)
    assert_gradient(results[1], x, *reference.cross_entropy_terms(1.0, x, target, weight, **options))


def run_script(tmp_path, code, timeout=900, status=0, **environment):
    """Run a script of its own (multiprocessing wants a file) in a fresh interpreter; returns what it printed. Hanging is failing."""
    script = tmp_path / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(ROOT), str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", script],
        env={**os.environ, "PYTHONPATH": path, **environment}, cwd=tmp_path, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert run.returncode == status, f"status {run.returncode}\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}"
    return run.stdout.split()


LAYERS = ["tbb", "omp", "workqueue"]


def skip_without(layer, tmp_path):
    """Skip the test where Numba finds no such threading layer."""
    import pytest

    code = """
import warnings
from nbloss.kernels.cpu.compile import threads
warnings.simplefilter("ignore")
threads._start()
print(threads.layer())
"""
    if run_script(tmp_path, code, NUMBA_THREADING_LAYER=layer) != [layer]:
        pytest.skip(f"no {layer} here")
