"""The races of `python -m nbloss bench --interop`: nbloss inside another library, against what users of that library call.

An operation is a library. `PEERS[library][contender]` is a setup function, as in `nbloss.bench.peers`: a function of the contender's name
in the library's module of this package. The contender "nbloss" is `nbloss.interop`, and the others are the library's own ways.
"""

from functools import partial

from ..peers import setup
from .problem import OPERATIONS, InteropProblem

_CONTENDERS = {  # library -> contender -> its function
    "torch": {"nbloss": "nbloss", "eager": "eager", "torch.compile": "compiled"},
    "torch_layer": {"nbloss": "nbloss_layer", "eager": "eager_layer", "torch.compile": "compiled_layer"},
    "jax": {"nbloss": "nbloss", "jit": "jit"},
    "autograd": {"nbloss": "nbloss", "formula": "formula"},
    "xgboost": {"nbloss": "nbloss", "built-in": "built_in", "formula": "formula"},
    "lightgbm": {"nbloss": "nbloss", "built-in": "built_in", "formula": "formula"},
}
_MODULES = {"torch_layer": "torch"}
PEERS = {
    operation: {name: partial(setup, __name__, _MODULES.get(operation, operation), function) for name, function in contenders.items()}
    for operation, contenders in _CONTENDERS.items()
}

_LOSS = (("32x10", "float32"), ("4096x1000", "float32"), ("1024x32000", "float32"), ("1024x32000", "bfloat16"), ("8x21x256x256", "float32"))
RACES = {  # operation -> its (shape, dtype) pairs
    "torch": _LOSS,
    "torch_layer": (("1024x32000", "float32"),),
    "jax": _LOSS,
    "autograd": _LOSS[:3],
    "xgboost": (("4096x10", "float32"),),
    "lightgbm": (("4096x10", "float32"),),
}


def names():
    """Every contender, in the order of the table."""
    return list(dict.fromkeys(name for contenders in _CONTENDERS.values() for name in contenders))


def problem_of(operation, shape, dtype):
    """The problem of a race."""
    return InteropProblem.of(operation, shape, dtype)


def chosen(operations, shapes, quick):
    """The races as (operation, shape, dtype). Without shapes: those of `RACES`, or the first of each library."""
    operations = operations or OPERATIONS
    races = [(operation, shape, "float32") for operation in operations for shape in shapes or ()]
    if not shapes:
        races = [(operation, *race) for operation in operations for race in RACES[operation][: 1 if quick else None]]
    for operation, shape, dtype in races:
        InteropProblem.of(operation, shape, dtype)  # reports a bad shape before the first race
    return list(dict.fromkeys(races))
