"""The order of the GPU benchmark: what needs no compilation runs first, compilers run last and in processes of their own."""

import argparse

import pytest

from nbloss.bench.gpu import command, isolated, races


@pytest.fixture
def raced(monkeypatch):
    """What was raced, in order: (peers, shape, operation), or (peer, shape, "process")."""
    seen = []

    def race(operation, problem, arrays, peers, clock, rounds, spent):
        seen.append(("+".join(peers), problem.shape, operation))
        return races.record(operation, problem, {})

    def records(spec, limit):
        assert limit > spec.seconds > 0
        seen.append(("+".join(spec.peers), tuple(spec.shape), "process"))
        yield races.record(spec.operations[0], races.Repeated(tuple(spec.shape), spec.dtypes[0]), {})

    monkeypatch.setattr(command, "race", race)
    monkeypatch.setattr(isolated, "records", records)

    def run(chosen):
        options = argparse.Namespace(
            shape=[(64, 10), (32, 5)], dtype=["float32"], op=["log_softmax", "cross_entropy"], quick=True, minutes=5, device="cuda"
        )
        clock = argparse.Namespace(arrays=lambda problem: None)
        return len(list(command._races(options, chosen, dict.fromkeys(chosen), clock))), seen

    return run


def test_compilers_run_after_all_other_races(raced):
    count, seen = raced(["nbloss", "torch", "torch.compile", "triton"])
    assert [(peers, shape) for peers, shape, _ in seen[:4]] == [("nbloss+torch", (64, 10))] * 2 + [("nbloss+torch", (32, 5))] * 2
    assert seen[4:] == [(peer, shape, "process") for shape in [(64, 10), (32, 5)] for peer in isolated.COMPILERS]
    assert count == len(seen)


def test_compilers_may_run_alone(raced):
    assert [where for *_, where in raced(["triton"])[1]] == ["process"] * 2
