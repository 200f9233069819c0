"""softmax and its gradient, one position per lane: the loops of ``log_softmax`` with ``probabilities``."""

from nbloss.kernels.cpu.row_per_lane.log_softmax import gradient_tiles, normalized_tiles


def softmax(x, out, lo, hi):
    """out = exp(x - m) / s."""
    normalized_tiles(x, out, True, lo, hi)


def softmax_backward(g, y, out, lo, hi):
    """out = y (g - sum of g y)."""
    gradient_tiles(g, y, out, True, lo, hi)
