"""Multinomial logistic regression: SciPy's L-BFGS-B on one fused loss and gradient, beside scikit-learn's LogisticRegression.

    python examples/logistic_regression.py          needs scikit-learn

Both minimise the mean cross entropy plus |w|^2 / (2 C N), with a free intercept, from zeros and with the same settings. So
they take the same steps, up to rounding. `--quick` trains once instead of five times.
"""

import sys
import time

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import nbloss.functional as F

C, TOLERANCE = 1.0, 1e-4  # scikit-learn's defaults


def fit(x, y, classes):
    """The coefficients (features + 1, classes), whose last row is the intercept, and the number of iterations."""
    strength, of_logits = 1 / (C * len(x)), np.empty((len(x), classes))

    def objective(flat):
        w, b = flat.reshape(-1, classes)[:-1], flat[-classes:]
        loss, _ = F.cross_entropy_value_and_grad(x @ w + b, y, out=of_logits)
        gradient = np.vstack([x.T @ of_logits + strength * w, of_logits.sum(axis=0)])
        return loss + strength / 2 * (w * w).sum(), gradient.ravel()

    options = {"maxiter": 1000, "maxls": 50, "gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps}
    result = minimize(objective, np.zeros((x.shape[1] + 1) * classes), jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(-1, classes), result.nit


def main():
    x, y = load_digits(return_X_y=True)
    x = x / 16
    ours, theirs = [], []
    for _ in range(1 if "--quick" in sys.argv else 5):  # in turns
        start = time.perf_counter()
        coefficients, iterations = fit(x, y, 10)
        middle = time.perf_counter()
        model = LogisticRegression(C=C, tol=TOLERANCE, max_iter=1000).fit(x, y)
        ours, theirs = [*ours, middle - start], [*theirs, time.perf_counter() - middle]
    difference = np.abs(coefficients - np.vstack([model.coef_.T, model.intercept_])).max()
    print(f"coefficients differ by at most {difference:.1e}, of up to {np.abs(coefficients).max():.2f}")
    print(f"iterations  nbloss {iterations}  scikit-learn {model.n_iter_[0]}")
    print(f"seconds     nbloss {np.median(ours):.3f}  scikit-learn {np.median(theirs):.3f}")
    agree = difference < 1e-5 and abs(iterations - model.n_iter_[0]) <= 1
    print("learned" if agree else "did not agree")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
