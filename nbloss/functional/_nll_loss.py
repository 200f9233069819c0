"""`nll_loss` and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import _fast_path, _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

INPUT = """\
input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
    Log-probabilities of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. The arithmetic for float16 and
    bfloat16 is in float32."""


@documented(input=INPUT)
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    device: str | None = None,
) -> Any:
    """Negative log-likelihood of log-probabilities.

    l_i = -w[y_i] * x[i, y_i], and 0 where y_i == ignore_index; "mean" divides the sum by sum_i w[y_i] over the other rows.
    With probabilities: l_i = -sum_c w_c * y_ic * x_ic; "mean" divides by the number of rows.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    See Also
    --------
    nll_loss_backward : its gradient.
    cross_entropy : the same from logits.

    Notes
    -----
    Meaning: ``torch.nn.functional.nll_loss``. Without rows that count, the mean is nan and the sum is 0. A mean over weights that sum to 0
    is nan. ``empty="zero"`` makes both 0.

    Numbers above 0 at the targets are no log-probabilities; the input is probably logits. On the CPU, without class or sample weights, the
    first such call of a process warns with ``nbloss.NotLogProbabilitiesWarning``.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.nll_loss(np.log([[0.25, 0.75], [0.5, 0.5]]), np.array([1, -100])).round(4)
    np.float64(0.2877)
    """
    call = "nll", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device
    return (_fast_path.loss(*call) or _general_path.loss(*call))[0]


@documented(input=INPUT)
def nll_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Gradient of `nll_loss` with respect to its input.

    dx[i, c] = -g_i * w[y_i] * [c == y_i] (divided by sum w[y_i] for "mean"), 0 in ignored rows.

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
    >>> F.nll_loss_backward(1.0, np.log([[0.25, 0.75]]), np.array([1]))
    array([[ 0., -1.]])
    """
    call = "nll", input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device
    rest = {"g": grad_output, "out": out, "with_loss": False}
    return (_fast_path.loss(*call, **rest) or _general_path.loss(*call, **rest))[1]
