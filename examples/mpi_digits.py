"""Handwritten digits on several ranks of MPI, each with its part of every batch: the same parameters as on one rank.

    mpirun -n 2 python examples/mpi_digits.py [--quick]          needs mpi4py, an MPI library and scikit-learn

The loss divides by the weights of the whole batch, so the gradients of the ranks are added up, not averaged. The parts differ in size,
and the classes have weights: a mean of the ranks' means would be another loss.
"""

import sys

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nbloss.interop.mpi import cross_entropy_value_and_grad


def main(epochs):
    comm = MPI.COMM_WORLD
    rng = np.random.default_rng(0)  # the same numbers on all ranks
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x / 16, y, test_size=0.2, stratify=y, random_state=0)
    w1, w2 = rng.normal(0, 0.2, (64, 128)), rng.normal(0, 0.1, (128, 10))
    class_weights = np.linspace(0.5, 1.5, 10)

    for epoch in range(1, epochs + 1):
        for batch in np.array_split(rng.permutation(len(x)), 45):
            rows = np.array_split(batch, comm.size)[comm.rank]
            hidden = np.maximum(x[rows] @ w1, 0)
            loss, grad = cross_entropy_value_and_grad(hidden @ w2, y[rows], class_weights, comm=comm)
            grad_w2 = hidden.T @ grad
            grad_w1 = x[rows].T @ ((grad @ w2.T) * (hidden > 0))
            for w, of_rank in ((w1, grad_w1), (w2, grad_w2)):
                total = np.empty_like(of_rank)
                comm.Allreduce(of_rank, total, MPI.SUM)
                w -= 0.3 * total
        right = ((np.maximum(test_x @ w1, 0) @ w2).argmax(1) == test_y).mean()
        if comm.rank == 0:
            print(f"epoch {epoch:2}  last batch's loss {loss:.4f}  test accuracy {right:.2%}")

    learned = right > 0.95
    if comm.rank == 0:
        print("parameters", np.abs(w1).sum(), np.abs(w2).sum())  # equal for every number of ranks
        print("learned" if learned else "did not learn: test accuracy should be above 95 %")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main(epochs=6 if "--quick" in sys.argv else 30))
