"""What the suites share. The parameters identify a benchmark: append to these lists, and never change them."""

from nbloss.bench.peers import PEERS
from nbloss.bench.problem import Problem

DTYPES = ["float32", "float64"]
SMALL, THIN, SQUARE, WIDE = "32x10", "65536x10", "4096x1000", "256x50257"


class Race:
    """One operation, timed for every peer. A suite sets `operation` and `params`."""

    operation = None
    param_names = ["peer", "dtype", "shape"]
    timeout = 300

    def setup(self, peer, dtype, shape):
        self.run = PEERS[self.operation][peer](problem(dtype, shape))  # asv skips a NotImplementedError
        self.run()  # compiles, starts the threads and writes the pages, which must not be timed


def problem(dtype, shape):
    return Problem.parse(shape, dtype)


def peers(operation):
    """All peers but torch.compile, which would compile for seconds in every process of asv."""
    return [peer for peer in PEERS[operation] if peer != "torch.compile"]
