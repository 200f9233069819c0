"""`python -m nbloss bench --options`: every peer does the same work, and every race, lost cell and missing peer is shown."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from records import FACTS, record

from nbloss.bench import cli, main, options
from nbloss.bench.measure import files
from nbloss.bench.measure.clock import Plan
from nbloss.bench.options import OPERATIONS, PEERS, OptionProblem
from nbloss.bench.peers import check
from nbloss.bench.report import pages

SHORT = Plan(rounds=2, pause=0.0, turn=1e-4)
ALL = [(operation, peer) for operation in OPERATIONS for peer in PEERS[operation]]
PAGE = "<!-- nbloss bench: options -->\n<!-- end of nbloss bench -->\n"


def ready(operation, peer, problem):
    """The callable of a peer; a skip where it is not there."""
    try:
        return PEERS[operation][peer](problem)
    except NotImplementedError as reason:
        pytest.skip(str(reason))


def arrays(results):
    results = results if isinstance(results, tuple) else (results,)
    return [np.asarray(r.detach() if hasattr(r, "detach") else r) for r in results]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ["7x5", "64x77"])
@pytest.mark.parametrize(("operation", "peer"), ALL)
def test_a_peer_agrees_with_the_formula(operation, peer, shape, dtype):
    problem = OptionProblem.parse(shape, dtype)
    check(operation, peer, problem, ready(operation, peer, problem))


@pytest.mark.parametrize(("operation", "peer"), [(operation, peer) for operation, peer in ALL if peer != "nbloss"])
def test_a_peer_agrees_with_nbloss_and_repeats_its_result(operation, peer):
    """Value and gradient, element by element: relative to the largest number, an element that is small may be anything."""
    problem = OptionProblem((33, 12))
    ours, theirs = (ready(operation, who, problem) for who in ("nbloss", peer))
    for _ in range(2):
        for mine, other in zip(arrays(ours()), arrays(theirs()), strict=True):
            assert mine.shape == other.shape
            np.testing.assert_allclose(other, mine, rtol=2e-5, atol=2e-6 * np.abs(mine).max())
            if mine.dtype.kind in "bi":
                np.testing.assert_array_equal(other, mine)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_differs_from_the_plain_loss(operation):
    """A race of an option that a formula leaves out would time something else."""
    problem = OptionProblem((33, 12))
    loss, grad = problem.answer("cross_entropy_value_and_grad")
    value, *rest = problem.answer(operation)
    for plain, found in zip((loss, grad), (value, *rest), strict=False):
        assert np.shape(plain) != np.shape(found) or np.abs(plain - found).max() > 1e-4 * np.abs(plain).max()


def test_races_are_every_combination_and_a_bad_shape_is_refused():
    assert options.chosen(["poly1", "focal_loss"], ["7x5", "7x5", "6x5"], False) == [
        ("poly1", "7x5"), ("poly1", "6x5"), ("focal_loss", "7x5"), ("focal_loss", "6x5")
    ]  # fmt: skip
    assert {shape for _, shape in options.chosen(None, None, False)} == set(options.SHAPES)
    with pytest.raises(ValueError, match="shape"):
        options.chosen(None, ["2x3x4"], False)


def test_a_library_that_is_not_installed_is_missing():
    """In a new process that can import none of them."""
    code = """
        import sys
        for name in ("torch", "jax", "optax"):
            sys.modules[name] = None  # makes `import name` raise ImportError
        from nbloss.bench import options
        for operation, table in options.PEERS.items():
            for peer, setup in table.items():
                if peer in ("torch", "jax", "optax"):
                    try:
                        setup(options.OptionProblem((7, 5)))
                    except NotImplementedError as reason:
                        assert "not installed" in str(reason), reason
                    else:
                        raise AssertionError(peer)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr


def test_they_are_measured_written_and_filled_in(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "QUICK", SHORT)
    numbers, page = tmp_path / "options.json", tmp_path / "page.md"
    page.write_text(PAGE)
    chosen = ["--op", "sample_weight", "cross_entropy_stats", "--shape", "7x5", "--peers", "nbloss", "numpy"]
    assert main(["--options", "--quick", *chosen, "--json", str(numbers), "--fill", str(page)]) == 0
    assert "cross_entropy_stats  7x5 float32" in capsys.readouterr().out
    written = json.loads(numbers.read_text())
    assert [(r["operation"], set(r["contenders"])) for r in written["races"]] == [
        ("sample_weight", {"nbloss", "copy", "read"}), ("cross_entropy_stats", {"nbloss", "numpy", "copy", "read"})
    ]  # fmt: skip
    before = page.read_text()
    assert "| sample_weight  7x5 float32 |" in before
    assert main(["--options", "--from", str(numbers), "--fill", str(page)]) == 0, "filled in again from the results"
    assert page.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--op", "cross_entropy"], "cross_entropy"), (["--shape", "2x3x4"], "2x3x4"), (["--peers", "scipy"], "scipy"),
     (["--dtype", "float64"], "--dtype"), (["--from", "no.json"], "no.json"), (["--fill", "no.md"], "no.md")],
)  # fmt: skip
def test_bad_arguments_give_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--options", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_help_is_not_an_error(capsys):
    assert main(["--options", "--help"]) == 0
    assert "sample_weight" in capsys.readouterr().out


def test_the_page_has_every_lost_cell_and_every_missing_peer(tmp_path):
    first = record("focal_loss", "32x10", yardstick="copy", nbloss=1e-3, torch=9e-4, jax=5e-4, numpy=2e-3, copy=5e-4)
    first["contenders"]["optax"] = {"absent": "not installed: No module named 'optax'"}
    second = record("hvp", "32x10", yardstick="copy", nbloss=1e-3, jax=3e-3, optax=4e-3, copy=5e-4)
    files.write(tmp_path / "options.json", [first, second], FACTS)
    text = pages.filled(PAGE, *files.read([tmp_path / "options.json"]))
    assert "|  | nbloss | x copy/read | numpy | torch | jax | optax |" in text
    assert "Cells where a rival is faster: `focal_loss 32x10 float32` to jax (0.50x), `focal_loss 32x10 float32` to torch (0.90x)." in text
    assert "Not timed in 1 of 2 races: optax, absent: not installed: No module named 'optax'." in text
    assert "none" in pages.filled(PAGE, [second], FACTS)
    assert pages.filled(PAGE.replace("options", "full"), [second], FACTS) == PAGE.replace("options", "full"), "another command's table"
