"""`python -m nbloss bench --evaluate`: every contender finds the same numbers, beside the time of the loss alone."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import nbloss.functional as F
from nbloss.bench import cli, evaluate, main
from nbloss.bench.evaluate import DTYPES, PEERS, YARDSTICKS, EvaluateRace
from nbloss.bench.measure.clock import Plan
from nbloss.bench.peers import WrongResult, check

SHORT = Plan(rounds=2, pause=0.0, turn=1e-4)
PAGE = "<!-- nbloss bench: evaluate -->\n<!-- end of nbloss bench -->\n"


def ready(peer, problem):
    """The callable of a contender; a skip where its library is not there."""
    try:
        return PEERS["evaluate"][peer](problem)
    except NotImplementedError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("peer", PEERS["evaluate"])
def test_a_contender_agrees_with_the_formulas_at_every_call(peer, dtype):
    problem = EvaluateRace.parse("900x60", dtype)
    run = ready(peer, problem)
    for _ in range(2):
        check("evaluate", peer, problem, run)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_memory_map_gives_the_bits_of_the_array(dtype):
    problem = EvaluateRace.parse("900x60", dtype)
    assert ready("nbloss-map", problem)() == ready("nbloss", problem)()


def test_torch_adds_its_batches(monkeypatch):
    module = pytest.importorskip("nbloss.bench.evaluate.torch", exc_type=ImportError)
    monkeypatch.setattr(module, "BATCH_BYTES", 4 * 60 * 100)
    problem = EvaluateRace.parse("950x60")
    check("evaluate", "torch", problem, ready("torch", problem))


def test_torch_takes_topk_for_many_classes():
    problem = EvaluateRace.parse("20x5000")
    check("evaluate", "torch", problem, ready("torch", problem))


def test_the_formulas_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    p = EvaluateRace.parse("700x9")
    e = np.exp(p.logits.astype(float))
    prob, labels = e / e.sum(axis=1, keepdims=True), np.arange(9)
    loss, entropy, first, fifth, _ = p.answer("evaluate")
    assert loss == pytest.approx(metrics.log_loss(p.target, prob, labels=labels))
    assert entropy == pytest.approx(-(prob * np.log(prob)).sum(axis=1).mean())
    assert first == metrics.top_k_accuracy_score(p.target, prob, k=1, labels=labels)
    assert fifth == metrics.top_k_accuracy_score(p.target, prob, k=5, labels=labels)


def test_the_yardstick_is_the_loss_of_the_same_arrays():
    p = EvaluateRace.parse("300x20")
    assert YARDSTICKS["evaluate"]["cross_entropy"](p)() == F.cross_entropy(p.logits, p.target)
    assert p.answer("evaluate")[0] == pytest.approx(float(F.cross_entropy(p.logits, p.target)))


@pytest.mark.parametrize("place", range(5))
def test_a_contender_with_another_number_is_found(place):
    problem = EvaluateRace.parse("64x7")

    def run():
        results = list(problem.answer("evaluate"))
        results[place] *= 1.001
        return tuple(results)

    with pytest.raises(WrongResult):
        check("evaluate", "nbloss", problem, run)


def test_races_are_those_of_the_page_and_a_bad_shape_is_refused():
    assert evaluate.chosen(None, ["7x5", "7x5"], False) == [("evaluate", "7x5", dtype) for dtype in DTYPES]
    assert len(evaluate.chosen(None, None, False)) == 15
    for shape in ("2x3x5", "5x4", "8x9.T"):
        with pytest.raises(ValueError, match="shape should be NxC with"):
            evaluate.chosen(None, [shape], False)


def test_a_library_that_is_not_installed_is_missing():
    """In a new process that cannot import it."""
    code = """
        import sys
        sys.modules["torch"] = None  # makes `import torch` raise ImportError
        from nbloss.bench import evaluate
        try:
            evaluate.PEERS["evaluate"]["torch"](evaluate.EvaluateRace.parse("7x5"))
        except NotImplementedError as reason:
            assert "not installed" in str(reason), reason
        else:
            raise AssertionError("torch is there")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr


def test_they_are_measured_written_and_filled_in(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "QUICK", SHORT)
    numbers, page = tmp_path / "evaluate.json", tmp_path / "page.md"
    page.write_text(PAGE)
    arguments = ["--evaluate", "--quick", "--peers", "nbloss", "--shape", "7x5", "--json", str(numbers), "--fill", str(page)]
    assert main(arguments) == 0
    assert "evaluate  7x5 float32" in capsys.readouterr().out
    written = json.loads(numbers.read_text())
    assert [(r["dtype"], set(r["contenders"])) for r in written["races"]] == [(name, {"nbloss", "cross_entropy"}) for name in DTYPES]
    before = page.read_text()
    assert "| evaluate  7x5 float32 |" in before and "|  | nbloss | x cross_entropy |" in before
    assert main(["--evaluate", "--from", str(numbers), "--fill", str(page)]) == 0, "filled in again from the results"
    assert page.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--op", "cross_entropy"], "cross_entropy"), (["--shape", "2x3x4"], "2x3x4"), (["--peers", "scipy"], "scipy")],
)
def test_bad_arguments_give_one_line_and_status_2(arguments, message, capsys):
    assert main(["--evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
