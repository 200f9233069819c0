"""Every peer computes the expected results, so that the timed work is the same."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nbloss.bench.peers import PEERS, WrongResult, check
from nbloss.bench.problem import OPERATIONS, Problem

SHAPES = ["7x5", "64x33", "2x3x4x5", "33x64.T"]
ALL = [(operation, peer) for operation in OPERATIONS for peer in PEERS[operation]]
QUICK = [(operation, peer) for operation, peer in ALL if peer != "torch.compile"]


def agrees(operation, peer, problem):
    try:
        check(operation, peer, problem)
    except NotImplementedError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("operation", "peer", "dtype"),
    [(o, p, d) for o, p in QUICK for d in ("float32", "float64") if (p, d) != ("naive_numba", "float64")],  # slow to compile
)
def test_a_peer_agrees_with_the_formula(operation, peer, dtype, shape):
    agrees(operation, peer, Problem.parse(shape, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("peer", ["nbloss", "numpy", "torch", "jax"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_peer_agrees_with_the_formula_in_half_precision(operation, peer, dtype):
    agrees(operation, peer, Problem((64, 33), dtype))


@pytest.mark.skipif("NBLOSS_SLOW" not in os.environ, reason="compiles for a minute; set NBLOSS_SLOW=1")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_torch_compile_agrees_with_the_formula(operation):
    agrees(operation, "torch.compile", Problem((64, 33)))


@pytest.mark.parametrize(("operation", "peer"), QUICK)
def test_a_peer_repeats_its_result_and_does_not_change_its_inputs(operation, peer):
    problem = Problem((7, 5))
    inputs = [problem.logits, problem.log_probs, problem.grad_output, problem.target]
    before = [a.copy() for a in inputs]
    agrees(operation, peer, problem)
    try:
        run = PEERS[operation][peer](problem)
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    for _ in range(3):
        check(operation, peer, problem, run)
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_absent_peers_raise_not_implemented_with_the_reason():
    """In a new process that can import nothing but NumPy. The table must exist nevertheless."""
    found = run_python("""
        import sys
        for name in ("numba", "scipy", "torch", "jax", "autograd", "sklearn", "tqdm", "matplotlib"):
            sys.modules[name] = None  # makes `import name` raise ImportError
        from nbloss.bench.peers import PEERS
        from nbloss.bench.problem import Problem
        for operation, table in PEERS.items():
            for peer, setup in table.items():
                if peer.startswith("nbloss"):
                    continue
                try:
                    setup(Problem((7, 5)))
                    print(operation, peer, "present")
                except NotImplementedError as reason:
                    assert "not installed" in str(reason), reason
    """)
    assert found.split("\n") == [f"{operation} numpy present" for operation in OPERATIONS]


def test_importing_the_bench_imports_no_peer():
    loaded = run_python("import sys, nbloss.bench, nbloss.bench.cli; print(*sys.modules)")
    assert not {"numba", "torch", "jax", "scipy", "sklearn", "matplotlib", "tqdm", "asv"} & set(loaded.split())


def run_python(code):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("peer", "shape", "dtype"),
    [("sklearn", (2, 3, 4, 5), "float32"), ("sklearn", (7, 5), "float16"), ("scipy", (7, 5), "bfloat16"),
     ("autograd", (7, 5), "float16"), ("naive_numba", (2, 3, 4, 5), "float32"), ("naive_numba", (7, 5), "float16")],
)  # fmt: skip
def test_a_peer_that_cannot_run_a_problem_raises_not_implemented(peer, shape, dtype):
    with pytest.raises(NotImplementedError):
        check("cross_entropy_value_and_grad", peer, Problem(shape, dtype))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda loss, grad: (loss * 1.01, grad),
        lambda loss, grad: (loss, grad + 1e-2),
        lambda loss, grad: (loss, np.where(np.arange(grad.size).reshape(grad.shape) == 3, np.nan, grad)),
        lambda loss, grad: (loss, grad[:-1]),
        lambda loss, grad: loss,
    ],
    ids=["loss", "gradient", "nan", "shape", "one result"],
)
def test_a_wrong_result_is_caught(wrong):
    problem = Problem((7, 5))
    loss, grad = problem.answer("cross_entropy_value_and_grad")
    with pytest.raises(WrongResult, match="cross_entropy_value_and_grad"):
        check("cross_entropy_value_and_grad", "numpy", problem, lambda: wrong(loss, grad))
