"""The losses as objects that hold their options, with the names and meanings of ``torch.nn``."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nbloss import functional as F
from nbloss._problem import checked_ignore_index, checked_smoothing, reduction_name
from nbloss.backends import select

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = ["CrossEntropyLoss", "LogSoftmax", "NLLLoss"]


def __dir__():
    """The public names only."""
    return __all__


class _Module:
    """Options, the last forward's arrays (references, never copies) for backward, and the gradient's array if it is to be used again."""

    _seen: Any = None
    _grad: Any = None

    def __init__(self, device: str | None, reuse_grad: bool):
        self.device = select.checked_device(device)
        self.reuse_grad = reuse_grad

    def _last(self):
        if self._seen is None:
            raise RuntimeError(f"{type(self).__name__}.backward() needs a forward first: call the module on its inputs")
        return self._seen

    def _backward_into(self, backward, like, *arrays, **options):
        """The gradient: in the last one's array, if that is wanted, fits ``like``, and is part of nothing that the call reads."""
        last = self._grad
        again = (
            self.reuse_grad
            and type(last) is np.ndarray
            and isinstance(like, np.ndarray)
            and (last.shape, last.dtype, last.flags.carray) == (like.shape, like.dtype, True)
            and all(np.may_share_memory(a, last) is False if isinstance(a, np.ndarray) else a is None or np.isscalar(a) for a in arrays)
        )
        grad = backward(*arrays, **options, out=last if again else None)
        if self.reuse_grad:
            self._grad = grad
        return grad

    def to(self, device: str | None) -> Self:
        """Compute on another device from the next call on; returns the module.

        Parameters
        ----------
        device : str or None
            "cpu", "cuda", "cuda:<index>"; None: where the arrays are.

        Raises
        ------
        ValueError, DeviceUnavailableError
            As `nbloss.set_default_device`.
        """
        self.device = select.checked_device(device)
        return self

    def __getstate__(self):
        """Options only: a pickle or a copy does not carry the last batch along, nor share the gradient's array."""
        return {k: copy.copy(v) for k, v in self.__dict__.items() if k not in ("_seen", "_grad")}

    def __repr__(self):
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """What stands between the parentheses of ``repr``."""
        return "reuse_grad=True" if self.reuse_grad else ""


class LogSoftmax(_Module):
    """Logarithm of the softmax along one axis: ``y = x - log(sum(exp(x)))``.

    Parameters
    ----------
    dim : int, default -1
        The axis of the classes.
    device : str, optional
        Where to compute; None: where the arrays are.
    reuse_grad : bool, default False
        Write each gradient into the array of the one before, where shape and dtype are the same: what `backward` returned is then
        overwritten by the next `backward`. Large gradients in new arrays cost page faults (docs/performance.md).

    Notes
    -----
    The result of the last `forward` is kept, by reference, for `backward`: do not overwrite it in between.
    Source of names and meanings: ``torch.nn.LogSoftmax``.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> log_softmax = nbloss.LogSoftmax(dim=1)
    >>> log_softmax(np.array([[0.0, 0.0]])).round(4)
    array([[-0.6931, -0.6931]])
    >>> log_softmax.backward(np.array([[1.0, 0.0]]))
    array([[ 0.5, -0.5]])
    """

    def __init__(self, dim: int = -1, *, device: str | None = None, reuse_grad: bool = False):
        super().__init__(device, reuse_grad)
        self.dim = dim

    def __call__(self, input: ArrayLike) -> Any:
        """The same as `forward`."""
        return self.forward(input)

    def forward(self, input: ArrayLike) -> Any:
        """log_softmax of ``input`` along ``dim``; same shape and dtype."""
        self._seen = F.log_softmax(input, self.dim, device=self.device)
        return self._seen

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's input, given the gradient of its result (or one number for all of it)."""
        output = self._last()
        return self._backward_into(F.log_softmax_backward, output, grad_output, output, dim=self.dim, device=self.device)

    def extra_repr(self) -> str:
        """``dim=...``."""
        return ", ".join(filter(None, [f"dim={self.dim}", super().extra_repr()]))


class _Loss(_Module):
    """What the two losses share: options as attributes, torch's legacy keywords, repr."""

    _forward: Callable[..., Any]
    _backward: Callable[..., Any]
    _options: tuple[str, ...] = ("ignore_index", "reduction")

    def __init__(self, weight, ignore_index, reduction, size_average, reduce, device, reuse_grad):
        super().__init__(device, reuse_grad)
        self.weight = weight
        self.ignore_index = checked_ignore_index(ignore_index)
        self.reduction = reduction_name(_modern(reduction, size_average, reduce))

    @property
    def options(self):
        """The keyword arguments of the functional form."""
        return {name: getattr(self, name) for name in self._options} | {"device": self.device}

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The same as `forward`."""
        return self.forward(input, target)

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of ``input`` against ``target``; shapes as in the functional form."""
        value = type(self)._forward(input, target, self.weight, **self.options)
        self._seen = input, target
        return value

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's ``input``; ``grad_output`` has the loss's shape or is one number."""
        input, target = self._last()
        return self._backward_into(type(self)._backward, input, grad_output, input, target, self.weight, **self.options)

    def extra_repr(self) -> str:
        """The options in the order of the signature; ``weight`` and ``label_smoothing`` where they are not the default."""
        shown = [] if self.weight is None else [f"weight=<{len(self.weight)} values>"]
        shown += [f"ignore_index={self.ignore_index}", f"reduction={self.reduction!r}"]
        smoothing = getattr(self, "label_smoothing", 0.0)
        shown += [f"label_smoothing={smoothing}"] if smoothing else []
        return ", ".join(filter(None, [*shown, super().extra_repr()]))


def _modern(reduction, size_average, reduce):
    """torch's mapping of its legacy keywords."""
    if size_average is None and reduce is None:
        return reduction
    size_average, reduce = (True if flag is None else flag for flag in (size_average, reduce))
    name = ("mean" if size_average else "sum") if reduce else "none"
    warnings.warn(f"size_average and reduce are deprecated, please use reduction={name!r} instead", DeprecationWarning, stacklevel=4)
    return name


class NLLLoss(_Loss):
    """Negative log-likelihood of log-probabilities: ``l_i = -w[y_i] x[i, y_i]``, 0 where ``y_i == ignore_index``.

    Parameters
    ----------
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count; None means "none".
    device : str, optional
        Where to compute; None: where the arrays are.
    reuse_grad : bool, default False
        Write each gradient into the array of the one before, where shape and dtype are the same: what `backward` returned is then
        overwritten by the next `backward`. Large gradients in new arrays cost page faults (docs/performance.md).
    size_average, reduce : bool, optional
        torch's deprecated keywords; they override ``reduction``.

    Notes
    -----
    The last forward's input and target are kept for `backward`, by reference: do not overwrite them in between.
    Source of names and meanings: ``torch.nn.NLLLoss``.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> loss = nbloss.NLLLoss()
    >>> loss(np.log([[0.25, 0.75]]), np.array([1])).round(4)
    np.float64(0.2877)
    >>> loss.backward()
    array([[ 0., -1.]])
    >>> loss
    NLLLoss(ignore_index=-100, reduction='mean')
    """

    _forward, _backward = F.nll_loss, F.nll_loss_backward

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str | None = "mean",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
    ):
        super().__init__(weight, ignore_index, reduction, size_average, reduce, device, reuse_grad)


class CrossEntropyLoss(_Loss):
    """Cross entropy between logits and targets: ``l_i = w[y_i] (log sum_c exp(x_ic) - x[i, y_i])``, 0 where ignored.

    Parameters
    ----------
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count; None means "none".
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread over all classes.
    device : str, optional
        Where to compute; None: where the arrays are.
    reuse_grad : bool, default False
        Write each gradient into the array of the one before, where shape and dtype are the same: what `backward` returned is then
        overwritten by the next `backward`. Large gradients in new arrays cost page faults (docs/performance.md).
    size_average, reduce : bool, optional
        torch's deprecated keywords; they override ``reduction``.

    Notes
    -----
    The last forward's input and target are kept for `backward`, by reference: do not overwrite them in between.
    `nbloss.functional.cross_entropy_value_and_grad` gives both in one pass over the logits, for less than the price of two calls.
    Source of names and meanings: ``torch.nn.CrossEntropyLoss``.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> loss = nbloss.CrossEntropyLoss(label_smoothing=0.1)
    >>> loss(np.zeros((1, 2)), np.array([1])).round(4)
    np.float64(0.6931)
    >>> loss.backward().round(2)
    array([[ 0.45, -0.45]])
    >>> loss
    CrossEntropyLoss(ignore_index=-100, reduction='mean', label_smoothing=0.1)
    """

    _forward, _backward = F.cross_entropy, F.cross_entropy_backward
    _options = ("ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str | None = "mean",
        label_smoothing: float = 0.0,
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
    ):
        super().__init__(weight, ignore_index, reduction, size_average, reduce, device, reuse_grad)
        self.label_smoothing = checked_smoothing(label_smoothing)
