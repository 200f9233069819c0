"""NumPy: preallocated temporaries and in-place ufuncs."""

import numpy as np


def cross_entropy_stats(p):
    x, at, y = p.logits, p.at_target, p.target
    z, e = np.full_like(x, 0), np.full_like(x, 0)

    def run():
        top = x.argmax(axis=1)
        m = np.take_along_axis(x, top[:, None], 1)
        np.subtract(x, m, out=z)
        np.exp(z, out=e)
        s = e.sum(axis=1)
        log_s = np.log(s)
        log_prob = z[at] - log_s
        np.multiply(z, e, out=z)
        return m[:, 0] + log_s, log_prob, top, top == y, log_s - z.sum(axis=1) / s

    return run
