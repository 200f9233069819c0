"""nbloss, with gradients in existing arrays; and its matrix products alone, the yardstick of these races."""

import math
from itertools import pairwise

import numpy as np

import nbloss.functional as F
from nbloss import _linear, _linear_gradients

from ..peers.nbloss import ready  # this import also chooses the threading layer


def nbloss(race):
    p, gradients = race
    x, w, y = p.features, p.layer, p.target
    if not gradients:
        return ready(lambda: F.linear_cross_entropy(x, w, y))
    out = np.full_like(x, 0), np.full_like(w, 0), None
    return ready(lambda: F.linear_cross_entropy_value_and_grad(x, w, y, out=out)[:3])


def products(race):
    """The products of the chunks that `nbloss` has: the weight's gradient outright for the first, then in tiles that nobody adds."""
    p, gradients = race
    x, w, (n, d, c) = p.features, p.layer, p.shape
    rows = min(2**27 // (4 * c), max(_linear.MIN_ROWS, _linear.FULL_BYTES // (4 * c)))
    count = max(1, math.ceil(n / rows))
    bounds = [n * k // count for k in range(count + 1)]
    logits = np.full((math.ceil(n / count), c), 0, np.float32)
    of_input, of_weight, step = np.full_like(x, 0), np.full_like(w, 0), _linear_gradients.TILE_OUTPUTS
    tile = np.full((min(step, c), d), 0, np.float32)

    def run():
        for start, stop in pairwise(bounds):
            some, z = x[start:stop], logits[: stop - start]
            np.matmul(some, w.T, out=z)
            if gradients:
                np.matmul(z, w, out=of_input[start:stop])
                if not start:
                    np.matmul(z.T, some, out=of_weight)
                for first in range(0, c, step) if start else ():
                    np.matmul(z[:, first : first + step].T, some, out=tile[: min(step, c - first)])

    return run
