"""The races of `python -m nbloss bench --linear`: the loss of a last layer and its gradients, against PyTorch and JAX.

`PEERS[operation][contender]` is a setup function, as in `nbloss.bench.peers`. Each library is a module of this package.
"""

from functools import partial

from ..peers import setup
from .problem import OPERATIONS, LinearRace

_CONTENDERS = {  # contender -> (its module, its function)
    "nbloss": ("nbloss", "nbloss"),
    "torch": ("torch", "eager"),
    "torch.compile": ("torch", "compiled"),
    "torch-auto": ("torch", "auto"),
    "torch-256": ("torch", "chunks_of_256"),
    "torch-512": ("torch", "chunks_of_512"),
    "jax": ("jax", "jit"),
}


def _setup(module, function, gradients, problem):
    return setup(__name__, module, function, (problem, gradients))


PEERS = {
    operation: {name: partial(_setup, *place, operation == "linear") for name, place in _CONTENDERS.items()} for operation in OPERATIONS
}
YARDSTICKS = {operation: {"products": partial(_setup, "nbloss", "products", operation == "linear")} for operation in OPERATIONS}
SHAPES = ("2048x256x50257", "2048x768x50257", "8192x64x1000")  # N x D x C
QUICK_SHAPES = SHAPES[-1:]


def names():
    """Every contender, in the order of the table."""
    return list(_CONTENDERS)


def problem_of(operation, shape):
    """The problem of a race."""
    return LinearRace.parse(shape)


def chosen(operations, shapes, quick):
    """The races as (operation, shape): every combination."""
    shapes = shapes or (QUICK_SHAPES if quick else SHAPES)
    for shape in shapes:
        LinearRace.parse(shape)  # reports a bad shape before the first race
    return [(operation, shape) for operation in operations or OPERATIONS for shape in dict.fromkeys(shapes)]
