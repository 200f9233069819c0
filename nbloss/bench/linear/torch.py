"""PyTorch: the last layer and its loss as users write them, and `linear_cross_entropy` with torch's own chunks."""

import torch
import torch.nn.functional as F

from ..peers.torch import tensor
from ..peers.torch_compile import ready


def _run(race, loss):
    p, gradients = race
    x, w, y = tensor(p.features), tensor(p.layer), tensor(p.target)
    if not gradients:
        return lambda: loss(x, w, y)
    x.requires_grad_()
    w.requires_grad_()

    def run():
        value = loss(x, w, y)
        return value, *torch.autograd.grad(value, (x, w))

    return run


def _plain(x, w, y):
    return F.cross_entropy(F.linear(x, w), y)


def eager(race):
    return _run(race, _plain)


def compiled(race):
    return ready(lambda compile: _run(race, compile(_plain)))


def _chunks(race, **options):
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise NotImplementedError(f"torch {torch.__version__} has no chunked linear_cross_entropy")
    chosen = torch.nn.LinearCrossEntropyOptions(**options)
    return _run(race, lambda x, w, y: F.linear_cross_entropy(x, w, y, options=chosen))


def auto(race):
    return _chunks(race)


def chunks_of_256(race):
    return _chunks(race, batch_chunk_size=256)


def chunks_of_512(race):
    return _chunks(race, batch_chunk_size=512)
