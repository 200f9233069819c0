"""The races on a GPU, with a simulated device: expected results, counted bytes, records."""

import numpy as np
import pytest

from nbloss.bench.gpu import races


class Clock:
    """A device on which a call takes the time that the peer gives."""

    bandwidth = 1e12

    def plan(self, run):
        return 2, 1

    def turn(self, run, calls, copies):
        return run.seconds, 1e-6

    def facts(self):
        return {}


class Peer:
    def __init__(self, seconds, results):
        self.seconds, self.results = seconds, results

    def checked(self, rows):
        return self.results


def right(problem, operation):
    """The expected results, computed for the whole batch."""
    x, y = (np.concatenate([part] * problem.times) for part in (problem.part.logits.astype(np.float64), problem.part.target))
    x -= x.max(axis=1, keepdims=True)
    logp = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    if operation == "log_softmax":
        return [logp]
    hit = np.moveaxis(np.arange(x.shape[1]) == y[..., None], -1, 1)
    loss = -logp[hit].mean()
    return [loss] if operation == "cross_entropy" else [loss, (np.exp(logp) - hit) / y.size]


@pytest.mark.parametrize("operation", races.OPERATIONS)
@pytest.mark.parametrize("shape", [(128, 10), (96, 7), (5, 3), (3, 4, 6, 5)])
def test_a_batch_of_repeated_rows_has_the_expected_results(shape, operation):
    problem = races.Repeated(shape, "float32")
    results = right(problem, operation)
    assert results[-1].shape == (() if operation == "cross_entropy" else shape)
    assert problem.error(operation, results) < 1e-12
    results[-1] = results[-1] * 1.001
    assert problem.error(operation, results) == pytest.approx(1e-3, rel=0.1)
    assert not problem.error(operation, [np.full_like(r, np.nan) for r in results]) <= 1
    assert problem.error(operation, results[:-1]) == np.inf


def test_wrong_last_rows_are_found():
    """The overflow of an offset changes the last rows."""
    problem = races.Repeated((256, 10), "float32")
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
    assert races.Repeated((64, 100), dtype).bytes_moved(operation) == expected


def raced(spent=lambda: False):
    problem = races.Repeated((64, 10), "float32")
    operation = "cross_entropy"
    answer = right(problem, operation)

    def absent(operation, arrays):
        raise NotImplementedError("not installed")

    def broken(operation, arrays):
        raise RuntimeError("of an unknown version")

    peers = {
        "nbloss": lambda *_: Peer(2e-6, answer),
        "torch": lambda *_: Peer(8e-6, answer),
        "torch.compile": lambda *_: Peer(1e-6, [answer[0] * 1.1]),
        "triton": absent,
        "other": broken,
    }
    return races.race(operation, problem, None, peers, Clock(), 5, spent)


def test_a_race_times_the_right_peers_and_gives_the_reason_for_the_others():
    record = raced()
    found = record["contenders"]
    assert found["nbloss"]["seconds"] == 2e-6
    assert found["nbloss"]["share"] == pytest.approx(record["bytes"] / 2e-6 / 1e12)
    assert found["torch"]["to_nbloss"] == pytest.approx(4)
    assert "off by 1.0e-01" in found["torch.compile"]["wrong"]
    assert found["triton"] == {"absent": "not installed"}
    assert "RuntimeError" in found["other"]["failed"]


def test_no_peer_is_set_up_after_the_time_is_up():
    assert all("no time" in c["absent"] for c in raced(lambda: True)["contenders"].values())


def test_a_driver_that_computes_nothing_gives_marked_times():
    problem = races.Repeated((64, 10), "float32")
    peers = {"nbloss": lambda *_: Peer(2e-6, [np.float32(np.nan)])}
    arguments = "cross_entropy", problem, None, peers, Clock(), 5, lambda: False
    assert "wrong" in races.race(*arguments)["contenders"]["nbloss"]
    found = races.race(*arguments, compared=False)["contenders"]["nbloss"]
    assert found["seconds"] == 2e-6 and "not_compared" in found


def test_the_records_of_one_race_are_merged():
    problem = races.Repeated((64, 10), "float32")
    ours = races.record("cross_entropy", problem, {"nbloss": {"seconds": 1e-6}, "torch": {"absent": "not installed"}})
    other = races.record("log_softmax", problem, {"nbloss": {"seconds": 1e-6}})
    compiled = races.record("cross_entropy", problem, {"torch.compile": {"seconds": 3e-6, "share": 9, "to_nbloss": None}})
    first, second = races.merged([ours, other, compiled], 1e12)
    assert list(first["contenders"]) == ["nbloss", "torch", "torch.compile"] and list(second["contenders"]) == ["nbloss"]
    assert first["contenders"]["torch.compile"]["to_nbloss"] == pytest.approx(3)
    assert first["contenders"]["torch.compile"]["share"] == pytest.approx(first["bytes"] / 3e-6 / 1e12)
