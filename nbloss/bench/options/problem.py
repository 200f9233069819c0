"""The arrays of a race of `bench --options`, its constants, and the expected results from the formulas in float64 NumPy."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..problem import Problem

GAMMA, EPSILON = 2, 2.0  # of the focal loss; of poly-1
TEMPERATURE = 2.0
LSE_SQUARE_SCALE = 1e-4
SOFTCAP = 30.0


@dataclass(frozen=True)
class OptionProblem(Problem):
    """A problem of (N, C) with what the options need beside logits and targets."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.shape) != 2 or self.transposed:
            raise ValueError(f"shape should be NxC; got {self.shape_text}")

    @cached_property
    def teacher(self):
        """The logits of the teacher of a distillation."""
        return self._normal(3, 2.0)

    @cached_property
    def direction(self):
        """What the Hessian is multiplied by."""
        return self._normal(4, 1.0)

    @cached_property
    def sample_weight(self):
        return np.random.default_rng([self.seed, 5]).random(self.rows, dtype=self.work_dtype) + self.work_dtype.type(0.5)

    def answer(self, operation):
        if operation not in _ANSWERS:
            return super().answer(operation)
        if operation not in self._answers:
            self._answers[operation] = _ANSWERS[operation](self)
        return self._answers[operation]

    def bytes_moved(self, operation):
        arrays = {"distillation_loss": 3, "hvp": 3, "cross_entropy_stats": 1}.get(operation, 2)
        return arrays * self.size * self.numpy_dtype.itemsize + self.rows * self.target.itemsize


# ---------------------------------------- the expected results ----------------------------------------


def _log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def _of_target(p, log_p, value, slope, rows):
    """The sum of the values over `rows`, and its gradient: slope (p - [c = y]) / rows."""
    grad = np.exp(log_p)
    grad[p.at_target] -= 1
    grad *= (slope / rows)[:, None]
    return value.sum() / rows, grad


def _losses(p):
    """log p, and the losses of the rows."""
    log_p = p.answer("log_softmax")[0]
    return log_p, -log_p[p.at_target]


def _focal_loss(p):
    log_p, loss = _losses(p)
    of_target, rest = np.exp(-loss), -np.expm1(-loss)
    return _of_target(p, log_p, rest**GAMMA * loss, rest**GAMMA + GAMMA * rest ** (GAMMA - 1) * of_target * loss, p.rows)


def _distillation_loss(p):
    log_p, log_q = (_log_softmax(a.astype(np.float64) / TEMPERATURE) for a in (p.logits, p.teacher))
    q = np.exp(log_q)
    return TEMPERATURE**2 * (q * (log_q - log_p)).sum() / p.rows, TEMPERATURE * (np.exp(log_p) - q) / p.rows


def _poly1(p):
    log_p, loss = _losses(p)
    return _of_target(p, log_p, loss - EPSILON * np.expm1(-loss), 1 + EPSILON * np.exp(-loss), p.rows)


def _lse_square_scale(p):
    log_p, loss = _losses(p)
    lse = p.logits[p.at_target].astype(np.float64) + loss
    value, grad = _of_target(p, log_p, loss + LSE_SQUARE_SCALE * lse**2, np.ones(p.rows), p.rows)
    return value, grad + (2 * LSE_SQUARE_SCALE * lse / p.rows)[:, None] * np.exp(log_p)


def _sample_weight(p):
    weight = p.sample_weight.astype(np.float64)
    log_p, loss = _losses(p)
    return _of_target(p, log_p, weight * loss, weight, weight.sum())


def _cross_entropy_stats(p):
    log_p, loss = _losses(p)
    x = p.logits.astype(np.float64)
    top = x.argmax(axis=1)
    return x[p.at_target] + loss, -loss, top, top == p.target, -(np.exp(log_p) * log_p).sum(axis=1)


def _softcap(p):
    u = np.tanh(p.logits.astype(np.float64) / SOFTCAP)
    log_p = _log_softmax(SOFTCAP * u)
    value, grad = _of_target(p, log_p, -log_p[p.at_target], np.ones(p.rows), p.rows)
    return value, grad * (1 - u**2)


def _hvp(p):
    probabilities, v = np.exp(p.answer("log_softmax")[0]), p.direction.astype(np.float64)
    return (probabilities * (v - (probabilities * v).sum(axis=1, keepdims=True)) / p.rows,)


def _hessian_diag(p):
    probabilities = np.exp(p.answer("log_softmax")[0])
    return (probabilities * (1 - probabilities) / p.rows,)


_ANSWERS = {
    "focal_loss": _focal_loss,
    "distillation_loss": _distillation_loss,
    "poly1": _poly1,
    "lse_square_scale": _lse_square_scale,
    "sample_weight": _sample_weight,
    "cross_entropy_stats": _cross_entropy_stats,
    "softcap": _softcap,
    "hvp": _hvp,
    "hessian_diag": _hessian_diag,
}
OPERATIONS = tuple(_ANSWERS)
