"""Handwritten digits with the module API: LogSoftmax and NLLLoss, chained by hand as in torch.

    python examples/digits_modules.py [--quick]          needs scikit-learn

The network has 64, 128 and 10 units and is trained by gradient descent. `F.cross_entropy_value_and_grad` would do the work
of both modules in one call.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbloss


def main(epochs):
    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split((x / 16).astype(np.float32), y, test_size=0.2, stratify=y, random_state=0)
    w1 = rng.normal(0, 0.2, (64, 128)).astype(np.float32)
    w2 = rng.normal(0, 0.1, (128, 10)).astype(np.float32)
    log_softmax, nll = nbloss.LogSoftmax(dim=1), nbloss.NLLLoss()

    for epoch in range(1, epochs + 1):
        for rows in np.array_split(rng.permutation(len(x)), 45):
            hidden = np.maximum(x[rows] @ w1, 0)
            loss = nll(log_softmax(hidden @ w2), y[rows])
            grad = log_softmax.backward(nll.backward())  # with respect to the logits; the rest is the chain rule of the network
            grad_hidden = (grad @ w2.T) * (hidden > 0)
            w2 -= 0.3 * hidden.T @ grad
            w1 -= 0.3 * x[rows].T @ grad_hidden
        right = ((np.maximum(test_x @ w1, 0) @ w2).argmax(1) == test_y).mean()
        print(f"epoch {epoch:2}  last batch's loss {loss:.4f}  test accuracy {right:.2%}")

    learned = right > 0.95
    print("learned" if learned else "did not learn: test accuracy should be above 95 %")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main(epochs=10 if "--quick" in sys.argv else 30))
