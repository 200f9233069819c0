"""The second derivatives of `cross_entropy`: the Hessian times an array, and the Hessian's diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ENTRIES = {
    "v": """\
v : array_like, shape of input
    What the Hessian is multiplied by, of any of the dtypes of ``input``. Its numbers have to be finite.""",
    "grad_output": """\
grad_output : float or array_like, default 1.0
    What multiplies the loss: one number, or for "none" an array of the loss's shape. The Hessian is that of the sum of these products.""",
    "out": """\
out : ndarray, optional
    The array that the result is written to, of input's shape and dtype, with any strides that give each element a place of its own. It
    may be ``input`` itself, or ``v`` itself, but may not overlap any argument otherwise. On a GPU, it is in C order.""",
}


@documented(**ENTRIES)
def cross_entropy_hvp(
    v: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    grad_output: ArrayLike = 1.0,
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Product of the Hessian of `cross_entropy` with an array: the derivative of its gradient in the direction ``v``.

    With p = softmax(x), L_i = log sum_c exp(x_ic), P_i = sum_c p_ic * v_ic, M_i the row's total target weight (w[y_i] for plain class
    numbers) and z = ``lse_square_scale``: result_ic = g_i * M_i * p_ic * ((1 + 2 * z * L_i) * (v_ic - P_i) + 2 * z * P_i), divided as the
    reduction says; exactly 0 in ignored rows. The Hessian is symmetric, and for z = 0 positive semidefinite.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    ndarray, shape of input
        The product, in input's dtype.

    %(raises)s

    See Also
    --------
    cross_entropy_hessian_diag : the diagonal of the Hessian.
    cross_entropy_backward : the gradient.

    Notes
    -----
    One pass reads ``input`` and ``v``; the Hessian itself, C numbers for each logit, is never made. Where p of a class is close to 1, the
    differences to ``v`` at that class are summed, so that v - P keeps its digits. A class with p = 0 (a logit of -inf) has the result 0. A
    row with a logit of nan or +inf, or of -inf alone, is nan. A number of ``v`` that is not finite makes its row nan or infinite.

    With ``softcap`` or ``logit_scale`` the Hessian H_u is that with respect to the mapped logits u, and the chain rule adds the bend of the
    map: the product is u' * H_u (u' v) + (dl/du) * u'' * v. It needs the gradient, too, and takes longer.

    The same product is the backward of a gradient (double backward) and its forward derivative (JVP).

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> x, y = np.log([[0.25, 0.75]]), np.array([0])
    >>> F.cross_entropy_hvp(np.array([[1.0, 0.0]]), x, y)
    array([[ 0.1875, -0.1875]])
    """
    return _general_path.second_order(
        v, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        label_smoothing, (lse_square_scale, softcap, logit_scale), grad_output, out,
    )  # fmt: skip


@documented(**ENTRIES)
def cross_entropy_hessian_diag(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    grad_output: ArrayLike = 1.0,
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Diagonal of the Hessian of `cross_entropy`: the second derivative with respect to each logit.

    With the symbols of `cross_entropy_hvp`: result_ic = g_i * M_i * p_ic * ((1 + 2 * z * L_i) * (1 - p_ic) + 2 * z * p_ic), divided as the
    reduction says; exactly 0 in ignored rows.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    ndarray, shape of input
        The diagonal, in input's dtype.

    %(raises)s

    See Also
    --------
    cross_entropy_hvp : the product of the whole Hessian with an array.

    Notes
    -----
    1 - p keeps its digits where p is close to 1: it is the sum of the other classes. A class with p = 0 (a logit of -inf) has the result 0.
    A row with a logit of nan or +inf, or of -inf alone, is nan.

    Gradient boosting takes the gradient and this diagonal. XGBoost multiplies the diagonal by 2, which makes steps smaller.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.cross_entropy_hessian_diag(np.log([[0.25, 0.75]]), np.array([0]))
    array([[0.1875, 0.1875]])
    """
    return _general_path.second_order(
        None, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
        label_smoothing, (lse_square_scale, softcap, logit_scale), grad_output, out,
    )  # fmt: skip
