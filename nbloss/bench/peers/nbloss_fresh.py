"""nbloss without `out=`: every result is a new array, whose pages the operating system must provide and clear.

It does not run by default, because it is no rival of nbloss. `--peers nbloss nbloss_fresh` shows how much time `out=` saves.
"""

import nbloss.functional as F

from .nbloss import ready  # this import also chooses the threading layer


def log_softmax(p):
    x = p.logits
    return ready(lambda: F.log_softmax(x, 1))


def log_softmax_backward(p):
    g, y = p.grad_output, p.log_probs
    return ready(lambda: F.log_softmax_backward(g, y, 1))


def nll_loss_backward(p):
    x, y = p.log_probs, p.target
    return ready(lambda: F.nll_loss_backward(1.0, x, y))


def cross_entropy_value_and_grad(p):
    x, y = p.logits, p.target
    return ready(lambda: F.cross_entropy_value_and_grad(x, y))
