"""`linear_cross_entropy`, its gradients, and all in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nbloss import _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

WRT = "input", "linear_weight", "linear_bias"

ENTRIES = {
    "input": """\
input : array_like, shape (D,) or (N, D)
    The features of each row, of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64.""",
    "linear_weight": """\
linear_weight : array_like, shape (C, D) or (C, d1, ..., dK, D)
    The weight of the layer, of input's dtype. Its logits are those of ``torch.nn.functional.linear``: input @ linear_weight.T. A weight
    that is neither in C nor in Fortran order is copied.""",
    "target": """\
target : array_like
    Class numbers of any integer dtype or bool, of shape (), (N,) or (N, d1, ..., dK); or probabilities: floats of the logits' shape.""",
    "linear_bias": """\
linear_bias : array_like, shape of linear_weight without its last axis, optional
    What is added to the logits. -inf masks a class.""",
    "ignore_index": """\
ignore_index : int, optional
    Rows with this target do not count: their input is not read, their loss is 0 and their gradient exactly 0. None means -100 with class
    numbers, and is the only value with probabilities, as in torch.""",
    "softcap": """\
softcap : float, optional
    As for `cross_entropy`: the loss is that of softcap * tanh(logits / softcap).""",
    "logit_scale": """\
logit_scale : float, default 1.0
    As for `cross_entropy`: what multiplies the logits, the bias included.""",
    "max_memory": """\
max_memory : float, default 2**27
    Bytes that a chunk of rows may take, its logits and all that its gradients need. Beside its results a call takes little more
    (docs/linear.md has the formula). A chunk has at least two rows, whatever they take.""",
    "stats": """\
stats : dict of str to ndarray, optional
    Arrays of the loss's shape that are filled with statistics of the logits, as `cross_entropy_stats` has them: any of "lse", "log_prob",
    "argmax", "correct", "entropy". They are those of the logits before ``softcap`` and ``logit_scale``. Rows that do not count, which
    those with a weight of 0 do not either, have 0, 0, -1, False and 0.""",
    "wrt": """\
wrt : sequence of str, default ("input", "linear_weight", "linear_bias")
    Which gradients are computed. A gradient that is not asked for costs nothing.""",
    "accumulate": """\
accumulate : bool, default False
    Add the gradients to the arrays of ``out``, for micro-batches.""",
    "out": """\
out : tuple of ndarray or None, optional
    Arrays that the gradients are written to, (input, linear_weight, linear_bias), None for a new one. They may share no memory with any
    argument or with each other. Those of gradients that are not asked for are left alone.""",
    "device": """\
device : str, optional
    None or "cpu". There is no such kernel for a GPU.""",
    "returns_gradients": """\
LinearGradients
    A named tuple ``(loss, input, linear_weight, linear_bias)``: the loss alone, as `linear_cross_entropy` returns it, and the gradients of
    grad_output times the loss (for "none": of the sum of these products). A gradient that was not asked for is None.""",
}


class LinearGradients(NamedTuple):
    """The loss and its gradients: what `linear_cross_entropy_value_and_grad` returns. None for a gradient that was not asked for.

    Parameters
    ----------
    loss : floating or ndarray
        The loss.
    input : ndarray or None
        The gradient with respect to the input.
    linear_weight : ndarray or None
        The gradient with respect to the weight of the layer.
    linear_bias : ndarray or None
        The gradient with respect to the bias of the layer; None where there is no bias.

    Examples
    --------
    >>> import nbloss.functional as F
    >>> F.linear_cross_entropy_value_and_grad([1.0], [[0.0], [0.0]], 0)._fields
    ('loss', 'input', 'linear_weight', 'linear_bias')
    """

    loss: Any
    input: Any
    linear_weight: Any
    linear_bias: Any


@documented(**ENTRIES)
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: str | None = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    max_memory: float = 2**27,
    stats: dict[str, NDArray[Any]] | None = None,
    device: str | None = None,
) -> Any:
    """Cross entropy of the logits of a linear layer, without an array of all logits.

    The loss is ``cross_entropy(input @ linear_weight.T + linear_bias, target, ...)``. The logits exist for a chunk of rows at a time.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    See Also
    --------
    linear_cross_entropy_value_and_grad : the loss and the gradients of input, weight and bias.
    cross_entropy : the loss of logits.

    Notes
    -----
    Targets are checked before the first product. The products are NumPy's. The same arguments, the same number of BLAS threads and the
    same ``max_memory`` give the same bits. float16 and bfloat16 are converted to float32: the whole weight once, the input by chunks.
    Meaning: ``torch.nn.functional.linear_cross_entropy``.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.linear_cross_entropy(np.ones((2, 3)), np.zeros((4, 3)), np.array([1, 3])).round(4)
    np.float64(1.3863)
    """
    return _general_path.linear(
        input, linear_weight, target, linear_bias, weight, ignore_index, max_memory, device,
        (reduction, sample_weight, divisor, empty, label_smoothing), (lse_square_scale, softcap, logit_scale), stats=stats,
    )[0]  # fmt: skip


@documented(**ENTRIES)
def linear_cross_entropy_value_and_grad(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: str | None = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    max_memory: float = 2**27,
    stats: dict[str, NDArray[Any]] | None = None,
    grad_output: ArrayLike = 1.0,
    wrt: Sequence[str] = WRT,
    out: tuple[NDArray[Any] | None, ...] | None = None,
    accumulate: bool = False,
    device: str | None = None,
) -> LinearGradients:
    """`linear_cross_entropy` and its gradients with respect to input, weight and bias, in three products.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_gradients)s

    %(raises)s

    Notes
    -----
    A row that counts and has nan makes the gradient of the whole weight nan. An ignored row reaches nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> result = F.linear_cross_entropy_value_and_grad(np.ones((1, 2)), np.zeros((2, 2)), np.array([0]), wrt=["linear_weight"])
    >>> result.loss.round(4), result.linear_weight
    (np.float64(0.6931), array([[-0.5, -0.5],
           [ 0.5,  0.5]]))
    """
    loss, gradients = _general_path.linear(
        input, linear_weight, target, linear_bias, weight, ignore_index, max_memory, device,
        (reduction, sample_weight, divisor, empty, label_smoothing), (lse_square_scale, softcap, logit_scale), stats=stats,
        g=grad_output, wrt=wrt, out=out, accumulate=accumulate,
    )  # fmt: skip
    return LinearGradients(loss, *gradients)


@documented(**ENTRIES)
def linear_cross_entropy_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: str | None = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    max_memory: float = 2**27,
    wrt: Sequence[str] = WRT,
    out: tuple[NDArray[Any] | None, ...] | None = None,
    accumulate: bool = False,
    device: str | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of `linear_cross_entropy` with respect to input, weight and bias. The logits are computed again.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    tuple of ndarray
        ``(input, linear_weight, linear_bias)``: the gradients of grad_output times the loss; None for those that were not asked for.

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.linear_cross_entropy_backward(1.0, np.ones((1, 2)), np.eye(2), np.array([0]), wrt=["input"])[0]
    array([[-0.5,  0.5]])
    """
    return _general_path.linear(
        input, linear_weight, target, linear_bias, weight, ignore_index, max_memory, device,
        (reduction, sample_weight, divisor, empty, label_smoothing), (lse_square_scale, softcap, logit_scale),
        g=grad_output, wrt=wrt, out=out, accumulate=accumulate,
    )[1]  # fmt: skip
