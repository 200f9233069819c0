"""nbloss as its documentation recommends for a loop: results go into existing arrays."""

import nbloss
import nbloss.functional as F
from nbloss.kernels.cpu.compile import threads

from ..session import cpus

# Numba has one threading layer per process, and the first parallel call chooses it. nbloss's own choice belongs to the
# measurement of nbloss, so it happens here, before another peer can start a layer. `--peers naive_numba` alone uses Numba's choice.
threads.load_tbb()


def ready(run):
    """Make one call, which compiles or loads the kernel, and return the callable."""
    nbloss.set_num_threads(cpus())
    run()
    return run


def log_softmax(p):
    x, out = p.logits, p.empty()
    return ready(lambda: F.log_softmax(x, 1, out=out))


def log_softmax_backward(p):
    g, y, out = p.grad_output, p.log_probs, p.empty()
    return ready(lambda: F.log_softmax_backward(g, y, 1, out=out))


def nll_loss(p):
    x, y = p.log_probs, p.target
    return ready(lambda: F.nll_loss(x, y))


def nll_loss_backward(p):
    x, y, out = p.log_probs, p.target, p.empty()
    return ready(lambda: F.nll_loss_backward(1.0, x, y, out=out))


def cross_entropy(p):
    x, y = p.logits, p.target
    return ready(lambda: F.cross_entropy(x, y))


def cross_entropy_value_and_grad(p):
    x, y, out = p.logits, p.target, p.empty()
    return ready(lambda: F.cross_entropy_value_and_grad(x, y, out=out))
