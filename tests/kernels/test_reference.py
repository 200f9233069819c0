"""NUMBA_DISABLE_JIT=1: the same contract in plain NumPy. It has the kernels' names and parameters, and passes the same tests."""

import inspect
import os
import subprocess
import sys

import pytest
from work import ROOT, TESTS, run_script

from nbloss.kernels import reference
from nbloss.kernels.contract import KERNELS
from nbloss.kernels.cpu import kernel_set

SUITES = [
    *(f"functional/test_{name}.py" for name in ("values_table", "accuracy", "index_targets", "probability_targets")),
    "functional/test_log_softmax.py", "functional/test_softmax.py",
    "functional/test_lse_square_scale.py", "functional/test_softcap.py", "functional/test_focal_loss.py", "functional/test_distillation.py",
    "functional/test_second_order.py", "functional/test_mapped_hessian.py",
    "functional/test_errors.py", "functional/test_errors_out.py", "modules/test_modules.py",
    "test_evaluate.py", "kernels/cpu/test_evaluation.py", "kernels/cpu/test_scatter.py",
]  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_the_reference_has_every_kernel_with_its_parameters(name):
    ours, compiled = (inspect.signature(getattr(module, name)) for module in (reference, kernel_set))
    assert list(ours.parameters) == list(compiled.parameters)


@pytest.mark.parametrize("module", [reference, kernel_set], ids=lambda module: module.__name__)
def test_no_backend_has_other_kernels(module):
    public = {n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__ and not n.startswith("_")}
    assert public == set(KERNELS)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_passes_without_the_compiler(suite, tmp_path):
    """Every twentieth test, which covers every kernel, dtype and option. Run the whole suite after a change of the reference."""
    plugin = "def pytest_collection_modifyitems(config, items): items[:] = items[::20]"
    (tmp_path / "twentieth.py").write_text(plugin)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "twentieth", "-p", "no:cacheprovider", "-p", "no:xdist", TESTS / suite]
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
print(loss, "softmax_of" in seen, nbloss.get_num_threads() >= 1)
"""
    assert run_script(tmp_path, code, NUMBA_DISABLE_JIT="1") == ["2.407606", "True", "True"]


@pytest.mark.parametrize("command", [["info"], ["cache", "info"]], ids=" ".join)
def test_the_commands_work_without_the_compiler(command):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-m", "nbloss", *command], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
