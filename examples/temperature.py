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

import nbloss.functional as F


def calibration_error(logits, y, bins=10):
    """Expected calibration error: the mean difference between the model's confidence and its accuracy."""
    p = F.softmax(logits)
    sure, right = p.max(1), p.argmax(1) == y
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    return sum(abs(sure[bin_of == b].sum() - right[bin_of == b].sum()) for b in range(bins)) / len(y)


def fit_temperature(logits, y, steps=200, rate=0.5):
    """The T that minimises the cross entropy of `logits / T`, by gradient descent on log T."""
    log_t = 0.0
    for _ in range(steps):
        scaled = logits / np.float32(np.exp(log_t))
        grad = F.cross_entropy_backward(1.0, scaled, y)
        log_t -= rate * float((grad * -scaled).sum())  # d(x / T) / d log T = -x / T
    return np.float32(np.exp(log_t))


def main():
    x, y = load_digits(return_X_y=True)
    # Few, noisy examples and little regularisation give an over-confident network.
    x = (x / 16 + np.random.default_rng(0).normal(0, 0.25, x.shape)).astype(np.float32)
    x, rest_x, y, rest_y = train_test_split(x, y, train_size=400, stratify=y, random_state=0)
    held_x, test_x, held_y, test_y = train_test_split(rest_x, rest_y, test_size=0.5, stratify=rest_y, random_state=0)
    model = MLPClassifier(128, solver="lbfgs", alpha=0.01, max_iter=1000, random_state=0).fit(x, y)

    def logits(x):  # scikit-learn returns probabilities only, so the layers are computed here
        (w1, w2), (b1, b2) = model.coefs_, model.intercepts_
        return (np.maximum(x @ w1 + b1, 0) @ w2 + b2).astype(np.float32)

    t = fit_temperature(logits(held_x), held_y)
    rows = [(F.cross_entropy(z, test_y), calibration_error(z, test_y)) for z in (logits(test_x), logits(test_x) / t)]
    print(f"fitted temperature {t:.3f}; test accuracy {(logits(test_x).argmax(1) == test_y).mean():.2%}, unchanged")
    for name, (loss, error) in zip(("before", "after"), rows, strict=True):
        print(f"{name:<7} negative log-likelihood {loss:.4f}   expected calibration error {error:.2%}")
    learned = t > 1 and rows[1][0] < rows[0][0] and rows[1][1] < rows[0][1]
    print("calibrated" if learned else "did not improve")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
