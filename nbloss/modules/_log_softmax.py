"""`LogSoftmax`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss._options import refuses_axis
from nbloss.modules._base import Module

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@documented()
class LogSoftmax(Module):
    """Logarithm of the softmax along one axis: ``y = x - log(sum(exp(x)))``.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    The module keeps a reference to the last forward's result for `backward`: do not overwrite it in between.
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

    @refuses_axis
    def __init__(self, dim: int = -1, *, device: str | None = None, reuse_grad: bool = False):
        super().__init__(device, reuse_grad)
        self.dim = dim

    def __call__(self, input: ArrayLike) -> Any:
        """The same as `forward`."""
        return self.forward(input)

    def forward(self, input: ArrayLike) -> Any:
        """log_softmax of ``input`` along ``dim``; same shape and dtype."""
        self._saved = F.log_softmax(input, self.dim, device=self.device)
        return self._saved

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's input; ``grad_output`` has its shape or is one number."""
        output = self._saved_arrays()
        return self._gradient(F.log_softmax_backward, output, grad_output, output, dim=self.dim, device=self.device)

    def extra_repr(self) -> str:
        """``dim=...``."""
        return ", ".join(filter(None, [f"dim={self.dim}", super().extra_repr()]))
