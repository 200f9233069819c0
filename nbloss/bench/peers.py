"""The one table of contenders, shared by the tests, the asv suites and `python -m nbloss bench`.

`PEERS[operation][peer]` is a setup: `setup(problem)` imports the peer, converts the arrays, preallocates, compiles, and
returns a callable without arguments that does the work and nothing else. An absent peer, or one that does not have
the operation, dtype or shape, raises NotImplementedError with the reason, which asv reads as a skip.

Each peer is a module `peer_<name>` whose functions carry the names of the operations.
"""

import os
from functools import partial
from importlib import import_module

import numpy as np

from .problem import OPERATIONS, TOLERANCE, Problem

__all__ = ["OPERATIONS", "PEERS", "VARIANTS", "YARDSTICK", "YARDSTICKS", "Problem", "WrongResult", "check", "cpus"]

_FORWARD_AND_FUSED = ("log_softmax", "cross_entropy", "cross_entropy_value_and_grad")
_COVERAGE = {  # peer -> (its module, the operations it has something to say about)
    "nbloss": ("peer_nbloss", OPERATIONS),
    "numpy": ("peer_numpy", OPERATIONS),
    "scipy": ("peer_scipy", _FORWARD_AND_FUSED),
    "torch": ("peer_torch", OPERATIONS),
    "torch.compile": ("peer_torch_compile", OPERATIONS),
    "jax": ("peer_jax", OPERATIONS),
    "autograd": ("peer_autograd", ("log_softmax_backward", "nll_loss_backward", "cross_entropy_value_and_grad")),
    "sklearn": ("peer_sklearn", ("cross_entropy", "cross_entropy_value_and_grad")),
    "naive_numba": ("peer_naive_numba", OPERATIONS),
    "nbloss_fresh": ("peer_nbloss_fresh", [name for name in OPERATIONS if name not in ("nll_loss", "cross_entropy")]),
}
VARIANTS = ("nbloss_fresh",)  # nbloss in other ways: they run where they are named, and nbloss neither wins nor loses against them


class WrongResult(Exception):
    """A contender whose numbers are not those of the formulas: it must not be timed."""


def cpus():
    """The processors this process may use, which is what "all threads" means here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _setup(module, function, problem):
    try:
        contender = import_module(f".{module}", __package__)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "nbloss":
            raise  # not an absent peer but a broken nbloss, which no test may take for a skip
        raise NotImplementedError(f"not installed: {error}") from None
    return getattr(contender, function)(problem)


PEERS = {
    operation: {peer: partial(_setup, module, operation) for peer, (module, covers) in _COVERAGE.items() if operation in covers}
    for operation in OPERATIONS
}

# What the memory alone allows: one read of the logits and one write of a result (copy), or one read (read).
YARDSTICKS = {"copy": partial(_setup, "yardsticks", "copy"), "read": partial(_setup, "yardsticks", "read")}
YARDSTICK = {
    operation: "read" if operation in ("nll_loss", "cross_entropy") else "copy" for operation in OPERATIONS
}  # the one that an operation is held against


def check(operation, peer, problem, run=None):
    """Set the contender up (unless `run` is it), compare its result with float64, and return the callable.

    Raises WrongResult, with the error found, where they disagree.
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
        scale = max(float(np.abs(want).max()), np.finfo(np.float64).tiny)
        error = float(np.abs(got - want).max()) / scale
        if not error <= TOLERANCE[problem.dtype]:  # also catches nan
            raise WrongResult(f"{peer} {operation} on {problem}: off by {error:.1e} of the largest value")
    return run


def _float64(result):
    if hasattr(result, "detach"):  # a torch tensor, whose bfloat16 NumPy does not know
        result = result.detach().double()
    return np.asarray(result).astype(np.float64)
