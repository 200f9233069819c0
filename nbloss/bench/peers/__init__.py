"""The table of peers, shared by the tests, the asv suites and `python -m nbloss bench`.

`PEERS[operation][peer]` is a setup function. `setup(problem)` imports the peer, converts the arrays, allocates, compiles, and
returns a callable without arguments that does the work to be timed and nothing else. It raises NotImplementedError with the
reason where the peer is not installed, or does not have the operation, dtype or shape. asv reads this exception as a skip.

Each peer is a module of this package. Its functions have the names of the operations.
"""

from functools import partial
from importlib import import_module

import numpy as np

from ..problem import OPERATIONS, TOLERANCE, relative_error

_FORWARD_AND_FUSED = ("log_softmax", "cross_entropy", "cross_entropy_value_and_grad")
_COVERAGE = {  # peer -> (its module, its operations)
    "nbloss": ("nbloss", OPERATIONS),
    "numpy": ("numpy", OPERATIONS),
    "scipy": ("scipy", _FORWARD_AND_FUSED),
    "torch": ("torch", OPERATIONS),
    "torch.compile": ("torch_compile", OPERATIONS),
    "jax": ("jax", OPERATIONS),
    "autograd": ("autograd", ("log_softmax_backward", "nll_loss_backward", "cross_entropy_value_and_grad")),
    "sklearn": ("sklearn", ("cross_entropy", "cross_entropy_value_and_grad")),
    "naive_numba": ("naive_numba", OPERATIONS),
    "nbloss_fresh": ("nbloss_fresh", [name for name in OPERATIONS if name not in ("nll_loss", "cross_entropy")]),
}
ON_REQUEST = ("nbloss_fresh",)  # run only where they are named
VARIANTS = (*ON_REQUEST, "nbloss-map")  # other ways to call nbloss, which do not count as its rivals


class WrongResult(Exception):
    """The results of a peer differ from the expected ones, so the peer must not be timed."""


def setup(package, module, function, problem):
    """Call a setup function of a peer: the function of this name in a module of the package."""
    try:
        peer = import_module(f".{module}", package)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "nbloss":
            raise  # nbloss itself is broken: a test must fail here and not skip
        raise NotImplementedError(f"not installed: {error}") from None
    return getattr(peer, function)(problem)


PEERS = {
    operation: {peer: partial(setup, __name__, module, operation) for peer, (module, covers) in _COVERAGE.items() if operation in covers}
    for operation in OPERATIONS
}


def names():
    """Every peer, in the order of the table."""
    return list(dict.fromkeys(peer for table in PEERS.values() for peer in table))


def check(operation, peer, problem, run=None):
    """Set the peer up, compare its results with the expected ones, and return the callable.

    `run` is a callable that has been set up already. Raises WrongResult with the error where the results differ.
    """
    run = PEERS[operation][peer](problem) if run is None else run
    results = run()
    results = results if isinstance(results, tuple) else (results,)
    expected = problem.answer(operation)
    if len(results) != len(expected):
        raise WrongResult(f"{peer} {operation} on {problem}: {len(results)} results, expected {len(expected)}")
    for got, want in zip(results, expected, strict=True):
        got, want = _float64(got), np.asarray(want)
        if got.shape != want.shape:
            raise WrongResult(f"{peer} {operation} on {problem}: shape {got.shape}, expected {want.shape}")
        error = relative_error(got, want)
        if not error <= TOLERANCE[problem.dtype]:  # written so that nan fails too
            raise WrongResult(f"{peer} {operation} on {problem}: off by {error:.1e} of the largest value")
    return run


def _float64(result):
    if hasattr(result, "detach"):  # a torch tensor: NumPy does not know torch's bfloat16
        result = result.detach().double()
    return np.asarray(result).astype(np.float64)
