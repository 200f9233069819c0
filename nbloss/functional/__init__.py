"""The losses as functions, with the names and meanings of ``torch.nn.functional``."""

from nbloss.functional._cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_value_and_grad
from nbloss.functional._cross_entropy_stats import Stats, cross_entropy_stats
from nbloss.functional._distillation import distillation_loss, distillation_loss_backward, distillation_loss_value_and_grad
from nbloss.functional._focal_loss import focal_loss, focal_loss_backward, focal_loss_value_and_grad
from nbloss.functional._linear_cross_entropy import (
    LinearGradients,
    linear_cross_entropy,
    linear_cross_entropy_backward,
    linear_cross_entropy_value_and_grad,
)
from nbloss.functional._log_softmax import log_softmax, log_softmax_backward
from nbloss.functional._nll_loss import nll_loss, nll_loss_backward
from nbloss.functional._second_order import cross_entropy_hessian_diag, cross_entropy_hvp
from nbloss.functional._softmax import softmax, softmax_backward

__all__ = [
    "LinearGradients",
    "Stats",
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_hessian_diag",
    "cross_entropy_hvp",
    "cross_entropy_stats",
    "cross_entropy_value_and_grad",
    "distillation_loss",
    "distillation_loss_backward",
    "distillation_loss_value_and_grad",
    "focal_loss",
    "focal_loss_backward",
    "focal_loss_value_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_value_and_grad",
    "log_softmax",
    "log_softmax_backward",
    "nll_loss",
    "nll_loss_backward",
    "softmax",
    "softmax_backward",
]

for _name in __all__:  # tracebacks, help() and pickles show the public name
    globals()[_name].__module__ = __name__


def __dir__():
    """The public names only."""
    return __all__
