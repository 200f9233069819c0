"""`nbloss.interop.mpi` on one, two and four ranks: the values and gradients of all rows and classes together (mpi_cases.py)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbloss

pytest.importorskip("mpi4py")
ROOT = Path(__file__).parents[2]
CASES = Path(__file__).with_name("mpi_cases.py")
BESIDE = Path(sys.executable).with_name("mpirun")  # Open MPI from its wheel
MPIRUN = str(BESIDE) if BESIDE.exists() else shutil.which("mpirun")
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="no mpirun")


def on_ranks(ranks, *words):
    """What the first rank of ``python *words`` prints."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    settings["OMPI_MCA_mpi_yield_when_idle"] = "1"  # a rank that waits leaves its processor to others
    env = os.environ | settings | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [MPIRUN, "--oversubscribe", "-n", str(ranks), sys.executable, *map(str, words)]
    # A rank that waits for ever is ended with all others by mpirun's own limit.
    done = subprocess.run([*command[:1], "--timeout", "280", *command[1:]], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_values_gradients_and_errors(ranks):
    assert on_ranks(ranks, CASES, "rows", "classes", "more", "edges", "errors")[-1] == "passed"


@pytest.mark.skipif(not hasattr(nbloss, "evaluate"), reason="no nbloss.evaluate")
@pytest.mark.parametrize("ranks", [1, 2])
def test_evaluation(ranks):
    assert on_ranks(ranks, CASES, "evaluation")[-1] == "passed"


def test_the_example_learns_the_same_on_two_ranks_as_on_one():
    pytest.importorskip("sklearn")
    one, two = (on_ranks(ranks, ROOT / "examples" / "mpi_digits.py", "--quick") for ranks in (1, 2))
    assert one[-1] == two[-1] == "learned"
    parameters = [[float(word) for line in lines if line.startswith("parameters") for word in line.split()[1:]] for lines in (one, two)]
    assert len(parameters[0]) == 2
    assert parameters[0] == pytest.approx(parameters[1], rel=1e-9)
