"""Device functions that the kernels of strided classes share."""

from nbloss.kernels.cuda.prims.api import device, fma, get


@device
def _probability_target(y, offset, w, c, a, b):
    return fma(get(y, offset), a, b) * get(w, c)


@device
def _smoothing_target(y, offset, w, c, a, b):
    return b * get(w, c)


def make_soft_target(soft):
    """``target(y, offset, w, c, a, b)``: q of class c. It is w (a y + b) for probabilities y (``soft``), else w b, where b = spread."""
    return _probability_target if soft else _smoothing_target
