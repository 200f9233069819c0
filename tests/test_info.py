"""`python -m nbloss info --kernels SHAPE`: the table names the kernels that really run."""

import os
import subprocess
import sys

import numpy as np
import pytest

from nbloss import info
from nbloss.__main__ import main
from nbloss.kernels.cpu.compile import jit

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="without the compiler no kernels are chosen")

PER_TARGET = ["per_target.targets.row_scale", "per_target.sums.row_sum"]


def table(capsys, *arguments):
    """The printed table: call -> [(kernel, why)]."""
    assert main(["info", "--kernels", *arguments]) == 0
    title, empty, head, *lines = capsys.readouterr().out.splitlines()
    starts = [head.index(word) for word in ("call", "kernel", "why")]
    assert empty == "" and "logits of shape" in title
    rows, call = {}, None
    for line in lines:
        named, kernel, why = (line[a:b].rstrip() for a, b in zip(starts, [*starts[1:], None], strict=True))
        call = named or call
        rows.setdefault(call, []).append((kernel, why))
    return rows


def kernels(rows, call):
    return [kernel for kernel, _ in rows[call]]


@pytest.mark.parametrize(
    ("shape", "algorithm", "log_softmax", "reason"),
    [
        ("65536x10", "row_per_lane", "row_per_lane.log_softmax.log_softmax", "one row per lane"),
        ("4096x1000", "vector_per_row", "vector_per_row.log_softmax.log_softmax", "vectors along each row"),
        ("64x50257", "vector_per_row", "vector_per_row.log_softmax.log_softmax", "vectors along each row"),
    ],
)
def test_rows(shape, algorithm, log_softmax, reason, capsys):
    rows = table(capsys, shape)
    assert list(rows) == [*info.CALLS]
    assert kernels(rows, "log_softmax") == [log_softmax]
    assert kernels(rows, "cross_entropy_value_and_grad") == [f"fused.loss_{algorithm}"]
    assert kernels(rows, "nll_loss") == ["fused.sum_nll"]
    for options in ("  with weight", "  with label_smoothing", "  with lse_square_scale"):
        assert kernels(rows, options) == [f"fused.loss_{algorithm}"]
    mapped = "mapped" if algorithm == "vector_per_row" else algorithm
    assert kernels(rows, "  with softcap") == [f"fused.loss_{mapped}"]
    assert kernels(rows, "  with probabilities") == [f"fused.soft_{algorithm}"]
    assert all(reason in why for call in ("log_softmax", "cross_entropy") for _, why in rows[call])
    assert all(why for found in rows.values() for _, why in found)


def test_images(capsys):
    rows = table(capsys, "8x21x512x512", "--dtype", "float16")
    assert kernels(rows, "log_softmax") == ["channels_first.log_softmax.log_softmax"]
    assert kernels(rows, "cross_entropy") == ["fused.sum_channels_first"]
    general = [PER_TARGET[0], "channels_first.cross_entropy.cross_entropy", PER_TARGET[1]]
    assert kernels(rows, "cross_entropy_value_and_grad") == general, "more positions than the fast path takes"


def test_a_transposed_array(capsys):
    rows = table(capsys, "4096x1000.T", "--dtype", "float64")
    assert kernels(rows, "log_softmax_backward") == ["channels_first.gradients.log_softmax_backward"]
    assert kernels(rows, "cross_entropy") == ["fused.loss_blocked"]


REAL = [((33, 10), False), ((5, 65), False), ((4, 21, 9, 9), False), ((70, 60), True)]


@pytest.mark.parametrize(("shape", "transposed"), REAL, ids=str)
@pytest.mark.parametrize("call", info.CALLS)
def test_the_kernels_of_the_table_are_those_that_run(call, shape, transposed, monkeypatch):
    named = [kernel for kernel, _ in info.kernels_of(call, shape, transposed, np.dtype(np.float32))]
    monkeypatch.setattr(jit, "_kernels", {})
    monkeypatch.setattr(jit, "ready", {})
    x = np.ones(shape[::-1], np.float32).T if transposed else np.ones(shape, np.float32)
    info.CALLS[call](x, np.zeros(shape[:1] + shape[2:], np.int64), np.ones(shape[1], np.float32), np.ones_like(x))
    assert named == [name.removeprefix("nbloss.kernels.cpu.") for name, variant in jit._kernels if (name, variant) != jit.LOOP]


LARGE = [((300_000, 3), False), ((300_000, 3), True), ((3, 21, 400, 301), False), ((2, 5000, 30, 40), False), ((300, 5000), True)]
LARGE += [((270_000, 60), False), ((5, 70, 3), False), ((1, 100_000), False), ((1, 5000), True), ((263_000, 1, 1), False)]


@pytest.mark.parametrize(("shape", "transposed"), LARGE, ids=str)
def test_a_smaller_shape_stands_for_a_large_one(shape, transposed, monkeypatch):
    dtype = np.dtype(np.float32)
    small = {call: info.kernels_of(call, shape, transposed, dtype) for call in info.CALLS}
    monkeypatch.setattr(info, "_small", lambda shape: shape)
    assert small == {call: info.kernels_of(call, shape, transposed, dtype) for call in info.CALLS}


MEASURED = """
import resource, sys
from nbloss.__main__ import main
status = main(["info", "--kernels", "7x5"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for shape in sys.argv[1:]:
    status |= main(["info", "--kernels", shape])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
def test_large_shapes_take_little_memory():
    shapes = ["128x128256", "1000000x1000", "1000000x128256", "100000x128256.T", "10x100000x64x1000", "1x3x1000000000"]
    run = subprocess.run([sys.executable, "-c", MEASURED, *shapes], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stderr) < 64_000


@pytest.mark.parametrize("shape", ["10", "x", "0x10", "10x-1", "8x21x512x512.T", "10x10.U", "1ex10", "²x10", ""])
def test_a_bad_shape_is_a_usage_error(shape, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["info", "--kernels", shape])
    assert stop.value.code == 2
    assert f"argument --kernels: should be sizes N x C x ..., such as 65536x10, 8x21x512x512 or 4096x1000.T; got {shape!r}" in " ".join(
        capsys.readouterr().err.split()
    )


def test_without_the_compiler_no_kernel_is_chosen():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-m", "nbloss", "info", "--kernels", "7x5"], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "")
    assert "nbloss.kernels.reference" in run.stderr
