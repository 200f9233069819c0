"""The line on stderr while a compilation takes long: once, and never otherwise."""

import subprocess
import sys

import pytest
from work import ROOT

WAIT = """
import time
from nbloss.kernels import compile_notice
compile_notice.AFTER = 0.2
for _ in range({parts}):
    with compile_notice.compiling():
        time.sleep({seconds} / {parts})
time.sleep(0.3)
"""
CALL = "import numpy as np, nbloss.functional as F; F.nll_loss(np.zeros((3, 2)), np.zeros(3, int))"


def stderr_of(code, **environment):
    # kernels that `make demo` compiled into the checkout would leave nothing to announce
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "NBLOSS_PRECOMPILED": "0", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("parts", [1, 4])
def test_a_long_compilation_or_several_are_announced_once(parts):
    from nbloss.kernels import compile_notice

    assert stderr_of(WAIT.format(parts=parts, seconds=0.8)) == compile_notice.TEXT + "\n"


def test_a_short_compilation_is_silent():
    assert stderr_of(WAIT.format(parts=1, seconds=0.02)) == ""


@pytest.mark.parametrize(("value", "quiet"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_an_environment_variable_silences_it(value, quiet):
    assert bool(stderr_of(WAIT.format(parts=1, seconds=0.8), NBLOSS_QUIET=value)) == (not quiet)


def test_compiling_a_kernel_is_announced_and_loading_it_is_not(tmp_path):
    code = "from nbloss.kernels import compile_notice; compile_notice.AFTER = 0.05\n" + CALL
    assert "compiling" in stderr_of(code, NBLOSS_CACHE_DIR=str(tmp_path))
    assert stderr_of(code, NBLOSS_CACHE_DIR=str(tmp_path)) == ""
