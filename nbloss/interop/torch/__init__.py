"""nbloss for PyTorch: its losses and softmaxes as differentiable functions of tensors, and as ``torch.nn`` modules."""

try:
    import ml_dtypes  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError('nbloss.interop.torch needs torch and ml_dtypes: pip install "nbloss[torch]"') from error

from nbloss.interop.torch._functional import cross_entropy, distillation_loss, focal_loss, log_softmax, nll_loss, softmax
from nbloss.interop.torch._linear import LinearCrossEntropyLoss, linear_cross_entropy
from nbloss.interop.torch._modules import CrossEntropyLoss, DistillationLoss, FocalLoss, LogSoftmax, NLLLoss, Softmax, patch

__all__ = [
    "CrossEntropyLoss",
    "DistillationLoss",
    "FocalLoss",
    "LinearCrossEntropyLoss",
    "LogSoftmax",
    "NLLLoss",
    "Softmax",
    "cross_entropy",
    "distillation_loss",
    "focal_loss",
    "linear_cross_entropy",
    "log_softmax",
    "nll_loss",
    "patch",
    "softmax",
]

for _name in __all__:  # tracebacks, help() and pickles show the public name
    globals()[_name].__module__ = __name__
