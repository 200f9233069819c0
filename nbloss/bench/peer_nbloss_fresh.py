"""nbloss without `out=`: every result in a new array, whose pages the system must find and clear first.

Not a contender of the usual races, as it is no rival of nbloss: `--peers nbloss nbloss_fresh` shows what `out=` saves.
"""

import nbloss.functional as F

from .peer_nbloss import ready  # the threading layer is chosen there


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
