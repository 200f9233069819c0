"""Races in a process of their own, with processes that end, hang and crash."""

import json
import sys

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
    return isolated.Spec("triton", OPERATIONS, [64, 10], "float32", seconds=seconds)


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
