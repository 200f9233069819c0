"""The arrays of a race of `bench --evaluate`, and the expected results from the formulas in float64 NumPy."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..problem import Problem

OPERATIONS = ("evaluate",)
BINS = 15


def calibration_error(count, confidence, right):
    """The expected calibration error, from the number of rows, the sum of confidences and the number of right rows in each bin."""
    return np.abs(right - confidence).sum() / count.sum()


@dataclass(frozen=True)
class EvaluateRace(Problem):
    """A shape is (N, C). Half of the targets are the class with the largest logit, so that no accuracy is near 0.

    The results are the loss, the entropy, the accuracy of the first and of the first five, and the expected calibration error.
    """

    def __post_init__(self):
        super().__post_init__()
        if len(self.shape) != 2 or self.transposed or self.shape[1] < 5:
            raise ValueError(f"shape should be NxC with at least 5 classes; got {self.shape_text}")

    @cached_property
    def target(self):
        rng = np.random.default_rng([self.seed, 2])
        n, classes = self.shape
        best = np.array([row.argmax() for row in self.logits])
        return np.where(rng.random(n) < 0.5, best, rng.integers(0, classes, n))

    def answer(self, operation):
        if operation not in self._answers:
            self._answers[operation] = self._answer()
        return self._answers[operation]

    def _answer(self):
        sums, bins = np.zeros(4), np.zeros((3, BINS))
        for start in range(0, self.rows, 256):
            x, y = self.logits[start : start + 256].astype(np.float64), self.target[start : start + 256]
            gap = x - x.max(axis=1, keepdims=True)
            e = np.exp(gap)
            total = e.sum(axis=1)
            own = np.take_along_axis(gap, y[:, None], 1)
            rank = (gap > own).sum(axis=1)
            sums += (np.log(total) - own[:, 0]).sum(), (np.log(total) - (e * gap).sum(axis=1) / total).sum(), sum(rank < 1), sum(rank < 5)
            index = np.ceil(BINS / total).astype(int) - 1
            for table, values in zip(bins, (None, 1 / total, gap.argmax(axis=1) == y), strict=True):
                table += np.bincount(index, values, BINS)
        return (*(sums / self.rows), calibration_error(*bins))

    def bytes_moved(self, operation):
        return self.logits.nbytes + self.target.nbytes
