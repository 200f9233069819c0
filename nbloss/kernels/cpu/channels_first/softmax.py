"""softmax, channels first: at most LANES_MAX_CLASSES classes, contiguous positions in input and output.

The arithmetic is that of ``row_per_lane``, to the last bit; memory is accessed as in ``log_softmax``.
"""

from nbloss.kernels.cpu.channels_first.log_softmax import normalized_channels


def softmax(x, out, lo, hi):
    """out = exp(x - m) / s."""
    normalized_channels(x, out, True, lo, hi)
