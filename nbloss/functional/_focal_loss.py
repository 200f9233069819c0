"""`focal_loss`, its gradient, and both in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import _fast_path, _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TARGET = """\
target : array_like
    Class numbers of any integer dtype or bool, of input's shape without the class axis. Probabilities are refused."""
WEIGHT = """\
weight : array_like, shape (C,), optional
    Class weights: the alpha of the paper."""


@documented(target=TARGET, weight=WEIGHT)
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    device: str | None = None,
) -> Any:
    """Focal loss between logits and class numbers: cross entropy that counts rows less, the surer they are of their target.

    With p = softmax(x)[i, y_i]: l_i = w[y_i] * (1 - p)^gamma * (-log p), and 0 where y_i == ignore_index; "mean" divides the sum by
    sum_i w[y_i] over the other rows, as `cross_entropy` does.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    See Also
    --------
    focal_loss_backward : its gradient.
    focal_loss_value_and_grad : both, in the time of one.
    cross_entropy : the loss of ``gamma=0``, in the same bits.

    Notes
    -----
    Every float32 loss is within 4 + 4 gamma units in its own last place, also where p is close to 1: 1 - p is never a difference there. It
    is inf where the target's logit is -inf. ``alpha`` of the paper is ``weight``. torchvision's ``sigmoid_focal_loss`` is another loss: of
    one yes-or-no question per class. Results are the same bits for any number of threads.

    References
    ----------
    Lin et al., "Focal Loss for Dense Object Detection" (2017), https://arxiv.org/abs/1708.02002.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.focal_loss(np.zeros((2, 4)), np.array([1, 3])).round(4)
    np.float64(0.7798)
    >>> F.focal_loss(np.array([20, 0, 0], np.float32), 0)
    np.float32(7.0052093e-26)
    """
    call = "focal", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device, 0.0, (gamma,)
    return (_fast_path.loss(*call) or _general_path.loss(*call))[0]


@documented(target=TARGET, weight=WEIGHT)
def focal_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Gradient of `focal_loss` with respect to its input.

    dx_ic = g_i * w[y_i] * f_i * (p_ic - [c = y_i]), divided as the reduction says, where p is softmax(x), r = 1 - p[i, y_i] and
    f_i = r^gamma + gamma * r^(gamma - 1) * p[i, y_i] * (-log p[i, y_i]); exactly 0 in ignored rows.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_gradient)s

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.focal_loss_backward(1.0, np.zeros((1, 2)), np.array([0])).round(4)
    array([[-0.2983,  0.2983]])
    """
    call = (
        "focal", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        0.0, (gamma,), grad_output, out,
    )  # fmt: skip
    return (_fast_path.loss(*call) or _general_path.loss(*call, with_loss=False))[1]


@documented(target=TARGET, weight=WEIGHT)
def focal_loss_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    grad_output: ArrayLike = 1.0,
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> tuple[Any, NDArray[Any]]:
    """`focal_loss` and its gradient in one pass: the logits are read once, and the gradient is written once.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_both)s

    %(raises)s

    Notes
    -----
    A new array for the gradient costs page faults: give ``out`` the same array at every step of a training loop.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> loss, grad = F.focal_loss_value_and_grad(np.zeros((1, 2)), np.array([0]))
    >>> loss.round(4), grad.round(4)
    (np.float64(0.1733), array([[-0.2983,  0.2983]]))
    """
    call = (
        "focal", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        0.0, (gamma,), grad_output, out,
    )  # fmt: skip
    return _fast_path.loss(*call) or _general_path.loss(*call)
