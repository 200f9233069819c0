"""NUMBA_DISABLE_JIT=1: the same contract in plain NumPy, held against the same oracle, and the twin keeps the kernels' names."""

import inspect
import os
import subprocess
import sys

import pytest
from work import HERE, ROOT, run_script

from nbloss.kernels import reference
from nbloss.kernels.cpu import kernel_set

SUITES = [
    "test_values_table.py", "test_accuracy.py", "test_functional_index.py", "test_functional_probability.py",
    "test_functional_log_softmax.py", "test_errors.py", "test_errors_out.py", "test_modules.py",
]  # fmt: skip


@pytest.mark.parametrize("name", kernel_set.__all__)
def test_the_twin_has_every_kernel_with_its_parameters(name):
    ours, compiled = (inspect.signature(getattr(module, name)) for module in (reference, kernel_set))
    assert list(ours.parameters) == list(compiled.parameters)


def test_the_twin_has_no_other_kernels():
    assert set(reference.__all__) == set(kernel_set.__all__)


@pytest.mark.parametrize("suite", SUITES)
def test_the_suite_passes_without_the_compiler(suite, tmp_path):
    """Every twentieth test of it, which is every kernel, dtype and option: the whole of it is for whoever changes the twin."""
    plugin = "def pytest_collection_modifyitems(config, items): items[:] = items[::20]"
    (tmp_path / "twentieth.py").write_text(plugin)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "twentieth", "-p", "no:cacheprovider", "-p", "no:xdist", HERE / suite]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout


def test_nothing_is_compiled_and_python_frames_can_be_stepped_through(tmp_path):
    code = """
import sys
import numpy as np
import nbloss, nbloss.functional as F
seen = set()
sys.setprofile(lambda frame, event, argument: seen.add(frame.f_code.co_name) if "reference" in frame.f_code.co_filename else None)
loss, grad = F.cross_entropy_value_and_grad(np.float32([[1, 2, 3]]), np.array([0]))
sys.setprofile(None)
print(loss, "_softmax" in seen, nbloss.get_num_threads() >= 1)
"""
    assert run_script(tmp_path, code, NUMBA_DISABLE_JIT="1") == ["2.407606", "True", "True"]


@pytest.mark.parametrize("command", [["info"], ["cache", "info"]], ids=" ".join)
def test_the_commands_work_without_the_compiler(command):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-m", "nbloss", *command], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
