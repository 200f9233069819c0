"""`log_softmax` and its gradient; `forward` and `backward` serve `softmax`, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import _fast_path, _general_path
from nbloss._docstrings import documented
from nbloss._options import refused_axis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

INPUT = """\
input : array_like
    Logits of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, of any shape and strides. With ``dtype``, integers and bools
    are taken, too."""
OUT = """\
out : ndarray, optional
    The array that the result is written to, of input's shape and the result's dtype, with any strides that give each element a place of
    its own. It may be ``input`` itself, but may not overlap it otherwise."""


def forward(operation, input, dim, dtype, out, device):
    """The result of "log_softmax" or "softmax"."""
    if device is None and dtype is None:
        result = _fast_path.along_axis(operation, (input,), dim, out)
        if result is not None:
            return result
    return _general_path.forward(operation, input, dim, dtype, out, device)


def backward(operation, grad_output, output, dim, out, device):
    """The gradient of "log_softmax_backward" or "softmax_backward"."""
    if device is None:
        result = _fast_path.along_axis(operation, (grad_output, output), dim, out)
        if result is not None:
            return result
    return _general_path.backward(operation, grad_output, output, dim, out, device)


@documented(input=INPUT, out=OUT)
def log_softmax(
    input: ArrayLike,
    dim: int = -1,
    *,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    device: str | None = None,
    axis: None = None,
) -> NDArray[Any]:
    """Logarithm of the softmax along an axis.

    y_j = x_j - log(sum_c exp(x_c)), computed as (x_j - m) - log(sum_c exp(x_c - m)) with m = max x, so that a common offset costs no
    digits.

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
    log_softmax_backward : its gradient.
    softmax : the probabilities themselves.
    cross_entropy : log_softmax and nll_loss in one pass.

    Notes
    -----
    Every float32 element is within 4 units in its own last place. Meaning: ``torch.nn.functional.log_softmax``. The sum of exponentials
    follows Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions" (IMA J. Numer. Anal., 2021).

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.log_softmax(np.array([[20.0, 0.0]]))
    array([[-2.06115362e-09, -2.00000000e+01]])
    """
    if axis is not None:
        raise refused_axis(axis)
    return forward("log_softmax", input, dim, dtype, out, device)


OF_OUTPUT = """\
grad_output : float or array_like
    Gradient of the result: an array of its shape, or one number."""
OUTPUT = """\
output : array_like
    What `log_softmax` returned."""
OUT_OF_BACKWARD = """\
out : ndarray, optional
    The array that the gradient is written to, of output's shape and dtype, with any strides that give each element a place of its own. It
    may be ``output`` or ``grad_output`` itself."""


@documented(grad_output=OF_OUTPUT, output=OUTPUT, out=OUT_OF_BACKWARD)
def log_softmax_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    dim: int = -1,
    *,
    out: NDArray[Any] | None = None,
    device: str | None = None,
    axis: None = None,
) -> NDArray[Any]:
    """Gradient of `log_softmax` with respect to its input.

    dx_j = g_j - exp(y_j) * sum_c g_c

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
        As `log_softmax`; ValueError also for a ``grad_output`` of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.log_softmax_backward(np.array([[1.0, 0.0]]), F.log_softmax(np.zeros((1, 2))))
    array([[ 0.5, -0.5]])
    """
    if axis is not None:
        raise refused_axis(axis)
    return backward("log_softmax_backward", grad_output, output, dim, out, device)
