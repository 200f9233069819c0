"""`FocalLoss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss.modules._base import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@documented()
class FocalLoss(Loss):
    """Focal loss between logits and class numbers: ``l_i = w[y_i] (1 - p)^gamma (-log p)`` of the target's p, 0 where ignored.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    %(keeps_references)s
    `nbloss.functional.focal_loss_value_and_grad` gives loss and gradient in one pass over the logits, faster than two calls.
    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), https://arxiv.org/abs/1708.02002.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> loss = nbloss.FocalLoss(gamma=1.0)
    >>> loss(np.zeros((1, 2)), np.array([1])).round(4)
    np.float64(0.3466)
    >>> loss.backward().round(4)
    array([[ 0.4233, -0.4233]])
    >>> loss
    FocalLoss(ignore_index=-100, reduction='mean', gamma=1.0)
    """

    _forward, _backward = F.focal_loss, F.focal_loss_backward
    _options = (*Loss._options, "gamma")
    gamma: float = 2.0

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: str | None = "mean",
        divisor: float | None = None,
        empty: str = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
    ):
        super().__init__(
            weight, None, None, device, reuse_grad, divisor, ignore_index=ignore_index, reduction=reduction, gamma=gamma, empty=empty
        )
