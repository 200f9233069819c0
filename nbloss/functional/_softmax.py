"""`softmax` and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss._docstrings import documented
from nbloss._options import refused_axis
from nbloss.functional._log_softmax import INPUT, OF_OUTPUT, OUT, OUT_OF_BACKWARD, backward, forward

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

OUTPUT = """\
output : array_like
    What `softmax` returned."""


@documented(input=INPUT, out=OUT)
def softmax(
    input: ArrayLike,
    dim: int = -1,
    *,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    device: str | None = None,
    axis: None = None,
) -> NDArray[Any]:
    """Probabilities: the softmax along an axis.

    y_j = exp(x_j - m) / sum_c exp(x_c - m), where m = max x

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    ndarray, shape of input

    Raises
    ------
    TypeError
        If ``dtype``, or without it the input's, is not one of the four dtypes.
    ValueError
        If ``out`` does not fit.
    numpy.exceptions.AxisError
        If there is no such axis.

    See Also
    --------
    softmax_backward : its gradient.
    log_softmax : the logarithms, which keep digits that probabilities close to 0 and 1 cannot have.

    Notes
    -----
    A float32 probability above 1.2e-38 is within 4 units in its own last place, plus half a unit for each unit of m - x_j. A logit of -inf
    has the probability 0; a row with nan or +inf, or of -inf only, becomes nan. Meaning: ``torch.nn.functional.softmax``.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.softmax(np.array([[0.0, 0.0, -np.inf, 0.0, 0.0]]))
    array([[0.25, 0.25, 0.  , 0.25, 0.25]])
    >>> F.softmax([[1, 1], [2, 2]], dim=0, dtype=np.float32).round(4)
    array([[0.2689, 0.2689],
           [0.7311, 0.7311]], dtype=float32)
    """
    if axis is not None:
        raise refused_axis(axis)
    return forward("softmax", input, dim, dtype, out, device)


@documented(grad_output=OF_OUTPUT, output=OUTPUT, out=OUT_OF_BACKWARD)
def softmax_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    dim: int = -1,
    *,
    out: NDArray[Any] | None = None,
    device: str | None = None,
    axis: None = None,
) -> NDArray[Any]:
    """Gradient of `softmax` with respect to its input.

    dx_j = y_j (g_j - sum_c g_c y_c)

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    ndarray, shape of output
        The gradient, in output's dtype.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As `softmax`; ValueError also for a ``grad_output`` of another shape.

    Notes
    -----
    The sum is taken in float64, so that a float32 gradient keeps its digits where one probability is close to 1.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.softmax_backward(np.array([[1.0, 0.0]]), F.softmax(np.zeros((1, 2))))
    array([[ 0.25, -0.25]])
    """
    if axis is not None:
        raise refused_axis(axis)
    return backward("softmax_backward", grad_output, output, dim, out, device)
