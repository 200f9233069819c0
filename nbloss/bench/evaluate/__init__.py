"""The races of `python -m nbloss bench --evaluate`: loss, entropy, accuracy and calibration, against NumPy and PyTorch.

`PEERS[operation][contender]` is a setup function, as in `nbloss.bench.peers`. Each library is a module of this package. The yardstick is
`cross_entropy` of the same arrays, which finds the loss alone.
"""

from functools import partial

from ..peers import PEERS as PEERS_OF_LOSSES
from ..peers import setup
from .problem import OPERATIONS, EvaluateRace

_CONTENDERS = {  # contender -> (its module, its function)
    "nbloss": ("nbloss", "memory"),
    "nbloss-map": ("nbloss", "mapped"),
    "numpy": ("numpy", "passes"),
    "torch": ("torch", "batches"),
}
PEERS = {"evaluate": {name: partial(setup, __name__, *place) for name, place in _CONTENDERS.items()}}
YARDSTICKS = {"evaluate": {"cross_entropy": PEERS_OF_LOSSES["cross_entropy"]["nbloss"]}}
SHAPES = ("65536x10", "4096x1000", "16384x1000", "1024x32000", "256x50257")
DTYPES = ("float32", "float16", "bfloat16")
QUICK_SHAPES = SHAPES[1:2]


def names():
    """Every contender, in the order of the table."""
    return list(_CONTENDERS)


def problem_of(operation, shape, dtype):
    """The problem of a race."""
    return EvaluateRace.parse(shape, dtype)


def chosen(operations, shapes, quick):
    """The races as (operation, shape, dtype): every combination, in float32, float16 and bfloat16."""
    shapes = shapes or (QUICK_SHAPES if quick else SHAPES)
    for shape in shapes:
        EvaluateRace.parse(shape)  # reports a bad shape before the first race
    return [(operation, shape, dtype) for operation in operations or OPERATIONS for shape in dict.fromkeys(shapes) for dtype in DTYPES]
