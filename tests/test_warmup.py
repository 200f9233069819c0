"""`python -m nbloss warmup`: fills the cache, says what is missing, and leaves nothing to compile."""

import os
import re
import shutil
import subprocess
import sys

import pytest

# The real command with fewer calls, so that the test compiles for seconds; spawned processes take their steps from this one.
FEWER = """
import sys
from nbloss import warmup
warmup.SHAPES = ((7, 5), (6, 5))
warmup.CALLS = {"nll_loss": warmup.CALLS["nll_loss"]}
"""
COMMAND = FEWER + "from nbloss.__main__ import main; sys.exit(main(['warmup', '--dtypes', 'float32', *sys.argv[1:]]))"


def python(code, *arguments, **environment):
    return subprocess.run([sys.executable, "-c", code, *arguments], env=os.environ | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def warm(folder):
    """The cache folder after a warm-up, which has said so."""
    done = python(COMMAND, "--jobs", "2", NBLOSS_CACHE_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"2 of 2 usual calls find their kernels in {folder}"
    assert re.fullmatch(rf"  3 kernels for \S+ in {folder}", second)
    return folder


def test_a_check_of_an_empty_cache_names_what_is_missing_and_compiles_nothing(tmp_path):
    done = python(COMMAND, "--check", NBLOSS_CACHE_DIR=str(tmp_path / "empty"))
    assert done.returncode == 1, done.stderr
    assert "missing: float32 nll_loss 7x5 (first: fused.sum_nll)" in done.stdout
    assert "0 of 2 usual calls" in done.stdout
    assert not (tmp_path / "empty").exists()


def test_after_a_warm_up_nothing_is_compiled(warm):
    before = sorted(warm.rglob("*.kernel"))
    calls = (
        FEWER
        + """
from numba.core import event
import numpy as np, nbloss.functional as F
with event.install_recorder("numba:compile") as compiled:
    for step in warmup.steps(["float32"]):
        name, shape = step[1:]
        warmup.CALLS[name](np.zeros(shape, np.float32), np.zeros(shape[:1], int))
assert not compiled.buffer, compiled.buffer
with event.install_recorder("numba:compile") as compiled:
    F.nll_loss(np.zeros((7, 5)), np.zeros(7, int))
assert compiled.buffer, "the recorder sees what was not warmed up"
"""
    )
    done = python(calls, NBLOSS_CACHE_DIR=str(warm))
    assert done.returncode == 0, done.stderr
    assert before and set(before) < set(warm.rglob("*.kernel"))


def test_every_command_tells_the_same_of_the_kernels(warm, tmp_path):
    """Also of kernels that may not be used."""
    folder = shutil.copytree(warm, tmp_path / "cache")

    def told(*command):
        done = python("import sys; from nbloss.__main__ import main; sys.exit(main(sys.argv[1:]))", *command, NBLOSS_CACHE_DIR=str(folder))
        assert done.returncode == 0, done.stderr
        return done.stdout

    count = len(list(folder.rglob("*.kernel")))
    for command in (["info"], ["cache", "info"]):
        assert f"{count} for the CPU, {count} of them of these sources and versions" in told(*command)
        assert str(folder) in told(*command) and "neither read" not in told(*command)
    check = python(COMMAND, "--check", NBLOSS_CACHE_DIR=str(folder))
    assert (check.returncode, check.stdout.count("kernels for")) == (0, 1)
    if os.name == "nt":
        return
    folder.chmod(0o777)
    for command in (["info"], ["cache", "info"]):
        assert f"{count} for the CPU, 0 of them of these sources and versions" in told(*command)
        assert "neither read nor written" in told(*command)
    check = python(COMMAND, "--check", NBLOSS_CACHE_DIR=str(folder))
    assert (check.returncode, check.stdout.count("missing")) == (1, 2)
    assert "which other users can write" in check.stderr


def test_each_level_has_kernels_of_its_own_also_those_that_this_machine_could_not_run(tmp_path):
    from nbloss.kernels.cpu.compile import processor

    if not processor.runnable() or processor.runnable() == ["aarch64"]:
        pytest.skip("for x86-64-v3 and better")
    for level in ("x86-64-v3", "x86-64-v4"):
        done = python(COMMAND, NBLOSS_CACHE_DIR=str(tmp_path), **processor.environment(level))
        assert (done.returncode, done.stdout.splitlines()[1:]) == (0, [f"  3 kernels for {level} in {tmp_path}"]), done.stderr
    assert sorted(len(list(folder.iterdir())) for folder in tmp_path.glob("*/*")) == [3, 3]


def test_a_damaged_kernel_is_missing_until_the_next_warm_up(warm):
    assert python(COMMAND, "--check", NBLOSS_CACHE_DIR=str(warm)).returncode == 0
    for kernel in warm.rglob("*fused.loss_nll-*"):  # other tests of this file may have warmed other dtypes
        kernel.write_bytes(kernel.read_bytes()[:-10])
    done = python(COMMAND, "--check", NBLOSS_CACHE_DIR=str(warm))
    assert done.returncode == 1
    assert done.stdout.startswith("missing: float32 nll_loss 7x5 (first: fused.loss_nll)\n")
    assert "0 of 2 usual calls" in done.stdout
    assert python(COMMAND, NBLOSS_CACHE_DIR=str(warm)).returncode == 0


def test_a_cache_that_cannot_be_written_is_a_failure_that_says_what_is_missing(tmp_path):
    (tmp_path / "file").touch()
    done = python(COMMAND, NBLOSS_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert done.returncode == 1
    assert "missing: float32 nll_loss 7x5" in done.stdout


@pytest.mark.parametrize("arguments", [["--dtypes", "int32"], ["--jobs", "0"], ["--jobs", "two"], ["--dtypes"]], ids=" ".join)
def test_bad_arguments_are_a_usage_error(arguments):
    done = python("import sys; from nbloss.__main__ import main; main(['warmup', *sys.argv[1:]])", *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_the_usual_calls_use_every_function_and_all_sizes():
    from nbloss import functional, warmup
    from nbloss.kernels.cpu import tuning

    called = set()

    class Spy:
        def __getattr__(self, name):
            called.add(name)
            return getattr(functional, name)

    sizes = [(shape[1], shape[0] * shape[1]) for shape in warmup.SHAPES if len(shape) == 2]
    for short in (True, False):
        for serial in (True, False):
            assert any((c <= tuning.LANES_MAX_CLASSES) == short and (n < tuning.SERIAL_BELOW_ELEMENTS) == serial for c, n in sizes)
    real, warmup.F = warmup.F, Spy()
    try:
        import numpy as np

        for call in warmup.CALLS.values():
            call(np.zeros((3, 4), np.float32), np.zeros(3, np.int64))
    finally:
        warmup.F = real
    of_others = {name for name in functional.__all__ if name.startswith("linear_")}  # around the kernels of cross_entropy
    assert called | of_others | {"cross_entropy", "cross_entropy_value_and_grad", "LinearGradients", "Stats"} == set(functional.__all__)
