"""The functions as modules: subclasses of torch's, with torch's constructors, and with the options that torch does not have."""

import torch
from torch.nn.modules.loss import _Loss, _WeightedLoss

from nbloss.interop.torch import _functional as functional


class _Forward:
    """What the modules of losses share. The defaults of options that torch's modules do not have are attributes of the class."""

    _options: tuple[str, ...] = ("ignore_index", "reduction", "divisor", "empty", "inplace_backward")
    reduction = "mean"
    ignore_index = -100
    divisor = None
    empty = "nan"
    inplace_backward = False

    def _set(self, **options):
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, input, target, *, sample_weight=None, divisor=None):
        """The loss. ``divisor`` replaces the module's for this call; the shapes are those of the function."""
        options = {name: getattr(self, name) for name in self._options}
        if divisor is not None:
            options["divisor"] = divisor
        return self._function(input, target, self.weight, sample_weight=sample_weight, **options)

    def extra_repr(self):
        """The options that are not the default."""
        shown = [] if getattr(self, "weight", None) is None else [f"weight=<{len(self.weight)} values>"]
        changed = [name for name in self._options if getattr(self, name) != getattr(type(self), name)]
        return ", ".join(shown + [f"{name}={getattr(self, name)!r}" for name in changed])


class NLLLoss(_Forward, torch.nn.NLLLoss):
    """`nll_loss` as a module: ``torch.nn.NLLLoss`` with more options.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction
        As those of ``torch.nn.NLLLoss``. The weight is a buffer.
    divisor, empty, inplace_backward
        As those of `nll_loss`; attributes of the module.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import NLLLoss
    >>> NLLLoss()(torch.log(torch.tensor([[0.25, 0.75]])), torch.tensor([1]))
    tensor(0.2877)
    """

    _function = staticmethod(functional.nll_loss)

    def __init__(
        self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", *, divisor=None, empty="nan",
        inplace_backward=False,
    ):  # fmt: skip
        super().__init__(weight, size_average, ignore_index, reduce, reduction)
        self._set(divisor=divisor, empty=empty, inplace_backward=inplace_backward)


class CrossEntropyLoss(_Forward, torch.nn.CrossEntropyLoss):
    """`cross_entropy` as a module: ``torch.nn.CrossEntropyLoss`` with more options.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction, label_smoothing
        As those of ``torch.nn.CrossEntropyLoss``. The weight is a buffer.
    lse_square_scale, softcap, logit_scale, divisor, empty, inplace_backward
        As those of `cross_entropy`; attributes of the module.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import CrossEntropyLoss
    >>> loss = CrossEntropyLoss(label_smoothing=0.1)
    >>> loss
    CrossEntropyLoss(label_smoothing=0.1)
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))
    tensor(0.6931)
    """

    _function = staticmethod(functional.cross_entropy)
    _options = (*_Forward._options, "label_smoothing", "lse_square_scale", "softcap", "logit_scale")
    label_smoothing = 0.0
    lse_square_scale = 0.0
    softcap = None
    logit_scale = 1.0

    def __init__(
        self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0, *,
        lse_square_scale=0.0, softcap=None, logit_scale=1.0, divisor=None, empty="nan", inplace_backward=False,
    ):  # fmt: skip
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        self._set(lse_square_scale=lse_square_scale, softcap=softcap, logit_scale=logit_scale)
        self._set(divisor=divisor, empty=empty, inplace_backward=inplace_backward)


class FocalLoss(_Forward, _WeightedLoss):
    """`focal_loss` as a module.

    Parameters
    ----------
    weight, gamma, ignore_index, reduction, divisor, empty, inplace_backward
        As those of `focal_loss`; attributes of the module. The weight is a buffer.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import FocalLoss
    >>> FocalLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([1]))
    tensor(0.3466)
    """

    _function = staticmethod(functional.focal_loss)
    _options = (*_Forward._options, "gamma")
    gamma = 2.0

    def __init__(
        self, weight=None, *, gamma=2.0, ignore_index=-100, reduction="mean", divisor=None, empty="nan", inplace_backward=False
    ):  # fmt: skip
        super().__init__(weight, reduction=reduction)
        self._set(gamma=gamma, ignore_index=ignore_index, divisor=divisor, empty=empty, inplace_backward=inplace_backward)


class DistillationLoss(_Forward, _Loss):
    """`distillation_loss` as a module, called with the logits of the student and of the teacher.

    Parameters
    ----------
    temperature, reduction, divisor, inplace_backward
        As those of `distillation_loss`; attributes of the module.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import DistillationLoss
    >>> DistillationLoss(temperature=2.0)(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """

    _options = ("temperature", "reduction", "divisor", "inplace_backward")
    temperature = 1.0

    def __init__(self, *, temperature=1.0, reduction="mean", divisor=None, inplace_backward=False):
        super().__init__(reduction=reduction)
        self._set(temperature=temperature, divisor=divisor, inplace_backward=inplace_backward)

    @staticmethod
    def _function(input, teacher, weight, **options):
        return functional.distillation_loss(input, teacher, **options)

    weight = None


class LogSoftmax(torch.nn.LogSoftmax):
    """`log_softmax` as a module: ``torch.nn.LogSoftmax``, whose ``dim`` has a default here.

    Parameters
    ----------
    dim : int, default -1
        The axis of the classes.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import LogSoftmax
    >>> LogSoftmax()(torch.zeros(2))
    tensor([-0.6931, -0.6931])
    """

    def __init__(self, dim: int = -1):
        super().__init__(dim)

    def forward(self, input):
        """The logarithm of the softmax of ``input``."""
        return functional.log_softmax(input, self.dim)


class Softmax(torch.nn.Softmax):
    """`softmax` as a module: ``torch.nn.Softmax``, whose ``dim`` has a default here.

    Parameters
    ----------
    dim : int, default -1
        The axis of the classes.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import Softmax
    >>> Softmax()(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """

    def __init__(self, dim: int = -1):
        super().__init__(dim)

    def forward(self, input):
        """The softmax of ``input``."""
        return functional.softmax(input, self.dim)


_OURS = {ours.__base__: ours for ours in (LogSoftmax, Softmax)}
_OURS |= {ours.__bases__[1]: ours for ours in (NLLLoss, CrossEntropyLoss)}


def patch(model: torch.nn.Module) -> list[str]:
    """Let torch's losses and softmaxes in a model compute with nbloss.

    Each ``torch.nn.CrossEntropyLoss``, ``NLLLoss``, ``LogSoftmax`` and ``Softmax`` becomes the module of the same name of this package: the
    same object, of another class. Its options, its weight, its hooks and all references to it stay. The model itself may be such a module.

    Modules of derived classes, and softmaxes whose ``dim`` is None, are left alone. So are calls of functions, such as
    ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    list of str
        The names of the changed modules, as in ``model.named_modules()``; that of the model itself is "".

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import patch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LogSoftmax(-1))
    >>> patch(model), model[1]
    (['1'], LogSoftmax(dim=-1))
    """
    changed = []
    for name, module in model.named_modules():
        if type(module) in _OURS and getattr(module, "dim", -1) is not None:
            module.__class__ = _OURS[type(module)]
            changed.append(name)
    return changed
