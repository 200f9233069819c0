"""Temperature scaling: one number, fitted on held-out logits, calibrates an over-confident network.

    python examples/temperature.py          needs scikit-learn

Guo et al., "On Calibration of Modern Neural Networks" (2017). The accuracy cannot change: dividing all logits by one
positive T keeps their order.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import nbloss
import nbloss.functional as F


def fit_temperature(logits, y, steps=200, rate=0.5):
    """The T that minimises the cross entropy of `logits / T`, by gradient descent on log T."""
    log_t = 0.0
    for _ in range(steps):
        scaled = logits / np.float32(np.exp(log_t))
        grad = F.cross_entropy_backward(1.0, scaled, y)
        log_t -= rate * float((grad * -scaled).sum())  # d(x / T) / d log T = -x / T
    return np.float32(np.exp(log_t))


def held_and_test_logits():
    """Logits and labels that an over-confident network has not seen: to fit T on, and to test it."""
    x, y = load_digits(return_X_y=True)
    # Few, noisy examples and little regularisation give an over-confident network.
    x = (x / 16 + np.random.default_rng(0).normal(0, 0.25, x.shape)).astype(np.float32)
    x, rest_x, y, rest_y = train_test_split(x, y, train_size=400, stratify=y, random_state=0)
    held_x, test_x, held_y, test_y = train_test_split(rest_x, rest_y, test_size=0.5, stratify=rest_y, random_state=0)
    model = MLPClassifier(128, solver="lbfgs", alpha=0.01, max_iter=1000, random_state=0).fit(x, y)
    (w1, w2), (b1, b2) = model.coefs_, model.intercepts_  # scikit-learn returns probabilities only, so the layers are computed here
    held, test = ((np.maximum(part @ w1 + b1, 0) @ w2 + b2).astype(np.float32) for part in (held_x, test_x))
    return held, held_y, test, test_y


def main():
    held, held_y, test, test_y = held_and_test_logits()
    t = fit_temperature(held, held_y)
    before, after = (nbloss.evaluate(logits, test_y, bins=10) for logits in (test, test / t))
    print(f"fitted temperature {t:.3f}; test accuracy {after.accuracy[1]:.2%}, before {before.accuracy[1]:.2%}")
    for name, found in (("before", before), ("after", after)):
        print(f"{name:<7} negative log-likelihood {found.loss:.4f}   expected calibration error {found.calibration_error:.2%}")
    learned = t > 1 and after.loss < before.loss and after.calibration_error < before.calibration_error
    print("calibrated" if learned else "did not improve")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
