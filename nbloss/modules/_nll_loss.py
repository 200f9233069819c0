"""`NLLLoss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss.modules._base import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@documented()
class NLLLoss(Loss):
    """Negative log-likelihood of log-probabilities: ``l_i = -w[y_i] x[i, y_i]``, 0 where ``y_i == ignore_index``.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    %(keeps_references)s
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
        divisor: float | None = None,
        empty: str = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
    ):
        super().__init__(
            weight, size_average, reduce, device, reuse_grad, divisor, ignore_index=ignore_index, reduction=reduction, empty=empty
        )
