"""Races in a process of their own, with processes that end, hang and crash."""

import json
import subprocess
import sys

import processes
import pytest

from nbloss.bench.gpu import isolated, races

OPERATIONS = ["log_softmax", "cross_entropy"]


@pytest.fixture
def process(monkeypatch):
    """Makes the process run this program instead."""
    popen = isolated.subprocess.Popen

    def replace(program):
        monkeypatch.setattr(isolated.subprocess, "Popen", lambda words, **options: popen([sys.executable, "-c", program], **options))

    return replace


def spec(seconds=9.0):
    return isolated.Spec(["triton"], OPERATIONS, [64, 10], ["float32"], seconds=seconds)


def line(operation):
    return json.dumps(races.record(operation, races.Repeated((64, 10), "float32"), {"triton": {"seconds": 1e-6}}))


def found(limit=30):
    return {record["operation"]: record["contenders"]["triton"] for record in isolated.records(spec(), limit)}


def test_the_records_of_a_process_are_read_and_its_other_lines_are_not(process):
    process(f"print('compiling'); print('''{line('log_softmax')}'''); print('''{line('cross_entropy')}''')")
    assert found() == {"log_softmax": {"seconds": 1e-6}, "cross_entropy": {"seconds": 1e-6}}


def test_a_process_that_fails_keeps_the_records_that_it_wrote(process):
    process(f"print('''{line('log_softmax')}''', flush=True); raise MemoryError('of the device')")
    results = found()
    assert results["log_softmax"] == {"seconds": 1e-6}
    assert results["cross_entropy"] == {"failed": "its process ended with 1: MemoryError: of the device"}


def test_a_process_that_hangs_is_stopped(process):
    process(f"import time; print('''{line('log_softmax')}''', flush=True); time.sleep(60)")
    results = found(limit=1)
    assert results["log_softmax"] == {"seconds": 1e-6} and "stopped after 1 s" in results["cross_entropy"]["failed"]


def test_no_process_is_started_after_the_time_is_up(process):
    process("raise SystemExit(3)")
    assert [r["contenders"]["triton"] for r in isolated.records(spec(0.0), 30)] == [{"absent": races.NO_TIME}] * 2


def test_every_race_without_a_record_gets_the_reason(process):
    process(f"print('''{line('cross_entropy')}'''); raise SystemExit(3)")
    both = isolated.Spec(list(isolated.COMPILERS), OPERATIONS, [64, 10], ["float32", "float16"])
    records = list(isolated.records(both, 30))
    assert [(r["dtype"], r["operation"]) for r in records] == [
        ("float32", "cross_entropy"), ("float32", "log_softmax"), ("float16", "log_softmax"), ("float16", "cross_entropy"),
    ]  # fmt: skip
    assert all(set(r["contenders"]) == set(isolated.COMPILERS) for r in records[1:])


CHILD = """
import os, threading, time
from nbloss.bench.gpu import isolated
threading.Thread(target=isolated._end_with, args=(os.getppid(),), daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True)
print(child.stdout.readline().decode(), flush=True)
"""


def test_a_process_ends_with_its_parent():
    done = subprocess.run([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True, timeout=60)
    processes.assert_ends(int(done.stdout))
