"""Log-softmax, NLL and cross-entropy losses for NumPy: forward and gradient, at memory speed.

>>> import numpy as np
>>> import nbloss.functional as F
>>> F.cross_entropy(np.zeros((2, 4)), np.array([1, 3])).round(4)
np.float64(1.3863)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from nbloss import _fork_safety as _fork_safety
from nbloss import _threadpoolctl as _threadpoolctl

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nbloss import functional, interop, modules, partial
    from nbloss._evaluate import evaluate
    from nbloss._evaluation import Evaluation
    from nbloss._thread_count import get_num_threads, set_num_threads
    from nbloss._warnings import NotLogProbabilitiesWarning
    from nbloss.backends.select import DeviceUnavailableError, check_device_errors, set_default_device, to_device, to_host
    from nbloss.kernels.cuda.runtime.memory import DeviceArray
    from nbloss.modules import CrossEntropyLoss, DistillationLoss, FocalLoss, LinearCrossEntropyLoss, LogSoftmax, NLLLoss, Softmax

__all__ = [
    "CrossEntropyLoss",
    "DeviceArray",
    "DeviceUnavailableError",
    "DistillationLoss",
    "Evaluation",
    "FocalLoss",
    "LinearCrossEntropyLoss",
    "LogSoftmax",
    "NLLLoss",
    "NotLogProbabilitiesWarning",
    "Softmax",
    "__version__",
    "check_device_errors",
    "evaluate",
    "functional",
    "get_num_threads",
    "interop",
    "modules",
    "partial",
    "set_default_device",
    "set_num_threads",
    "to_device",
    "to_host",
]

_HOMES = {  # name -> its module, imported at the first use (PEP 562), so that ``import nbloss`` is fast
    "functional": "functional",
    "interop": "interop",
    "modules": "modules",
    **dict.fromkeys(
        ("CrossEntropyLoss", "DistillationLoss", "FocalLoss", "LinearCrossEntropyLoss", "LogSoftmax", "NLLLoss", "Softmax"), "modules"
    ),
    "partial": "partial",
    **dict.fromkeys(("DeviceUnavailableError", "check_device_errors", "set_default_device", "to_device", "to_host"), "backends.select"),
    "Evaluation": "_evaluation",
    "evaluate": "_evaluate",
    "NotLogProbabilitiesWarning": "_warnings",
    "DeviceArray": "kernels.cuda.runtime.memory",
    **dict.fromkeys(("get_num_threads", "set_num_threads"), "_thread_count"),
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    return home if name == _HOMES[name] else getattr(home, name)


def __dir__():
    return __all__
