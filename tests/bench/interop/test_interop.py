"""`python -m nbloss bench --interop`: every contender does the same work, and a library that is missing is said to be."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nbloss.bench import cli, interop, main
from nbloss.bench.interop import OPERATIONS, PEERS, InteropProblem
from nbloss.bench.measure.clock import Plan
from nbloss.bench.peers import WrongResult, check

SHORT = Plan(rounds=2, pause=0.0, turn=1e-4)
ALL = [(operation, peer) for operation in OPERATIONS for peer in PEERS[operation]]
SHAPES = {"torch": ["7x5", "3x5x2x2"], "jax": ["7x5", "3x5x2x2"], "xgboost": ["64x5"], "lightgbm": ["64x5"]}
PAGE = "<!-- nbloss bench: interop -->\n<!-- end of nbloss bench -->\n"


def ready(operation, peer, problem):
    """The callable of a contender; a skip where its library is not there."""
    try:
        return PEERS[operation][peer](problem)
    except NotImplementedError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("operation", "peer"), ALL)
def test_a_contender_agrees_with_the_formula_at_every_call(operation, peer):
    for shape in SHAPES.get(operation, ["7x5"]):
        problem = InteropProblem.of(operation, shape)
        run = ready(operation, peer, problem)
        for _ in range(2):
            check(operation, peer, problem, run)


@pytest.mark.parametrize(("operation", "peer"), [(operation, peer) for operation, peer in ALL if operation in ("torch", "jax")])
def test_half_types_are_raced_too(operation, peer):
    pytest.importorskip("ml_dtypes")
    problem = InteropProblem.of(operation, "64x77", "bfloat16")
    check(operation, peer, problem, ready(operation, peer, problem))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_contender_that_does_other_work_is_found(operation):
    problem = InteropProblem.of(operation, "64x5")
    other = InteropProblem(problem.shape, seed=1)
    run = ready(operation, "nbloss", other)
    with pytest.raises(WrongResult):
        check(operation, "nbloss", problem, run)


def test_races_are_those_of_the_page_and_a_bad_shape_is_refused():
    assert interop.chosen(["autograd", "jax"], ["7x5", "7x5"], False) == [("autograd", "7x5", "float32"), ("jax", "7x5", "float32")]
    assert ("torch", "8x21x256x256", "float32") in interop.chosen(None, None, False)
    with pytest.raises(ValueError, match="shape should be NxC for autograd"):
        interop.chosen(["autograd"], ["2x3x4"], False)


def test_a_library_that_is_not_installed_is_missing():
    """In a new process that can import none of them."""
    code = """
        import sys
        for name in ("torch", "jax", "autograd", "xgboost", "lightgbm"):
            sys.modules[name] = None  # makes `import name` raise ImportError
        from nbloss.bench import interop
        for operation, table in interop.PEERS.items():
            for setup in table.values():
                try:
                    setup(interop.InteropProblem.of(operation, "7x5"))
                except NotImplementedError as reason:
                    assert "not installed" in str(reason), reason
                else:
                    raise AssertionError(operation)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr


def test_they_are_measured_written_and_filled_in(tmp_path, capsys, monkeypatch):
    pytest.importorskip("autograd")
    monkeypatch.setattr(cli, "QUICK", SHORT)
    numbers, page = tmp_path / "interop.json", tmp_path / "page.md"
    page.write_text(PAGE)
    assert main(["--interop", "--quick", "--op", "autograd", "--shape", "7x5", "--json", str(numbers), "--fill", str(page)]) == 0
    assert "autograd  7x5 float32" in capsys.readouterr().out
    written = json.loads(numbers.read_text())
    assert [(r["operation"], set(r["contenders"])) for r in written["races"]] == [("autograd", {"nbloss", "formula", "copy", "read"})]
    before = page.read_text()
    assert "| autograd  7x5 float32 |" in before and "|  | nbloss | x copy/read | formula |" in before
    assert main(["--interop", "--from", str(numbers), "--fill", str(page)]) == 0, "filled in again from the results"
    assert page.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--op", "cross_entropy"], "cross_entropy"), (["--op", "autograd", "--shape", "2x3x4"], "2x3x4"), (["--peers", "scipy"], "scipy")],
)
def test_bad_arguments_give_one_line_and_status_2(arguments, message, capsys):
    assert main(["--interop", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_boosting_has_labels_to_learn():
    """A table without structure would time trees that stop at their roots."""
    features, labels = InteropProblem.of("xgboost", "4096x10").table
    centers = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
    nearest = (features @ centers.T).argmax(axis=1)
    assert (nearest == labels).mean() > 0.3
