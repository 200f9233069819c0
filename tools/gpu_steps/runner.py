"""Runs steps one after another, each within its own time. A step is one or more processes; one that crashes or hangs ends only itself."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from . import records

POLL = 0.05  # s
SHORTEST = 3.0  # s; with less time left a step is not begun
LAST_LINES = 5  # of the output of a process that failed


@dataclass(frozen=True)
class Command:
    """A process of a step."""

    name: str
    words: tuple


@dataclass(frozen=True)
class Step:
    """Processes that share a limit of time; ``together`` of them run at once."""

    name: str
    about: str
    seconds: float
    commands: list
    together: int = 1


class Runner:
    """Runs steps, and writes results.jsonl, summary.txt and the output of every process into a folder."""

    def __init__(self, folder, minutes, environment=None):
        self.folder, self.results = Path(folder), Path(folder) / "results.jsonl"
        self.deadline = time.time() + 60 * minutes
        self.environment = {**os.environ, **(environment or {}), records.RESULTS: str(self.results.resolve())}
        self.outcomes = []  # (step, status, seconds), in order
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.results.write_text("")

    def run(self, steps):
        """Run all steps; returns the exit status. SIGTERM and Ctrl-C stop the present one and leave the others out."""
        with _terminated_as_interrupt():
            try:
                for step in steps:
                    self._run(step)
            except KeyboardInterrupt:
                print("stopped; the lines of results.jsonl are kept", flush=True)
        text = self.summary()
        print(text, flush=True)
        (self.folder / "summary.txt").write_text(text + "\n")
        finished = len(self.outcomes) == len(steps) and steps
        return int(not finished or any(status == records.FAILED for _, status, _ in self.outcomes))

    def _run(self, step):
        start = time.time()
        end = min(start + step.seconds, self.deadline)
        print(f"{time.strftime('%H:%M:%S')} {step.name}: {step.about} (at most {max(0, end - start):.0f} s)", flush=True)
        self._line(step, records.BEGAN, limit=round(end - start, 1))
        try:
            if end - start < SHORTEST:
                self._line(step, records.SKIPPED, check="all", reason="no time was left")
            else:
                self._run_commands(step, end)
        finally:
            status, seconds = self._status(step), time.time() - start
            self.outcomes.append((step, status, seconds))
            self._line(step, records.ENDED, outcome=status, seconds=round(seconds, 1))
            print(f"{'':8} {step.name}: {status}, {seconds:.1f} s", flush=True)

    def _line(self, step, status, check=None, **facts):
        records.append(self.results, json.dumps({"step": step.name, "check": check, "status": status, **facts}))

    # -------------------- processes --------------------

    def _run_commands(self, step, end):
        waiting, running = list(step.commands), {}
        try:
            while (waiting or running) and time.time() < end:
                while waiting and len(running) < step.together:
                    command = waiting.pop(0)
                    running[command] = self._started(step, command, end)
                time.sleep(POLL)
                for command in [c for c, process in running.items() if process.poll() is not None]:
                    self._report(step, command, running.pop(command).returncode)
        finally:
            for process in running.values():
                _kill(process)
            why = "the time of the step was up" if time.time() >= end else "the run was terminated"
            for what, commands in (("stopped", running), ("not started", waiting)):
                for command in commands:
                    self._line(step, records.FAILED, check=command.name, reason=f"{what}: {why}", output=self._tail(step, command))

    def _log(self, step, command):
        return self.folder / "logs" / f"{step.name}-{command.name}.txt"

    def _started(self, step, command, end):
        environment = {**self.environment, records.STEP: step.name, records.PROCESS: command.name, records.DEADLINE: repr(end)}
        with open(self._log(step, command), "wb") as log:
            # a session of its own, so that all its processes can be stopped
            return subprocess.Popen(
                command.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )  # fmt: skip

    def _report(self, step, command, status):
        """A process that failed without a line that says so gets one, and so does one that wrote nothing."""
        written = [line["status"] for line in self._lines(step) if line.get("process") == command.name]
        if (status and records.FAILED not in written) or not written:
            reason = _ending(status) if status else "it wrote no line"
            self._line(step, records.FAILED, check=command.name, reason=reason, output=self._tail(step, command))

    def _tail(self, step, command):
        log = self._log(step, command)
        return log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.exists() else []

    # -------------------- outcomes --------------------

    def _lines(self, step):
        lines = [line for line in records.read(self.results) if line["step"] == step.name]
        return [line for line in lines if line["status"] not in (records.BEGAN, records.ENDED)]

    def _status(self, step):
        found = {line["status"] for line in self._lines(step)}
        if records.FAILED in found:
            return records.FAILED
        return records.SKIPPED if found <= {records.SKIPPED} else records.PASSED

    def summary(self):
        """A line for each step, then what failed, what was measured, and for which reasons checks were skipped."""
        rows, failed, measured, skipped = [f"{'step':<12} {'status':<8} {'seconds':>7}  checks"], [], [], []
        for step, status, seconds in self.outcomes:
            lines = self._lines(step)
            counts = Counter(line["status"] for line in lines)
            rows.append(f"{step.name:<12} {status:<8} {seconds:>7.1f}  {', '.join(f'{n} {what}' for what, n in counts.items())}")
            failed += [f"failed: {step.name}: {line['check']}: {_reason(line)}" for line in lines if line["status"] == records.FAILED]
            measured += [f"{step.name}: {line['check']}: {line['note']}" for line in lines if "note" in line]
            reasons = Counter(_reason(line) for line in lines if line["status"] == records.SKIPPED)
            skipped += [f"skipped: {step.name}: {n} x {reason}" for reason, n in reasons.items()]
        dry = ["a dry run: the driver computes nothing, and no time or rate means anything"] if records.DRY_RUN in self.environment else []
        return "\n".join([*rows, "", *dry, *failed, *measured, *skipped])


def _reason(line):
    return line.get("reason") or ", ".join(f"{k} {v}" for k, v in line.items() if k not in ("step", "process", "check", "status"))


def _ending(status):
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _kill(process):
    """Stop a process and all that it started. One that the driver holds may not die: nothing waits for it for long."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


@contextlib.contextmanager
def _terminated_as_interrupt():
    """SIGTERM, as `timeout` sends it, raises KeyboardInterrupt as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
