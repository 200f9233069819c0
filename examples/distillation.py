"""Knowledge distillation in NumPy: a small network learns handwritten digits from the logits of a large one.

    python examples/distillation.py [--quick]          needs scikit-learn

Few digits have labels. The teacher learns from these. The student is trained twice: on the labels, and on the teacher's
logits for all digits (`F.distillation_loss_value_and_grad`), which also say how likely the other classes are.
"""

import sys
from functools import partial

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbloss.functional as F

LABELLED = 300


def network(rng, hidden):
    return [rng.normal(0, s[0] ** -0.5, s).astype(np.float32) for s in ((64, hidden), (hidden, 10))]


def train(rng, params, x, y, value_and_grad, epochs, rate):
    """Gradient descent."""
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 32)):
            w1, w2 = params
            hidden = np.maximum(x[rows] @ w1, 0)
            _, grad = value_and_grad(hidden @ w2, y[rows])
            grad_hidden = (grad @ w2.T) * (hidden > 0)
            w2 -= rate * hidden.T @ grad
            w1 -= rate * x[rows].T @ grad_hidden
    return params


def logits(params, x):
    return np.maximum(x @ params[0], 0) @ params[1]


def main(epochs):
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split((x / 16).astype(np.float32), y, test_size=0.3, stratify=y, random_state=0)
    few, labels, rng = x[:LABELLED], y[:LABELLED], np.random.default_rng(0)

    hard, soft = F.cross_entropy_value_and_grad, partial(F.distillation_loss_value_and_grad, temperature=3.0)
    teacher = train(rng, network(rng, 512), few, labels, hard, epochs, 0.3)
    taught = logits(teacher, x)  # of all digits, with labels or without
    alone = train(rng, network(rng, 12), few, labels, hard, epochs, 0.3)
    distilled = train(rng, network(rng, 12), x, taught, soft, epochs, 0.1)
    right = [(logits(params, test_x).argmax(1) == test_y).mean() for params in (teacher, alone, distilled)]
    for name, accuracy in zip(("teacher, 512 units", "student, 12 units, on labels", "student, 12 units, on logits"), right, strict=True):
        print(f"{name:<29}test accuracy {accuracy:.2%}")
    print("learned" if right[2] > right[1] else "did not learn: the distilled student should be the better one")
    return 0 if right[2] > right[1] else 1


if __name__ == "__main__":
    sys.exit(main(epochs=20 if "--quick" in sys.argv else 60))
