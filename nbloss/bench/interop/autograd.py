"""HIPS autograd: `value_and_grad` of the mean cross entropy."""

from autograd import value_and_grad

import nbloss.interop.autograd as interop

from ..peers.autograd import cross_entropy_value_and_grad as formula
from ..peers.nbloss import ready  # this import also chooses the threading layer

__all__ = ["formula", "nbloss"]


def nbloss(p):
    x, y = p.logits, p.target
    both = value_and_grad(lambda x: interop.cross_entropy(x, y))
    return ready(lambda: both(x))
