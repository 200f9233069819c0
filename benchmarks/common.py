"""What the suites share. Params are part of a benchmark's identity: append to these lists, never change them."""

from nbloss.bench.peers import PEERS, Problem

DTYPES = ["float32", "float64"]
SMALL, THIN, SQUARE, WIDE = "32x10", "65536x10", "4096x1000", "256x50257"


class Race:
    """One operation, timed for every peer; a suite sets `operation` and `params`."""

    operation = None
    param_names = ["peer", "dtype", "shape"]
    timeout = 300

    def setup(self, peer, dtype, shape):
        self.run = PEERS[self.operation][peer](problem(dtype, shape))  # NotImplementedError: asv skips
        self.run()  # compile, start the threads and touch the pages here


def problem(dtype, shape):
    return Problem.parse(shape, dtype)


def peers(operation):
    """All but torch.compile, which compiles for seconds in every one of asv's processes."""
    return [peer for peer in PEERS[operation] if peer != "torch.compile"]
