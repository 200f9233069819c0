"""torch.compile: each operation is one graph for one shape, with gradients by torch.func. It needs a C++ compiler."""

import os

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # worker processes would stay alive and count as other processes' load

import torch
import torch.nn.functional as F

from .torch import tensor


def ready(make):
    """The callable that ``make(compile)`` returns, compiled by its first call; NotImplementedError where torch cannot compile it."""
    # Without this, torch compiles the second shape of a process as "dynamic" and runs the ninth in eager mode, without a message.
    torch.compiler.reset()
    run = make(lambda function: torch.compile(function, dynamic=False, fullgraph=True))
    try:
        run()
    except Exception as error:  # for example no compiler, no headers or an unsupported Python
        reason = next(iter(str(error).strip().splitlines()), "")
        raise NotImplementedError(f"torch.compile failed: {type(error).__name__}: {reason}"[:200]) from None
    run()
    return run


def _compiled(function, *arrays):
    """Compile for exactly these shapes. Forward and gradient are one graph, so that the compiler can fuse them."""
    tensors = [tensor(a) for a in arrays]

    def make(compile):
        compiled = compile(function)
        return lambda: compiled(*tensors)

    return ready(make)


def log_softmax(p):
    return _compiled(lambda x: F.log_softmax(x, 1), p.logits)


def log_softmax_backward(p):
    return _compiled(lambda g, y: g - torch.exp(y) * g.sum(1, keepdim=True), p.grad_output, p.log_probs)


def nll_loss(p):
    return _compiled(lambda x, y: F.nll_loss(x, y), p.log_probs, p.target)


def nll_loss_backward(p):
    return _compiled(torch.func.grad(lambda x, y: F.nll_loss(x, y)), p.log_probs, p.target)


def cross_entropy(p):
    return _compiled(lambda x, y: F.cross_entropy(x, y), p.logits, p.target)


def cross_entropy_value_and_grad(p):
    both = torch.func.grad_and_value(lambda x, y: F.cross_entropy(x, y))
    run = _compiled(both, p.logits, p.target)
    return lambda: run()[::-1]
