"""`distillation_loss`, its gradient, and both in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ENTRIES = {
    "input": """\
input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
    Logits of the student, of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. The arithmetic for float16 and
    bfloat16 is in float32.""",
    "teacher": """\
teacher : array_like, shape of input
    Logits of the teacher, of any of these dtypes, converted to the dtype of the arithmetic.""",
    "reduction": """\
reduction : {"mean", "sum", "none"}, default "mean"
    "mean" divides by the number of rows (torch's "batchmean", over all rows), by the sum of ``sample_weight``, or by ``divisor``. None
    means "none".""",
    "raises": """\
Raises
------
TypeError
    If the logits are not floating-point, or an option is not of its type.
ValueError
    If shapes, options or ``out`` do not fit. No error leaves anything written.""",
}


@documented(**ENTRIES)
def distillation_loss(
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: str | None = "mean",
    device: str | None = None,
) -> Any:
    """Kullback-Leibler divergence of a student's softmax from a teacher's, at a temperature: the loss of knowledge distillation.

    With q = softmax(t / T) of the teacher's logits t and p = softmax(x / T) of the student's, l_i = T^2 * sum_c q_ic * log(q_ic / p_ic).
    The factor T^2 keeps the size of the gradient when T changes: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
    (2015), https://arxiv.org/abs/1503.02531.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    See Also
    --------
    distillation_loss_backward : its gradient.
    distillation_loss_value_and_grad : both, in the time of one.

    Notes
    -----
    The loss is at least 0, and exactly 0 if both have the same logits. It keeps its digits where the student is near its teacher: with
    z_c = (x_c - t_c) / T - k, for a number k near the q-mean of (x - t) / T, every term of sum_c q_c * (exp(z_c) - 1 - z_c) is at least 0.
    The differences of the logarithms would be large terms that cancel.

    A class with q = 0 (t = -inf) adds 0, also where x = -inf. A class with q > 0 at x = -inf makes the loss inf. A row with nan or +inf, or
    with -inf alone, is nan. Without rows the mean is nan and the sum is 0. Results are the same bits for any number of threads.

    Meaning: ``torch.nn.functional.kl_div`` of log_softmax(x / T) and log_softmax(t / T), with ``log_target=True`` and
    ``reduction="batchmean"``, times T^2.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.distillation_loss(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])).round(4)
    np.float64(0.1308)
    >>> teacher = np.array([1, 2, 3], np.float32)
    >>> F.distillation_loss(teacher + np.array([0, 0, 2**-13], np.float32), teacher)
    np.float32(1.6591878e-09)
    """
    call = input, teacher, temperature, sample_weight, divisor, reduction, device
    return _general_path.distillation(*call)[0]


@documented(**ENTRIES)
def distillation_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: str | None = "mean",
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Gradient of `distillation_loss` with respect to its input. There is none with respect to the teacher.

    dx_ic = g_i * T * (p_ic - q_ic), divided as the reduction says; exactly 0 in rows with sample weight 0, and where x and t are equal.

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
    >>> F.distillation_loss_backward(1.0, np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])).round(4)
    array([[ 0.25, -0.25]])
    """
    call = input, teacher, temperature, sample_weight, divisor, reduction, device
    return _general_path.distillation(*call, g=grad_output, out=out, with_loss=False)[1]


@documented(**ENTRIES)
def distillation_loss_value_and_grad(
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: str | None = "mean",
    grad_output: ArrayLike = 1.0,
    out: NDArray[Any] | None = None,
    device: str | None = None,
) -> tuple[Any, NDArray[Any]]:
    """`distillation_loss` and its gradient in one pass: both arrays of logits are read once, and the gradient is written once.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_both)s

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> loss, grad = F.distillation_loss_value_and_grad(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]]))
    >>> loss.round(4), grad.round(4)
    (np.float64(0.1308), array([[ 0.25, -0.25]]))
    """
    call = input, teacher, temperature, sample_weight, divisor, reduction, device
    return _general_path.distillation(*call, g=grad_output, out=out)
