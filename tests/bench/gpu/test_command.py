"""The command line of the GPU benchmark, as far as it needs no GPU."""

import subprocess
import sys

import pytest


def command(*words):
    return subprocess.run([sys.executable, "-m", "nbloss", "bench", *words], capture_output=True, text=True)


def test_a_missing_device_gives_one_line(tmp_path):
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
        (["--device", "cuda", "--out", "x", "--shape", "12"], "shape should be NxC"),
        (["--device", "cuda", "--out", "x", "--op", "softmax"], "invalid choice"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_bad_arguments_give_status_2(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(*words)
    assert result.returncode == 2 and said in result.stderr


def test_both_devices_have_their_own_help():
    assert "--out FOLDER" in command("--device", "cuda", "--help").stdout
    assert "--png" in command("--help").stdout
