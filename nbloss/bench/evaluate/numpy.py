"""NumPy: the formulas in passes over the whole array; half precision is computed in float32."""

import numpy as np

from .problem import BINS, calibration_error


def passes(p):
    y, logits, rows = p.target, p.logits, np.arange(p.rows)

    def run():
        gap = logits.astype(p.work_dtype)
        gap -= gap.max(axis=1, keepdims=True)
        e = np.exp(gap)
        total = e.sum(axis=1)
        own = gap[rows, y]
        log_total = np.log(total)
        rank = (gap > own[:, None]).sum(axis=1)
        right, confidence = gap.argmax(axis=1) == y, 1 / total
        e *= gap
        entropy = log_total - e.sum(axis=1) / total
        index = np.ceil(confidence * BINS).astype(np.intp) - 1
        bins = (np.bincount(index, values, BINS) for values in (None, confidence, right))
        means = (log_total - own).mean(dtype=float), entropy.mean(dtype=float), (rank < 1).mean(), (rank < 5).mean()
        return *means, calibration_error(*bins)

    return run
