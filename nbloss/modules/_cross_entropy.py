"""`CrossEntropyLoss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss.modules._base import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@documented()
class CrossEntropyLoss(Loss):
    """Cross entropy between logits and targets: ``l_i = w[y_i] (log sum_c exp(x_ic) - x[i, y_i])``, 0 where ignored.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    %(keeps_references)s
    `nbloss.functional.cross_entropy_value_and_grad` gives loss and gradient in one pass over the logits, faster than two calls.
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
    _options = (*Loss._options, "label_smoothing", "lse_square_scale", "softcap", "logit_scale")
    label_smoothing: float = 0.0
    lse_square_scale: float = 0.0  # pickles of nbloss 0.1.0 do not have it, nor the next two
    softcap: float | None = None
    logit_scale: float = 1.0

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str | None = "mean",
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: float | None = None,
        empty: str = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
    ):
        super().__init__(
            weight, size_average, reduce, device, reuse_grad, divisor,
            ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing, lse_square_scale=lse_square_scale, empty=empty,
            softcap=softcap, logit_scale=logit_scale,
        )  # fmt: skip
