"""`cross_entropy`, its gradient, and both in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import _fast_path, _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ZERO, _ONE = 0.0, 1.0  # defaults: a call without the options is recognized by their identity, which costs a small call least


@documented()
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = _ZERO,
    softcap: float | None = None,
    logit_scale: float = _ONE,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    device: str | None = None,
) -> Any:
    """Cross entropy between logits and targets.

    With p = softmax(x), l_i = (1 - e) * w[y_i] * (-log p[i, y_i]) + (e / C) * sum_c w_c * (-log p_ic) for a smoothing of e, and 0 where
    y_i == ignore_index; "mean" divides the sum by sum_i w[y_i] over the other rows. With probabilities y (smoothed to
    y' = y (1 - e) + e / C): l_i = -sum_c w_c * y'_ic * log p_ic; "mean" divides by the number of rows.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    See Also
    --------
    cross_entropy_backward : its gradient.
    cross_entropy_value_and_grad : both, in the time of one.

    Notes
    -----
    Every float32 loss is within 4 units in its own last place, also where p[i, y_i] is close to 1. Without rows that count, the mean is nan
    and the sum is 0. A mean over weights that sum to 0 is nan, and so are its gradients, even in rows whose loss is not 0 because of
    smoothing. ``empty="zero"`` makes all of these 0. Results are the same bits for any number of threads. Meaning:
    ``torch.nn.functional.cross_entropy``.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.cross_entropy(np.zeros((2, 4)), np.array([1, 3])).round(4)
    np.float64(1.3863)
    >>> F.cross_entropy(np.array([20, 0, 0], np.float32), 0)
    np.float32(4.1223074e-09)
    """
    of_row = () if softcap is None and lse_square_scale is _ZERO and logit_scale is _ONE else (lse_square_scale, softcap, logit_scale)
    call = (
        "cross_entropy", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        label_smoothing, of_row,
    )  # fmt: skip
    return (_fast_path.loss(*call) or _general_path.loss(*call))[0]


@documented()
def cross_entropy_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = _ZERO,
    softcap: float | None = None,
    logit_scale: float = _ONE,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Gradient of `cross_entropy` with respect to its input.

    dx_ic = g_i * (p_ic * sum_k q_ik - q_ic), where q_i is the weighted and smoothed target distribution of the row (w[y_i] at y_i for
    plain class numbers), divided as the reduction says; exactly 0 in ignored rows.

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
    >>> F.cross_entropy_backward(1.0, np.zeros((1, 2)), np.array([0]))
    array([[-0.5,  0.5]])
    """
    of_row = () if softcap is None and lse_square_scale is _ZERO and logit_scale is _ONE else (lse_square_scale, softcap, logit_scale)
    call = (
        "cross_entropy", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        label_smoothing, of_row, grad_output, out,
    )  # fmt: skip
    return (_fast_path.loss(*call) or _general_path.loss(*call, with_loss=False))[1]


@documented()
def cross_entropy_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = _ZERO,
    softcap: float | None = None,
    logit_scale: float = _ONE,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    grad_output: ArrayLike = 1.0,
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> tuple[Any, NDArray[Any]]:
    """`cross_entropy` and its gradient in one pass: the logits are read once, and the gradient is written once.

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

    ``grad_output`` multiplies the gradient before it is rounded to input's dtype, and leaves the loss as it is. A mean over many rows has
    gradients that float16 rounds to 0: a loss scale such as 65536.0 keeps them.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> loss, grad = F.cross_entropy_value_and_grad(np.zeros((1, 2)), np.array([0]))
    >>> loss.round(4), grad
    (np.float64(0.6931), array([[-0.5,  0.5]]))
    """
    of_row = () if softcap is None and lse_square_scale is _ZERO and logit_scale is _ONE else (lse_square_scale, softcap, logit_scale)
    call = (
        "cross_entropy", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        label_smoothing, of_row, grad_output, out,
    )  # fmt: skip
    return _fast_path.loss(*call) or _general_path.loss(*call)
