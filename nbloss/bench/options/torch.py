"""torch in eager mode: the formulas as its users write them, with autograd. `kl_div` is its own distillation loss."""

import torch
import torch.nn.functional as F

from ..peers.torch import tensor
from .problem import EPSILON, GAMMA, LSE_SQUARE_SCALE, SOFTCAP, TEMPERATURE


def _value_and_grad(loss, logits, *arrays):
    x, rest = tensor(logits).requires_grad_(), [tensor(a) for a in arrays]

    def run():
        value = loss(x, *rest)
        return value, torch.autograd.grad(value, x)[0]

    return run


def focal_loss(p):
    def loss(x, y):
        each = F.cross_entropy(x, y, reduction="none")
        return ((1 - torch.exp(-each)) ** GAMMA * each).mean()

    return _value_and_grad(loss, p.logits, p.target)


def distillation_loss(p):
    def loss(x, teacher):
        log_p, log_q = F.log_softmax(x / TEMPERATURE, 1), F.log_softmax(teacher / TEMPERATURE, 1)
        return F.kl_div(log_p, log_q, log_target=True, reduction="batchmean") * TEMPERATURE**2

    return _value_and_grad(loss, p.logits, p.teacher)


def poly1(p):
    def loss(x, y):
        each = F.cross_entropy(x, y, reduction="none")
        return (each + EPSILON * (1 - torch.exp(-each))).mean()

    return _value_and_grad(loss, p.logits, p.target)


def lse_square_scale(p):
    return _value_and_grad(
        lambda x, y: F.cross_entropy(x, y) + LSE_SQUARE_SCALE * torch.logsumexp(x, 1).square().mean(), p.logits, p.target
    )


def sample_weight(p):
    def loss(x, y, weight):
        return (F.cross_entropy(x, y, reduction="none") * weight).sum() / weight.sum()

    return _value_and_grad(loss, p.logits, p.target, p.sample_weight)


def cross_entropy_stats(p):
    x, y = tensor(p.logits), tensor(p.target)

    def run():
        log_p = F.log_softmax(x, 1)
        log_prob = log_p.gather(1, y[:, None])[:, 0]
        top = x.argmax(1)
        return x.gather(1, y[:, None])[:, 0] - log_prob, log_prob, top, top == y, -(torch.exp(log_p) * log_p).sum(1)

    return run


def softcap(p):
    return _value_and_grad(lambda x, y: F.cross_entropy(SOFTCAP * torch.tanh(x / SOFTCAP), y), p.logits, p.target)


def hvp(p):
    x, y, v = tensor(p.logits).requires_grad_(), tensor(p.target), tensor(p.direction)

    def run():
        (grad,) = torch.autograd.grad(F.cross_entropy(x, y), x, create_graph=True)
        return torch.autograd.grad(grad, x, v)[0]

    return run


def hessian_diag(p):
    x, rows = tensor(p.logits), p.rows

    def run():
        probabilities = F.softmax(x, 1)
        return probabilities * (1 - probabilities) / rows

    return run
