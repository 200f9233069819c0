"""The arrays of a race of `bench --linear`, and the expected results from the formulas in float64 NumPy."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..problem import Problem

OPERATIONS = ("linear", "linear_forward")


@dataclass(frozen=True)
class LinearRace(Problem):
    """A shape is (N, D, C): N rows of D features, and a layer of C classes, whose logits have a standard deviation near 2."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.shape) != 3 or self.transposed:
            raise ValueError(f"shape should be NxDxC; got {self.shape_text}")

    @property
    def rows(self):
        return self.shape[0]

    @cached_property
    def features(self):
        return np.random.default_rng([self.seed, 6]).standard_normal(self.shape[:2], dtype=np.float32)

    @cached_property
    def layer(self):
        _, d, c = self.shape
        return np.random.default_rng([self.seed, 7]).standard_normal((c, d), dtype=np.float32) * np.float32(2 / d**0.5)

    @cached_property
    def target(self):
        return np.random.default_rng([self.seed, 2]).integers(0, self.shape[2], self.rows)

    def answer(self, operation):
        if operation not in self._answers:
            self._answers[operation] = self._answer(operation == "linear")
        return self._answers[operation]

    def _answer(self, gradients):
        x, w, n = self.features.astype(np.float64), self.layer.astype(np.float64), self.rows
        loss, of_input, of_weight = 0.0, np.empty_like(x), np.zeros_like(w)
        for start in range(0, n, 256):
            rows, y = slice(start, start + 256), self.target[start : start + 256]
            z = x[rows] @ w.T
            z -= z.max(axis=1, keepdims=True)
            p = np.exp(z)
            total = p.sum(axis=1, keepdims=True)
            at = np.arange(len(y)), y
            loss += (np.log(total[:, 0]) - z[at]).sum() / n
            if gradients:
                p /= total
                p[at] -= 1
                of_input[rows] = p @ w / n
                of_weight += p.T @ x[rows] / n
        return (loss, of_input, of_weight) if gradients else (loss,)

    def bytes_moved(self, operation):
        arrays = self.features.nbytes + self.layer.nbytes
        return arrays * (2 if operation == "linear" else 1) + self.target.nbytes
