"""`python -m nbloss` as a user runs it: in another process, from another folder."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("sklearn", "matplotlib", "tqdm")


@pytest.fixture
def command(tmp_path):
    """Start `python -m nbloss ...` in an empty folder; returns the Popen."""

    def start(*words, env=(), before=""):
        path = os.pathsep.join(filter(None, [str(tmp_path / "first"), str(ROOT), os.environ.get("PYTHONPATH")]))
        env = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "120"} | dict(env)
        if before:  # sitecustomize runs before anything else of the child does
            (tmp_path / "first").mkdir()
            (tmp_path / "first" / "sitecustomize.py").write_text(dedent(before))
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "nbloss", *words],
            cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def finish(process):
    out, err = process.communicate(timeout=100)
    assert "Traceback" not in err, err
    return process.returncode, out, err


@pytest.fixture
def demo_extras():
    for name in EXTRAS:
        pytest.importorskip(name)


def assert_is_a_picture(path):
    from matplotlib.image import imread

    pixels = imread(path)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 800
    assert pixels.std() > 0.05  # something is drawn on it


def printed_accuracy(out):
    return float(re.search(r"^test accuracy ([\d.]+)%", out, re.M).group(1))


def test_no_command_prints_the_help(command):
    code, out, _ = finish(command())
    assert code == 0
    assert all(word in out for word in ("info", "demo", "bench"))


def test_help_needs_no_numba(command):
    code, out, _ = finish(command("demo", "--help", before="import sys; sys.modules['numba'] = None"))
    assert code == 0
    assert "--epochs" in out


def test_info_tells_what_a_bug_report_needs(command):
    code, out, _ = finish(command("info"))
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    start = ["nbloss", "numpy", "numba", "llvmlite", "python", "cpu", "threads", "cache"]
    assert names[: len(start)] == start and "gpus" in names
    assert "cuda:0" in out or "none: looked for" in out


@pytest.mark.usefixtures("demo_extras")
def test_demo_learns_digits_and_draws_a_picture(command, tmp_path):
    code, out, err = finish(command("demo"))
    assert code == 0, err
    assert "epoch/s" not in err  # no progress bar in a file
    assert len(re.findall(r"^epoch +\d+  train loss [\d.]+  test accuracy [\d.]+%$", out, re.M)) == 30
    assert printed_accuracy(out) >= 97
    assert re.search(r"^[\d.]+ s of training, [\d.]+% of it in the loss and its gradient$", out, re.M)
    picture = tmp_path / "nbloss-demo.png"
    assert f"picture: {picture.resolve()}" in out
    assert_is_a_picture(picture)


@pytest.mark.usefixtures("demo_extras")
def test_demo_makes_the_folder_of_its_picture(command, tmp_path):
    picture = tmp_path / "new" / "folder" / "nbloss-demo.png"
    code, out, _ = finish(command("demo", "--epochs", "1", "--device", "cpu", "--out", "new/folder"))
    assert code == 0
    assert out.count("epoch") == 1
    assert_is_a_picture(picture)


@pytest.mark.usefixtures("demo_extras")
def test_a_seed_repeats_a_run_and_another_does_not(capsys):
    import numpy as np

    from nbloss import demo

    def losses(seed):
        rng, history = np.random.default_rng(seed), demo.History()
        demo.train(demo.Network(rng), demo.digits(seed), 2, rng, "cpu", history)
        return history.train_loss

    assert losses(3) == losses(3) != losses(4)
    assert capsys.readouterr().out.count("epoch") == 6


@pytest.mark.usefixtures("demo_extras")
def test_every_epoch_shows_in_the_picture_and_a_run_without_a_mistake_has_one(tmp_path, monkeypatch):
    from types import SimpleNamespace

    import numpy as np

    from nbloss import demo

    figures, y = [], np.arange(50) % 10
    monkeypatch.setattr(demo.plt, "close", figures.append)
    network = SimpleNamespace(forward=lambda x: 20 * np.eye(10, dtype=np.float32)[y])
    history = demo.History([2.3, 0.4, 0.1], [0.1, 0.94, 1.0])
    demo.draw(tmp_path / "a.png", history, network, np.zeros((50, 64), np.float32), y)
    assert_is_a_picture(tmp_path / "a.png")
    (errors,) = (axes for axes in figures[0].axes if "wrong" in axes.get_title(loc="left"))
    assert errors.get_yscale() == "log"
    assert list(errors.lines[0].get_ydata()) == pytest.approx([90, 6, 1])  # no mistake: half of one digit of 50
    assert "0.0%" in [text.get_text() for text in errors.texts]


@pytest.mark.usefixtures("demo_extras")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one child")
def test_ctrl_c_keeps_what_was_learnt(command, tmp_path):
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's background jobs ignore it
    process = command("demo", "--epochs", "100000", before=heard)
    lines = [process.stdout.readline() for _ in range(5)]
    assert lines[4].startswith("epoch")
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)
    assert code == 130
    assert "stopped" in out
    assert printed_accuracy(out) > 50
    assert_is_a_picture(tmp_path / "nbloss-demo.png")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--epochs", "0"), ("--epochs", "-3"), ("--epochs", "many"), ("--epochs", "1.5"), ("--seed", "-1")],
)
def test_a_number_out_of_range_is_a_usage_error(command, option, value):
    code, _, err = finish(command("demo", f"{option}={value}"))
    assert code == 2
    assert f"argument {option}: should be a whole number from " in err.splitlines()[-1]
    assert err.endswith(f"; got {value!r}\n")


@pytest.mark.usefixtures("demo_extras")
def test_an_output_folder_that_is_a_file_is_one_line(command, tmp_path):
    (tmp_path / "taken").write_text("")
    code, out, err = finish(command("demo", "--out", "taken"))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "--out taken" in err


@pytest.mark.usefixtures("demo_extras")
def test_demo_without_a_gpu_says_so_in_one_line(command):
    code, out, err = finish(command("demo", "--device", "cuda", env={"CUDA_VISIBLE_DEVICES": ""}))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "cuda" in err


@pytest.mark.usefixtures("demo_extras")
def test_a_wrong_default_device_is_one_line(command):
    code, out, err = finish(command("demo", env={"NBLOSS_DEVICE": "toaster"}))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "toaster" in err


def test_a_missing_extra_is_one_line_with_the_cure(command):
    # What `import` does with a package that is not there, for one that is.
    hide = f"""
        import sys
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {EXTRAS!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Missing())
    """
    code, out, err = finish(command("demo", before=hide))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert 'pip install "nbloss[demo]"' in err


def test_bench_gets_its_options_unread(monkeypatch):
    from types import SimpleNamespace

    from nbloss.__main__ import main

    seen = []
    stand_in = SimpleNamespace(main=lambda argv: seen.append(argv) or 7)
    monkeypatch.setitem(sys.modules, "nbloss.bench", stand_in)
    assert main(["bench", "--help", "--peers", "torch", "x"]) == 7
    assert seen == [["--help", "--peers", "torch", "x"]]
