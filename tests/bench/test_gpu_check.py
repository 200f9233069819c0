"""tools/gpu_check: the runner of its steps with steps that fail, hang and crash, what it reads, and a dry run without a GPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from gpu_steps import bandwidth, counters, plan, records, sanitizer
from gpu_steps.runner import Command, Runner, Step

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the runner stops groups of processes, which Windows has not")

WRITE = "from gpu_steps import records; records.write({!r}, {!r}, value=1)\n"


def step(name, *programs, seconds=20.0, together=1):
    commands = [Command(f"{name}{k}", (sys.executable, "-c", program)) for k, program in enumerate(programs)]
    return Step(name, "a step of a test", seconds, commands, together)


def run(folder, *steps, minutes=5.0):
    """``(exit status, lines)``."""
    status = Runner(folder, minutes, {"PYTHONPATH": str(TOOLS)}).run(steps)
    return status, records.read(folder / "results.jsonl")


def outcomes(lines):
    return {line["step"]: line["outcome"] for line in lines if line["status"] == "ended"}


def of(lines, name):
    return [line for line in lines if line["step"] == name and line["status"] not in ("began", "ended")]


GOOD = WRITE.format("good", "passed")


def test_steps_that_pass_give_status_0(tmp_path, capsys):
    status, lines = run(tmp_path, step("one", GOOD), step("two", GOOD, GOOD, together=2))
    assert status == 0 and outcomes(lines) == {"one": "passed", "two": "passed"}
    assert of(lines, "one")[0] == {"step": "one", "process": "one0", "check": "good", "status": "passed", "value": 1}
    assert len(of(lines, "two")) == 2
    assert "two          passed" in (tmp_path / "summary.txt").read_text() and "two          passed" in capsys.readouterr().out


def test_a_step_that_hangs_is_stopped_with_all_its_processes_and_the_next_one_runs(tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    hangs = GOOD + f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    status, lines = run(tmp_path, step("hangs", hangs, GOOD, seconds=4), step("next", GOOD))
    assert status == 1 and time.monotonic() - start < 30
    assert outcomes(lines) == {"hangs": "failed", "next": "passed"}
    kept, *late = of(lines, "hangs")
    assert kept["check"] == "good" and kept["status"] == "passed"  # written before it hung
    assert [line["reason"].partition(":")[0] for line in late] == ["stopped", "not started"]
    processes.assert_ends(int(pid.read_text()))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("print('nothing for the file')", "it wrote no line"),
    ],
)
def test_a_process_that_does_not_say_why_it_failed_gets_a_line(tmp_path, program, reason):
    status, lines = run(tmp_path, step("bad", GOOD, program), step("next", GOOD))
    assert status == 1 and outcomes(lines) == {"bad": "failed", "next": "passed"}
    assert of(lines, "bad")[1]["reason"] == reason


def test_a_check_that_failed_fails_its_step(tmp_path):
    status, lines = run(tmp_path, step("bad", WRITE.format("wrong", "failed") + "raise SystemExit(1)"))
    assert status == 1 and len(of(lines, "bad")) == 1  # it has said so itself
    assert "failed: bad: wrong: value 1" in (tmp_path / "summary.txt").read_text()


def test_what_is_not_installed_is_skipped_with_its_reason(tmp_path):
    program = "from gpu_steps import records; records.write('ncu', 'skipped', reason='ncu is not installed')"
    status, lines = run(tmp_path, step("absent", program))
    assert status == 0 and outcomes(lines) == {"absent": "skipped"}
    assert "skipped: absent: 1 x ncu is not installed" in (tmp_path / "summary.txt").read_text()


def test_the_summary_has_what_was_measured(tmp_path):
    run(tmp_path, step("copy", "from gpu_steps import records; records.write('copy', 'measured', note='4000 GB/s')"))
    assert "copy: copy: 4000 GB/s" in (tmp_path / "summary.txt").read_text()


def test_no_step_begins_after_the_time_is_up(tmp_path):
    status, lines = run(tmp_path, step("late", GOOD), minutes=0)
    assert status == 0 and of(lines, "late")[0]["reason"] == "no time was left"


def test_a_run_that_is_terminated_keeps_its_lines_and_stops_its_processes(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(TOOLS)!r})
from gpu_steps.runner import Command, Runner, Step
commands = [Command("hangs", (sys.executable, "-c", {GOOD + "import time; time.sleep(600)"!r}))]
steps = [Step("one", "hangs", 60, commands), Step("two", "is never begun", 60, commands)]
sys.exit(Runner({str(tmp_path)!r}, 5, {{"PYTHONPATH": {str(TOOLS)!r}}}).run(steps))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    while not any(line["status"] == "passed" for line in records.read(tmp_path / "results.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1
    lines = records.read(tmp_path / "results.jsonl")
    assert outcomes(lines) == {"one": "failed"} and not of(lines, "two")
    assert of(lines, "one")[-1]["reason"] == "stopped: the run was terminated"
    assert "one " in (tmp_path / "summary.txt").read_text()


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "results.jsonl"
    records.append(path, '{"step": "one"}')
    with open(path, "a") as file:
        file.write('{"step": "tw')
    assert records.read(path) == [{"step": "one"}]


# ---- what the steps read and write ------------------------------------------------------------------------------------


NCU = """==PROF== Connected to process 7
a line of the program
"ID","Kernel Name","gpu__time_duration.sum","gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed","launch__registers_per_thread",\
"smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio","smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio"
"","","usecond","%","register/thread","inst","inst"
"0","short","1.50","10.5","32","0.1","0.2"
"1","long","1,250.25","91.5","64","0.5","3.25"
"""


def test_the_counters_of_the_longest_kernel_come_first():
    longest, short = counters.kernels(NCU)
    assert longest["kernel"] == "long" and longest["ns"] == pytest.approx(1250250)
    assert longest["dram_percent"] == 91.5 and longest["registers"] == 64
    assert list(longest["stalls"].items()) == [("long_scoreboard", 3.25), ("barrier", 0.5)]
    assert short["ns"] == pytest.approx(1500)
    assert counters.kernels("==ERROR== ERR_NVGPUCTRPERM\n") == []


@pytest.fixture
def written(capsys):
    """The lines that were written so far."""

    def lines():
        return [json.loads(text) for text in capsys.readouterr().out.splitlines() if text.startswith('{"step"')]

    return lines


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a shell script into the place of a tool of NVIDIA's; without one, no such tool is there."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return install


CALL = "log_softmax:64x1000:float32"


@pytest.mark.parametrize(
    ("script", "statuses"),
    [
        (None, ["skipped"]),
        ("echo '==ERROR== ERR_NVGPUCTRPERM'; exit 1", ["skipped"]),
        ("echo 'Segmentation fault'; exit 139", ["failed"]),
        (f"/bin/cat <<'END'\n{NCU}END", ["measured", "measured", "measured"]),
    ],
    ids=["absent", "denied", "crash", "kernels"],
)
def test_what_ncu_says_is_written(installed, written, script, statuses):
    if script:
        installed("ncu", script)
    counters.profile(CALL)
    assert [line["status"] for line in written()] == statuses


@pytest.mark.parametrize(
    ("script", "status", "found"),
    [
        (None, "skipped", None),
        ("echo 70x3 float32; echo '========= ERROR SUMMARY: 0 errors'", "passed", False),
        (f"echo '========= ERROR SUMMARY: 2 errors'; exit {sanitizer.FOUND}", "failed", True),
        ("exit 1", "failed", False),
    ],
    ids=["absent", "clean", "errors", "crash"],
)
def test_what_the_sanitizer_says_is_written(installed, written, monkeypatch, script, status, found):
    if script:
        installed("compute-sanitizer", script)
    monkeypatch.setattr(sys, "argv", ["sanitizer", "memcheck"])
    assert bool(sanitizer.main()) == (status == "failed")
    (line,) = written()
    assert line["status"] == status and line.get("errors_found") == found


TESTS = """
import numpy as np
import pytest

pytestmark = pytest.mark.gpu

def test_right():
    np.testing.assert_array_equal(1, 1)

def test_wrong():
    np.testing.assert_array_equal(1, 2)

def test_late():
    assert False, "of a comparison"

def test_broken():
    raise TypeError("of the host")

def test_absent():
    pytest.skip("no torch")
"""


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("dry", "expected"),
    [
        ("", {"right": "passed", "wrong": "failed", "late": "failed", "broken": "failed", "absent": "skipped"}),
        ("1", {"right": "not compared", "wrong": "not compared", "late": "not compared", "broken": "failed", "absent": "skipped"}),
    ],
    ids=["real", "dry"],
)
def test_every_test_of_a_suite_has_one_line(tmp_path, dry, expected, processes):
    (tmp_path / "test_gpu.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    results = tmp_path / "results.jsonl"
    environment = os.environ | {records.RESULTS: str(results), records.DRY_RUN: dry, "PYTHONPATH": str(TOOLS)}
    words = [sys.executable, "-m", "gpu_steps.suite", "-n", processes, str(tmp_path)]
    assert subprocess.run(words, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 1
    lines = records.read(results)
    assert {line["check"].partition("::test_")[2]: line["status"] for line in lines} == expected and len(lines) == len(expected)
    (broken,) = (line for line in lines if line["check"].endswith("broken"))
    assert "TypeError: of the host" in broken["reason"]


@pytest.mark.parametrize(
    ("contenders", "status", "reason"),
    [
        ({"nbloss": {"seconds": 1e-3}, "torch": {"absent": "not installed"}}, "measured", None),
        ({"nbloss": {"wrong": "off by 2"}, "torch": {"absent": "not installed"}}, "failed", "nbloss: off by 2"),
        ({"torch": {"absent": "not installed"}}, "skipped", "torch: not installed"),
    ],
)
def test_a_race_fails_if_a_peer_is_wrong(contenders, status, reason, written):
    times = {"low": 1e-3, "high": 1e-3, "host_seconds": 1e-3, "share": 0.5, "to_nbloss": 1.0}
    contenders = {name: c | times if "seconds" in c else c for name, c in contenders.items()}
    bandwidth.write({"operation": "log_softmax", "shape": [64, 10], "dtype": "float32", "bytes": 5120, "contenders": contenders})
    (line,) = written()
    assert line["status"] == status and line.get("reason") == reason


def test_the_first_steps_fit_into_four_minutes_and_all_into_nine():
    steps = plan.steps(dry=False)
    assert sum(step.seconds for step in steps[:5]) <= 240 and sum(step.seconds for step in steps) <= 540


def test_all_kernels_are_compiled_once():
    whole = {step.name: [command.name for command in step.commands] for step in plan.steps(dry=True, whole=True)}
    assert "compilers" not in whole and whole["sanitizer"] == ["memcheck"] and whole["large"] == ["more-than-32-bits"]
    assert whole["smoke"] == list(plan.FAMILIES)


def test_the_steps_name_every_family_of_kernels():
    """The list of steps is shown without nbloss, so it has names of its own."""
    code = "from gpu_steps import plan, smoke; assert set(plan.FAMILIES) == set(smoke.FAMILIES)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TOOLS)])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_steps_are_listed():
    listed = subprocess.run([sys.executable, str(TOOLS / "gpu_check"), "--list"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [step.name for step in plan.steps(dry=False)]


# ---- a dry run --------------------------------------------------------------------------------------------------------


def test_a_dry_run_runs_its_steps_without_a_gpu(tmp_path):
    pytest.importorskip("numba_cuda")
    pytest.importorskip("cuda.core")
    sys.path.insert(0, str(ROOT / "tests" / "cuda_host"))
    recorder = pytest.importorskip("recorder")
    if not sys.platform.startswith("linux") or recorder.compiler() is None:
        pytest.skip("the stand-in for the driver needs Linux and a C compiler")
    words = ["--dry-run", "--only", "versions", "bandwidth", "counters", "compilers", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, str(TOOLS / "gpu_check"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = records.read(tmp_path / "results.jsonl")
    assert outcomes(lines)["versions"] == outcomes(lines)["bandwidth"] == "passed"
    assert {line["check"]: line["status"] for line in of(lines, "versions")}["first call"] == "not compared"
    assert "seconds" in of(lines, "bandwidth")[-1]["contenders"]["nbloss"]
    assert all(line["dry_run"] for line in lines if "process" in line)
