"""`python -m nbloss bench --linear`: every contender does the same work, beside the products alone, and its memory is measured."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nbloss import _linear
from nbloss.bench import cli, linear, main
from nbloss.bench.linear import OPERATIONS, PEERS, YARDSTICKS, LinearRace
from nbloss.bench.measure import memory
from nbloss.bench.measure.clock import Plan
from nbloss.bench.peers import WrongResult, check

SHORT = Plan(rounds=2, pause=0.0, turn=1e-4)
ALL = [(operation, peer) for operation in OPERATIONS for peer in PEERS[operation]]
PAGE = "<!-- nbloss bench: linear -->\n<!-- end of nbloss bench -->\n"


def ready(operation, peer, problem):
    """The callable of a contender; a skip where its library is not there."""
    try:
        return PEERS[operation][peer](problem)
    except NotImplementedError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("operation", "peer"), ALL)
def test_a_contender_agrees_with_the_formula_at_every_call(operation, peer):
    problem = LinearRace.parse("600x5x11")
    run = ready(operation, peer, problem)
    for _ in range(2):
        check(operation, peer, problem, run)


def test_the_formula_is_that_of_the_whole_logits():
    problem = LinearRace.parse("300x4x9")
    x, w = problem.features.astype(float), problem.layer.astype(float)
    p = np.exp(x @ w.T)
    p /= p.sum(axis=1, keepdims=True)
    loss, of_input, of_weight = problem.answer("linear")
    at = np.arange(300), problem.target
    assert loss == pytest.approx(-np.log(p[at]).mean()) == problem.answer("linear_forward")[0]
    p[at] -= 1
    np.testing.assert_allclose(of_input, p @ w / 300)
    np.testing.assert_allclose(of_weight, p.T @ x / 300, atol=1e-15)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_contender_that_does_other_work_is_found(operation):
    problem = LinearRace.parse("64x3x5")
    run = ready(operation, "nbloss", LinearRace(problem.shape, seed=1))
    with pytest.raises(WrongResult):
        check(operation, "nbloss", problem, run)


@pytest.mark.parametrize("shape", ["5x3x7", "900x8x50257", "9000x4x1000"])
def test_the_products_have_the_chunks_of_nbloss(shape, monkeypatch):
    """Counted: the yardstick calls as many products of as many rows."""
    from nbloss.bench.linear import nbloss as module

    problem, calls, matmul = LinearRace.parse(shape), [], np.matmul

    class Spied:
        def __getattr__(self, name):
            return spy if name == "matmul" else getattr(np, name)

    def spy(a, b, out=None):
        calls.append(a.shape)
        return matmul(a, b, out=out)

    monkeypatch.setattr(module, "np", Spied())
    monkeypatch.setattr(_linear, "np", Spied())
    YARDSTICKS["linear_forward"]["products"](problem)()
    wanted, calls[:] = list(calls), []
    module.F.linear_cross_entropy(problem.features, problem.layer, problem.target)
    assert calls == wanted and len(calls) == {"5x3x7": 1, "900x8x50257": 3, "9000x4x1000": 5}[shape]


def test_races_are_those_of_the_page_and_a_bad_shape_is_refused():
    assert linear.chosen(["linear"], ["7x5x3", "7x5x3"], False) == [("linear", "7x5x3")]
    assert len(linear.chosen(None, None, False)) == 6
    with pytest.raises(ValueError, match="shape should be NxDxC"):
        linear.chosen(None, ["2x3"], False)


def test_a_library_that_is_not_installed_is_missing():
    """In a new process that can import none of them."""
    code = """
        import sys
        for name in ("torch", "jax"):
            sys.modules[name] = None  # makes `import name` raise ImportError
        from nbloss.bench import linear
        for name, setup in linear.PEERS["linear"].items():
            try:
                setup(linear.LinearRace.parse("7x3x5"))
            except NotImplementedError as reason:
                assert "not installed" in str(reason), reason
            else:
                assert name == "nbloss"
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr


def test_they_are_measured_written_and_filled_in(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "QUICK", SHORT)
    monkeypatch.setattr(memory, "peak", lambda *race: 5 << 20)
    numbers, page = tmp_path / "linear.json", tmp_path / "page.md"
    page.write_text(PAGE)
    arguments = ["--linear", "--quick", "--peers", "nbloss", "--shape", "7x3x5", "--json", str(numbers), "--fill", str(page)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "linear  7x3x5 float32" in out and "(products)" in out and "memory of one call: nbloss 5 MiB" in out
    written = json.loads(numbers.read_text())
    assert [(r["operation"], set(r["contenders"])) for r in written["races"]] == [(name, {"nbloss", "products"}) for name in OPERATIONS]
    before = page.read_text()
    assert "| linear  7x3x5 float32 | 5 MiB |" in before and "|  | nbloss | x products |" in before
    assert main(["--linear", "--from", str(numbers), "--fill", str(page)]) == 0, "filled in again from the results"
    assert page.read_text() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_memory_is_that_of_one_call():
    """The logits of this race would take 400 MB, a chunk of them 67 MB; the gradients take 8 MB, and BLAS has buffers of its own."""
    memory.peak("linear", "nbloss", "2000x40x50257")  # compiles the kernels, which takes memory
    grown = memory.peak("linear", "nbloss", "2000x40x50257")
    assert 60 * 2**20 < grown < 160 * 2**20
    assert memory.peak("linear", "no contender", "4x4x4") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--op", "cross_entropy"], "cross_entropy"), (["--shape", "2x3"], "2x3"), (["--peers", "scipy"], "scipy")],
)
def test_bad_arguments_give_one_line_and_status_2(arguments, message, capsys):
    assert main(["--linear", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
