"""The losses as objects that hold their options, with the names and meanings of ``torch.nn``."""

from nbloss.modules._cross_entropy import CrossEntropyLoss
from nbloss.modules._distillation import DistillationLoss
from nbloss.modules._focal_loss import FocalLoss
from nbloss.modules._linear_cross_entropy import LinearCrossEntropyLoss
from nbloss.modules._log_softmax import LogSoftmax
from nbloss.modules._nll_loss import NLLLoss
from nbloss.modules._softmax import Softmax

__all__ = ["CrossEntropyLoss", "DistillationLoss", "FocalLoss", "LinearCrossEntropyLoss", "LogSoftmax", "NLLLoss", "Softmax"]

for _name in __all__:  # pickles and help() use the public name
    globals()[_name].__module__ = __name__


def __dir__():
    """The public names only."""
    return __all__
