"""The GPU benchmark, as far as it needs no GPU: arguments, counted bytes, what is compared with what, table, JSON, picture."""

import json
import subprocess
import sys

import numpy as np
import pytest

from nbloss.bench import gpu, gpu_report
from nbloss.bench.gpu_device import Ring, rotation

FACTS = {"device": "Test GPU", "capability": "9.0", "multiprocessors": 4, "copy_bytes_per_second": 1e12, "versions": {"nbloss": "1"}}


class Clock:
    """A device whose calls take what the contender says."""

    bandwidth = 1e12

    def plan(self, run):
        return 2, 1

    def turn(self, run, calls, copies):
        return run.seconds, 1e-6

    def facts(self):
        return FACTS


class Contender:
    def __init__(self, seconds, results):
        self.seconds, self.results = seconds, results

    def checked(self, rows):
        return self.results


def right(problem, operation):
    """The right answer for a whole batch, calculated for the whole batch."""
    x, y = problem.logits().astype(np.float64), problem.target()
    x -= x.max(axis=1, keepdims=True)
    logp = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    if operation == "log_softmax":
        return [logp]
    hit = np.moveaxis(np.arange(x.shape[1]) == y[..., None], -1, 1)
    loss = -logp[hit].mean()
    return [loss] if operation == "cross_entropy" else [loss, (np.exp(logp) - hit) / y.size]


@pytest.mark.parametrize("operation", gpu.OPERATIONS)
@pytest.mark.parametrize("shape", [(128, 10), (96, 7), (5, 3), (3, 4, 6, 5)])
def test_a_batch_of_repeated_rows_has_the_right_answer(shape, operation):
    problem = gpu.Repeated(shape, "float32")
    assert problem.logits().shape == shape
    results = right(problem, operation)
    assert problem.error(operation, results) < 1e-12
    results[-1] = results[-1] * 1.001
    assert problem.error(operation, results) == pytest.approx(1e-3, rel=0.1)
    assert not problem.error(operation, [np.full_like(r, np.nan) for r in results]) <= 1
    assert problem.error(operation, results[:-1]) == np.inf


def test_only_the_last_rows_are_wrong():
    """An offset that overflows shows at the end."""
    problem = gpu.Repeated((256, 10), "float32")
    (logp,) = right(problem, "log_softmax")
    logp[200:] = 0
    assert problem.error("log_softmax", [logp]) > 0.5


@pytest.mark.parametrize(
    ("operation", "dtype", "expected"),
    [
        ("log_softmax", "float32", 2 * 4 * 6400),
        ("cross_entropy", "float32", 4 * 6400 + 8 * 64),
        ("cross_entropy_value_and_grad", "bfloat16", 2 * 2 * 6400 + 8 * 64),
    ],
)
def test_every_input_and_output_is_counted_once(operation, dtype, expected):
    pytest.importorskip("ml_dtypes")
    assert gpu.Repeated((64, 100), dtype).bytes_moved(operation) == expected


def test_buffers_rotate_through_more_than_the_cache():
    assert rotation(1 << 20, 50 << 20) == 150
    assert rotation(1 << 33, 50 << 20) == 1
    ring = Ring(3)
    results = [[k] for k in range(5)]
    for result in results:
        ring.keep(result)
    assert list(ring.kept) == results[2:]


def raced(spent=lambda: False):
    problem = gpu.Repeated((64, 10), "float32")
    operation = "cross_entropy"
    answer = right(problem, operation)

    def absent(operation, arrays):
        raise NotImplementedError("not installed")

    def broken(operation, arrays):
        raise RuntimeError("of an unknown version")

    peers = {
        "nbloss": lambda *_: Contender(2e-6, answer),
        "torch": lambda *_: Contender(8e-6, answer),
        "torch.compile": lambda *_: Contender(1e-6, [answer[0] * 1.1]),
        "triton": absent,
        "other": broken,
    }
    return gpu.race(operation, problem, None, peers, Clock(), 5, spent)


def test_a_race_times_whom_is_right_and_says_why_the_others_are_not():
    record = raced()
    found = record["contenders"]
    assert found["nbloss"]["seconds"] == 2e-6
    assert found["nbloss"]["share"] == pytest.approx(record["bytes"] / 2e-6 / 1e12)
    assert found["torch"]["to_nbloss"] == pytest.approx(4)
    assert "off by 1.0e-01" in found["torch.compile"]["wrong"]
    assert found["triton"] == {"absent": "not installed"}
    assert "RuntimeError" in found["other"]["failed"]


def test_when_the_time_is_up_nobody_else_is_set_up():
    assert all("no time" in c["absent"] for c in raced(lambda: True)["contenders"].values())


def test_the_files(tmp_path):
    record = raced()
    gpu_report.write(tmp_path, [record, record | {"dtype": "bfloat16"}], FACTS)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["machine"] == FACTS and kept["races"][0] == record
    text = (tmp_path / "results.txt").read_text()
    assert text.index("  nbloss") < text.index("  torch ") < text.index("triton  absent: not installed")
    assert "4.00" in text and "Test GPU (sm_9.0)" in text
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_no_records_still_make_files(tmp_path):
    gpu_report.write(tmp_path, [], FACTS)
    assert json.loads((tmp_path / "results.json").read_text())["races"] == []


def command(*words):
    return subprocess.run([sys.executable, "-m", "nbloss", "bench", *words], capture_output=True, text=True)


def test_no_device_is_said_in_a_line(tmp_path):
    from nbloss.backends import select

    try:
        select.checked_device("cuda")
    except select.DeviceUnavailableError:
        pass
    else:
        pytest.skip("there is a GPU")
    result = command("--device", "cuda", "--out", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("nbloss bench: error: ") and "cuda" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device=cuda"], "--out"),
        (["--device", "cuda", "--out", "x", "--shape", "12"], "a shape is written NxC"),
        (["--device", "cuda", "--out", "x", "--op", "softmax"], "invalid choice"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_bad_arguments(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(*words)
    assert result.returncode == 2 and said in result.stderr


def test_help_of_both():
    assert "--out FOLDER" in command("--device", "cuda", "--help").stdout
    assert "--png" in command("--help").stdout
