"""HIPS autograd, which traces NumPy. Its forward functions are NumPy's, so it takes part with the gradients only.

A backward function is the vector-Jacobian product of a trace from the setup, as for torch.
"""

import autograd.numpy as anp
from autograd import make_vjp, value_and_grad
from autograd.scipy.special import logsumexp


def _check(p):
    if p.dtype not in ("float32", "float64"):
        raise NotImplementedError(f"autograd has no {p.dtype} arithmetic of its own")
    return p


def log_softmax_backward(p):
    x, g = _check(p).logits, p.grad_output
    backward, _ = make_vjp(lambda x: x - logsumexp(x, axis=1, keepdims=True))(x)
    return lambda: backward(g)


def nll_loss_backward(p):
    x, at = _check(p).log_probs, p.at_target
    backward, loss = make_vjp(lambda x: -anp.mean(x[at]))(x)
    one = loss.dtype.type(1)
    return lambda: backward(one)


def cross_entropy_value_and_grad(p):
    x, at = _check(p).logits, p.at_target
    both = value_and_grad(lambda x: anp.mean(logsumexp(x, axis=1) - x[at]))
    return lambda: both(x)
