"""The base classes of the modules."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nbloss._options import CHECKS, checked_divisor, refuses_axis
from nbloss.backends import select

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike


class Module:
    """The options, references to the last forward's arrays, and the last gradient if its array may be written again."""

    _saved: Any = None
    _grad: Any = None

    def __init__(self, device: str | None, reuse_grad: bool):
        self.device = select.checked_device(device)
        self.reuse_grad = reuse_grad

    def _saved_arrays(self):
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward() needs a forward first: call the module on its inputs")
        return self._saved

    def _gradient(self, backward, like, *arrays, **options):
        """The result of ``backward``. With `reuse_grad` it is written into the last gradient's array, if that fits ``like``.

        The array is not used where it shares memory with an argument: the call would overwrite what it reads.
        """
        last = self._grad
        again = (
            self.reuse_grad
            and type(last) is np.ndarray
            and isinstance(like, np.ndarray)
            and (last.shape, last.dtype, last.flags.carray) == (like.shape, like.dtype, True)
            and all(
                np.may_share_memory(a, last) is False if isinstance(a, np.ndarray) else a is None or np.isscalar(a)
                for a in (*arrays, options.get("sample_weight"))
            )
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
            "cpu", "cuda", "cuda:<index>"; None computes where the arrays are.

        Raises
        ------
        ValueError, DeviceUnavailableError
            As `nbloss.set_default_device`.
        """
        self.device = select.checked_device(device)
        return self

    def __getstate__(self):
        """The options only: a pickle or a copy has no arrays of the last forward, and does not share the gradient's array."""
        return {k: copy.copy(v) for k, v in self.__dict__.items() if k not in ("_saved", "_grad")}

    def __repr__(self):
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The text between the parentheses of ``repr``."""
        return "reuse_grad=True" if self.reuse_grad else ""


class AlongAxis(Module):
    """A function of logits along one axis, whose gradient is computed from its result."""

    _forward: Callable[..., Any]
    _backward: Callable[..., Any]

    @refuses_axis
    def __init__(self, dim: int = -1, *, device: str | None = None, reuse_grad: bool = False):
        super().__init__(device, reuse_grad)
        self.dim = dim

    def __call__(self, input: ArrayLike) -> Any:
        """The same as `forward`."""
        return self.forward(input)

    def forward(self, input: ArrayLike) -> Any:
        """The function of ``input`` along ``dim``; same shape and dtype."""
        self._saved = type(self)._forward(input, self.dim, device=self.device)
        return self._saved

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's input; ``grad_output`` has its shape or is one number."""
        output = self._saved_arrays()
        return self._gradient(type(self)._backward, output, grad_output, output, dim=self.dim, device=self.device)

    def extra_repr(self) -> str:
        """``dim=...``."""
        return ", ".join(filter(None, [f"dim={self.dim}", super().extra_repr()]))


class Loss(Module):
    """A loss with options as attributes, torch's deprecated keywords, and torch's repr."""

    _forward: Callable[..., Any]
    _backward: Callable[..., Any]
    _options: tuple[str, ...] = ("ignore_index", "reduction")  # the names of the attributes, in the order of the signature
    _more: tuple[str, ...] = ("divisor", "empty")  # those of every loss that follow
    divisor: float | None = None  # pickles of nbloss 0.1.0 do not have these two
    empty: str = "nan"

    def __init__(self, weight, size_average, reduce, device, reuse_grad, divisor, **options):
        super().__init__(device, reuse_grad)
        self.weight = weight
        options["reduction"] = _modern(options["reduction"], size_average, reduce)
        for name, value in options.items():
            setattr(self, name, CHECKS[name](value))
        self.divisor = checked_divisor(divisor, self.reduction)

    @property
    def options(self):
        """The keyword arguments of the functional form."""
        return {name: getattr(self, name) for name in (*self._options, *self._more)} | {"device": self.device}

    def __call__(self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None) -> Any:
        """The same as `forward`."""
        return self.forward(input, target, sample_weight=sample_weight, divisor=divisor)

    def forward(self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None) -> Any:
        """The loss of ``input`` and ``target``; shapes, and the meaning of ``sample_weight``, as in the functional form.

        ``divisor`` replaces the module's for this call and its `backward`; it often is another number in each step.
        """
        of_call = {"sample_weight": sample_weight} | ({} if divisor is None else {"divisor": divisor})
        value = type(self)._forward(input, target, self.weight, **self.options | of_call)
        self._saved = input, target, of_call
        return value

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's ``input``; ``grad_output`` has the loss's shape or is one number."""
        input, target, of_call = self._saved_arrays()
        return self._gradient(type(self)._backward, input, grad_output, input, target, self.weight, **self.options | of_call)

    def extra_repr(self) -> str:
        """The options in the order of the signature; all but ``ignore_index`` and ``reduction`` only where they are not the default."""
        shown = [] if self.weight is None else [f"weight=<{len(self.weight)} values>"]
        shown += [f"{name}={getattr(self, name)!r}" for name in Loss._options]
        others = (*self._options[len(Loss._options) :], *self._more)
        shown += [f"{name}={getattr(self, name)!r}" for name in others if getattr(self, name) != getattr(type(self), name)]
        return ", ".join(filter(None, [*shown, super().extra_repr()]))


def _modern(reduction, size_average, reduce):
    """The reduction that torch's deprecated keywords mean."""
    if size_average is None and reduce is None:
        return reduction
    size_average, reduce = (True if flag is None else flag for flag in (size_average, reduce))
    name = ("mean" if size_average else "sum") if reduce else "none"
    warnings.warn(f"size_average and reduce are deprecated, please use reduction={name!r} instead", DeprecationWarning, stacklevel=4)
    return name
