"""The private loss module of scikit-learn (Cython with OpenMP). It computes loss and gradient in one pass.

The mean is requested as sample weights of 1/N, so that it costs no second pass over the gradient.
"""

import numpy as np
from sklearn._loss.loss import HalfMultinomialLoss

from ..session import cpus


def _arguments(p):
    if p.dtype not in ("float32", "float64"):
        raise NotImplementedError(f"sklearn._loss takes float32 and float64, not {p.dtype}")
    if len(p.shape) != 2:
        raise NotImplementedError("sklearn._loss takes (N, C) only")
    if p.shape[1] < 3:
        raise NotImplementedError("HalfMultinomialLoss needs 3 classes or more")
    dtype, rows = p.numpy_dtype, p.rows
    return HalfMultinomialLoss(n_classes=p.shape[1]), {
        "y_true": p.target.astype(dtype),  # it takes the class numbers as floats
        "raw_prediction": p.logits,
        "sample_weight": np.full(rows, 1 / rows, dtype),
        "loss_out": np.full(rows, 0, dtype),
        "n_threads": cpus(),
    }


def cross_entropy(p):
    loss, arguments = _arguments(p)
    return lambda: loss.loss(**arguments).sum()


def cross_entropy_value_and_grad(p):
    loss, arguments = _arguments(p)
    arguments["gradient_out"] = p.empty()

    def run():
        each, grad = loss.loss_gradient(**arguments)
        return each.sum(), grad

    return run
