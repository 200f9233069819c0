"""The races of `python -m nbloss bench --options`: the options of the losses, and the losses beside cross entropy, against their peers.

`PEERS[operation][peer]` is a setup function, as in `nbloss.bench.peers`. Most peers have no such function: they run the formula that their
users write, with their own automatic differentiation. Each peer is a module of this package. Its functions have the names of the
operations; a new operation is one function in each of them, an entry of `OPERATIONS`, and its formula in `problem`.
"""

from functools import partial

from ..peers import setup
from .problem import OPERATIONS, OptionProblem

SHAPES = ("32x10", "65536x10", "4096x1000", "256x50257")
QUICK_SHAPES = ("32x10", "4096x1000")

_WITHOUT_OPTAX = ("lse_square_scale", "sample_weight", "cross_entropy_stats", "softcap", "hvp", "hessian_diag")
_COVERAGE = {  # peer -> its operations; the name is that of its module, too
    "nbloss": OPERATIONS,
    "numpy": ("cross_entropy_stats",),
    "torch": OPERATIONS,
    "jax": OPERATIONS,
    "optax": [name for name in OPERATIONS if name not in _WITHOUT_OPTAX],
}
PEERS = {
    operation: {peer: partial(setup, __name__, peer, operation) for peer, covers in _COVERAGE.items() if operation in covers}
    for operation in OPERATIONS
}


def names():
    """Every peer, in the order of the table."""
    return list(_COVERAGE)


def problem_of(operation, shape):
    """The problem of a race."""
    return OptionProblem.parse(shape)


def chosen(operations, shapes, quick):
    """The races as (operation, shape): every combination."""
    shapes = shapes or (QUICK_SHAPES if quick else SHAPES)
    for shape in shapes:
        OptionProblem.parse(shape)  # reports a bad shape before the first race
    return [(operation, shape) for operation in operations or OPERATIONS for shape in dict.fromkeys(shapes)]
