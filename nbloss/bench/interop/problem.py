"""The arrays of a race of `bench --interop`, and the expected results from the formulas in float64 NumPy."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..problem import Problem

OPERATIONS = ("torch", "torch_layer", "jax", "autograd", "xgboost", "lightgbm")
FEATURES = {"torch_layer": 256, "xgboost": 8, "lightgbm": 8}
ROUNDS = 3  # of boosting
BOOSTING = {"max_depth": 4, "learning_rate": 0.3}  # the same trees in both libraries: see their modules


@dataclass(frozen=True)
class InteropProblem(Problem):
    """A problem of logits, or of the features of a last layer or of a table with N rows and C classes."""

    @classmethod
    def of(cls, operation, shape, dtype="float32"):
        """The problem of a race; ValueError where the library has no such shape."""
        problem = cls.parse(shape, dtype)
        if (len(problem.shape) != 2 and operation not in ("torch", "jax")) or problem.transposed:
            raise ValueError(f"shape should be NxC{' or NxCxHxW' if operation in ('torch', 'jax') else ''} for {operation}; got {shape}")
        return problem

    def features(self, count):
        """Normal numbers of shape (N, count)."""
        return np.random.default_rng([self.seed, 6]).standard_normal((self.rows, count), dtype=np.float32)

    def layer(self, count):
        """The weight of a last layer, (C, count), whose logits have a standard deviation near 2."""
        return np.random.default_rng([self.seed, 7]).standard_normal((self.shape[1], count), dtype=np.float32) * np.float32(2 / count**0.5)

    @cached_property
    def table(self):
        """Features of a table, and labels that depend on them, with some labels wrong."""
        features = self.features(FEATURES["xgboost"])
        rng = np.random.default_rng([self.seed, 8])
        labels = (features @ rng.standard_normal((features.shape[1], self.shape[1]))).argmax(axis=1)
        return features, np.where(rng.random(self.rows) < 0.1, self.target, labels)

    def answer(self, operation):
        if operation not in FEATURES:
            return super().answer("cross_entropy_value_and_grad" if operation in OPERATIONS else operation)
        if operation not in self._answers:
            self._answers[operation] = self._layer_answer() if operation == "torch_layer" else self._margins(operation)
        return self._answers[operation]

    def _layer_answer(self):
        """The loss, and its gradient with respect to the features of the layer."""
        features, weight = (a.astype(np.float64) for a in (self.features(FEATURES["torch_layer"]), self.layer(FEATURES["torch_layer"])))
        logits = features @ weight.T
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - logits[self.at_target]).mean()
        p /= total
        p[self.at_target] -= 1
        return loss, p @ weight / self.rows

    def _margins(self, operation):
        """The margins after all rounds with the formula's objective: the library grows the trees, and NumPy the gradients."""
        from importlib import import_module

        return (np.asarray(import_module(f".{operation}", __package__).formula(self)(), np.float64),)

    def bytes_moved(self, operation):
        if operation not in FEATURES:
            return super().bytes_moved("cross_entropy_value_and_grad")
        return 2 * self.size * self.numpy_dtype.itemsize


def softmax(margins):
    """p of margins (N, C), as the authors of boosting objectives write it."""
    e = np.exp(margins - margins.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
