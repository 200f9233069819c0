"""Processes that a test did not start itself."""

import time
from pathlib import Path

import pytest


def assert_ends(pid, seconds=30):
    """Wait until a process has ended. One that nobody collects stays as a zombie, which counts as ended."""
    if not Path("/proc/self").exists():
        pytest.skip("looks for the process in /proc")
    state, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + seconds
    while True:
        try:
            if state.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.1)
