"""torch in eager mode on all threads: the public functions and autograd, on tensors that share NumPy's memory.

A backward function is `autograd.grad` over a graph from the setup, which is its cost in a training loop. torch has no
`out=` for these functions, so its results are new tensors from its own allocator. The forward functions need no
`no_grad`, because none of their inputs requires a gradient.
"""

import numpy as np
import torch
import torch.nn.functional as F

from ..session import cpus


def tensor(array):
    if torch.get_num_threads() != cpus():
        torch.set_num_threads(cpus())
    if array.dtype.name == "bfloat16":  # an extension type of NumPy with the same bits as torch's type
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def log_softmax(p):
    x = tensor(p.logits)
    return lambda: F.log_softmax(x, 1)


def log_softmax_backward(p):
    x, g = tensor(p.logits).requires_grad_(), tensor(p.grad_output)
    y = F.log_softmax(x, 1)
    return lambda: torch.autograd.grad(y, x, g, retain_graph=True)[0]


def nll_loss(p):
    x, y = tensor(p.log_probs), tensor(p.target)
    return lambda: F.nll_loss(x, y)


def nll_loss_backward(p):
    x, y = tensor(p.log_probs).requires_grad_(), tensor(p.target)
    loss = F.nll_loss(x, y)
    return lambda: torch.autograd.grad(loss, x, retain_graph=True)[0]


def cross_entropy(p):
    x, y = tensor(p.logits), tensor(p.target)
    return lambda: F.cross_entropy(x, y)


def cross_entropy_value_and_grad(p):
    x, y = tensor(p.logits).requires_grad_(), tensor(p.target)

    def run():
        loss = F.cross_entropy(x, y)
        (grad,) = torch.autograd.grad(loss, x)
        return loss, grad

    return run
