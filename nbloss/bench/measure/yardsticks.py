"""The memory baselines, called yardsticks in the result files: copying and reading arrays of the problem's size.

They use every processor. A kernel that reads the logits once and writes a result once cannot be faster than `copy`, and one
that only reads the logits cannot be faster than `read`, unless the data stays in the caches.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from ..evaluate import YARDSTICKS as EVALUATE_YARDSTICKS
from ..interop import OPERATIONS as INTEROP_OPERATIONS
from ..linear import YARDSTICKS as LINEAR_YARDSTICKS
from ..options import OPERATIONS as OPTION_OPERATIONS
from ..problem import OPERATIONS
from ..session import cpus

ONE_CALL_BELOW = 1 << 20  # bytes; starting work on another thread takes about as long as copying this much


@cache
def _pool():
    return ThreadPoolExecutor(cpus())


def _flat(array):
    """The array in 1-D, and 2-byte types as integers, because NumPy has no fast loops for bfloat16."""
    flat = array.ravel(order="K")  # memory order: never a copy for these arrays
    return flat.view(np.int16) if flat.itemsize == 2 else flat


def _in_pieces(function, *arrays):
    """A callable that runs `function` on one piece of the arrays per processor, one of them in this thread."""
    pieces = 1 if arrays[0].nbytes < ONE_CALL_BELOW else cpus()
    if pieces == 1:
        return lambda: [function(*arrays)]
    first, *others = zip(*(np.array_split(a, pieces) for a in arrays), strict=True)

    def run():
        futures = [_pool().submit(function, *piece) for piece in others]
        return [function(*first), *(f.result() for f in futures)]

    return run


def copy(p):
    source, out = p.logits, p.empty()
    run = _in_pieces(np.copyto, _flat(out), _flat(source))

    def copied():
        run()
        return out

    return copied


def read(p):
    run = _in_pieces(np.max, _flat(p.logits))
    return lambda: max(run())


YARDSTICKS = {"copy": copy, "read": read}
OF_A_SET = LINEAR_YARDSTICKS | EVALUATE_YARDSTICKS  # the operations with a yardstick of their own
YARDSTICK = {
    operation: "read" if operation in ("nll_loss", "cross_entropy", "cross_entropy_stats") else "copy"
    for operation in (*OPERATIONS, *OPTION_OPERATIONS, *INTEROP_OPERATIONS)
} | {operation: next(iter(only)) for operation, only in OF_A_SET.items()}
NO_PEERS = (*YARDSTICKS, *dict.fromkeys(name for only in OF_A_SET.values() for name in only))  # what is timed beside the peers


def of(operation):
    """name -> setup of what is timed beside the peers of an operation."""
    return OF_A_SET.get(operation, YARDSTICKS)
