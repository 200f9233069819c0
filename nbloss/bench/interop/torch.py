"""PyTorch: forward and `backward()` of the mean cross entropy, of a leaf of logits or of a Linear layer.

`x.grad` is None at each call, as after `zero_grad`. torch.compile compiles the forward, and autograd traces its gradient.
"""

import torch.nn.functional as F

import nbloss.interop.torch as interop

from ..peers.nbloss import ready  # this import also chooses the threading layer
from ..peers.torch import tensor
from ..peers.torch_compile import ready as compiled_ready
from .problem import FEATURES


def _step(loss, leaf, *arrays):
    def run():
        leaf.grad = None
        value = loss(leaf, *arrays)
        value.backward()
        return value, leaf.grad

    return run


def _of_logits(p, loss):
    return _step(loss, tensor(p.logits).requires_grad_(), tensor(p.target))


def nbloss(p):
    return ready(_of_logits(p, interop.cross_entropy))


def eager(p):
    return _of_logits(p, F.cross_entropy)


def compiled(p):
    return compiled_ready(lambda compile: _of_logits(p, compile(lambda x, y: F.cross_entropy(x, y))))


def _of_layer(p, loss, compile=lambda function: function):
    count = FEATURES["torch_layer"]
    features, weight = tensor(p.features(count)).requires_grad_(), tensor(p.layer(count)).requires_grad_()
    step = _step(compile(lambda x, weight, y: loss(F.linear(x, weight), y)), features, weight, tensor(p.target))

    def run():
        weight.grad = None
        return step()

    return run


def nbloss_layer(p):
    return ready(_of_layer(p, interop.cross_entropy))


def eager_layer(p):
    return _of_layer(p, F.cross_entropy)


def compiled_layer(p):
    return compiled_ready(lambda compile: _of_layer(p, F.cross_entropy, compile))
