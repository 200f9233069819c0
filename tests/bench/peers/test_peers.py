"""Every peer does the work that the formulas say: what is timed is the same work."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nbloss.bench.peers import OPERATIONS, PEERS, YARDSTICKS, Problem, WrongResult, check

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
    [(o, p, d) for o, p in QUICK for d in ("float32", "float64") if (p, d) != ("naive_numba", "float64")],  # it is slow to compile
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
def test_a_peer_gives_the_same_result_again_and_leaves_its_inputs_alone(operation, peer):
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


def test_absent_peers_are_not_implemented_and_say_so():
    """In a fresh process that can import nothing but NumPy; the table itself must be there all the same."""
    found = run_python("""
        import sys
        for name in ("numba", "scipy", "torch", "jax", "autograd", "sklearn", "tqdm", "matplotlib"):
            sys.modules[name] = None  # makes `import name` an ImportError
        from nbloss.bench.peers import PEERS, Problem
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
    loaded = run_python("import sys, nbloss.bench, nbloss.bench.peers, nbloss.bench.timing; print(*sys.modules)")
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
def test_a_peer_that_cannot_do_a_problem_is_not_implemented(peer, shape, dtype):
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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", ["7x5", "1024x1031", "1031x1024.T"])  # in one call, in pieces
def test_the_yardsticks_copy_and_read_everything(shape, dtype):
    problem = Problem.parse(shape, dtype)
    np.testing.assert_array_equal(YARDSTICKS["copy"](problem)().ravel(), problem.logits.ravel(order="K"))
    bits = problem.logits.view(np.int16) if problem.logits.itemsize == 2 else problem.logits
    assert YARDSTICKS["read"](problem)() == bits.max()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"shape": (5,)}, "shape"), ({"shape": (0, 5)}, "shape"), ({"shape": (7, 5), "dtype": "int8"}, "dtype"),
     ({"shape": (2, 3, 4), "transposed": True}, "transposed"),
     ({"shape": (7, 5), "axis": 0}, "axis"), ({"shape": (2, 3, 4), "axis": -1}, "axis")],
)  # fmt: skip
def test_a_problem_refuses_what_it_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Problem(**options)


def test_a_problem_is_the_same_for_the_same_seed():
    one, same, other = Problem((7, 5)), Problem((7, 5), axis=-1), Problem((7, 5), seed=1)
    np.testing.assert_array_equal(one.logits, same.logits)
    np.testing.assert_array_equal(one.target, same.target)
    assert (one.logits != other.logits).any()


def test_a_shape_reads_as_it_is_written():
    for text, shape in (("7x5", (7, 5)), ("2x3x4x5", (2, 3, 4, 5)), ("5x7.T", (7, 5))):
        problem = Problem.parse(text, "float64")
        assert (problem.shape, problem.shape_text, problem.dtype) == (shape, text, "float64")
        assert (problem.size, problem.rows) == (np.prod(shape), np.prod(shape) // shape[1])


def test_a_transposed_problem_has_the_same_numbers_with_its_classes_apart():
    flat, turned = Problem((7, 5)), Problem.parse("5x7.T")
    for name in ("logits", "log_probs", "grad_output"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(flat, name))
        assert getattr(turned, name).T.flags.c_contiguous
