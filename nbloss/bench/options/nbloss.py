"""nbloss: the function or the keyword of each option, with results in existing arrays. poly-1 is the recipe of docs/recipes.md."""

import numpy as np

import nbloss.functional as F

from ..peers.nbloss import ready  # this import also chooses the threading layer
from .problem import EPSILON, GAMMA, LSE_SQUARE_SCALE, SOFTCAP, TEMPERATURE


def _cross_entropy(p, **options):
    x, y, out = p.logits, p.target, p.empty()
    return ready(lambda: F.cross_entropy_value_and_grad(x, y, out=out, **options))


def focal_loss(p):
    x, y, out = p.logits, p.target, p.empty()
    return ready(lambda: F.focal_loss_value_and_grad(x, y, gamma=GAMMA, out=out))


def distillation_loss(p):
    x, teacher, out = p.logits, p.teacher, p.empty()
    return ready(lambda: F.distillation_loss_value_and_grad(x, teacher, temperature=TEMPERATURE, out=out))


def poly1(p):
    x, y, out, rows = p.logits, p.target, p.empty(), p.rows

    def run():
        loss = F.cross_entropy(x, y, reduction="none")
        value = (loss - EPSILON * np.expm1(-loss)).mean()
        return value, F.cross_entropy_backward((1 + EPSILON * np.exp(-loss)) / rows, x, y, reduction="none", out=out)

    return ready(run)


def lse_square_scale(p):
    return _cross_entropy(p, lse_square_scale=LSE_SQUARE_SCALE)


def sample_weight(p):
    return _cross_entropy(p, sample_weight=p.sample_weight)


def cross_entropy_stats(p):
    x, y = p.logits, p.target
    return ready(lambda: F.cross_entropy_stats(x, y))


def softcap(p):
    return _cross_entropy(p, softcap=SOFTCAP)


def hvp(p):
    v, x, y, out = p.direction, p.logits, p.target, p.empty()
    return ready(lambda: F.cross_entropy_hvp(v, x, y, out=out))


def hessian_diag(p):
    x, y, out = p.logits, p.target, p.empty()
    return ready(lambda: F.cross_entropy_hessian_diag(x, y, out=out))
