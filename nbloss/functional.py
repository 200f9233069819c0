"""The losses as functions, with the names and meanings of ``torch.nn.functional``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbloss import _fast_path
from nbloss._problem import FLOAT_DTYPES, Problem, as_stored, canonical, delivered, float_array, float_kind, output_array, real_array
from nbloss.backends.select import select

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = [
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_value_and_grad",
    "log_softmax",
    "log_softmax_backward",
    "nll_loss",
    "nll_loss_backward",
]


def __dir__():
    """The public names only."""
    return __all__


def _axis(dim):
    """A whole number; NumPy's error for an axis speaks for itself otherwise."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"dim should be an integer; got {dim!r}")
    return dim.__index__()


def _float_type(dtype):
    given = np.dtype(dtype)
    if float_kind(given) is None:
        raise TypeError(f"dtype should be {FLOAT_DTYPES}; got {given}")
    return given


def _array_like(backend, name, value, like):
    """An array of the shape and dtype of another; a number stands for all of it."""
    if np.ndim(value) == 0:
        return backend.broadcast(real_array(backend, name, value, like.dtype), like.shape)
    array = float_array(backend, name, value)
    if array.shape != like.shape:
        raise ValueError(f"{name} should have shape {like.shape}, the output's; got {array.shape}")
    return backend.cast(array, like.dtype)


def log_softmax(
    input: ArrayLike, dim: int = -1, *, dtype: DTypeLike | None = None, out: Array | None = None, device: str | None = None
) -> Array:
    """Logarithm of the softmax along an axis.

    y_j = x_j - log(sum_c exp(x_c)), computed as (x_j - m) - log(sum_c exp(x_c - m)) with m = max x, so that no common offset costs digits.

    Parameters
    ----------
    input : array_like
        Logits of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, of any shape and strides.
    dim : int, default -1
        The axis of the classes.
    dtype : dtype, optional
        Convert the input to this dtype first, and return it.
    out : ndarray, optional
        Where the result goes: input's shape and the result's dtype, C order. It may be ``input`` itself; other overlaps are refused.
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

    Returns
    -------
    ndarray, shape of input

    Raises
    ------
    TypeError
        If the input (or ``dtype``) is not one of the four dtypes.
    ValueError
        If ``out`` does not fit.
    numpy.exceptions.AxisError
        If there is no such axis.

    See Also
    --------
    log_softmax_backward : its gradient.
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
    if device is None and dtype is None:
        result = _fast_path.log_softmax("log_softmax", [("input", input)], dim, out)
        if result is not None:
            return result
    with select(device, input, out) as backend:
        x = float_array(backend, "input", input)
        if dtype is not None:
            x = backend.cast(x, _float_type(dtype))
        axis = normalize_axis_index(_axis(dim), max(x.ndim, 1))
        result = output_array(backend, out, x.shape, x.dtype, [("input", x)], [])
        if x.size:
            row = canonical(backend, x, axis)
            backend.kernels.log_softmax(row, as_stored(backend.kernel_view(result)).reshape(row.shape))
        return delivered(backend, result, out)


def log_softmax_backward(
    grad_output: ArrayLike, output: ArrayLike, dim: int = -1, *, out: Array | None = None, device: str | None = None
) -> Array:
    """Gradient of `log_softmax` with respect to its input.

    dx_j = g_j - exp(y_j) * sum_c g_c

    Parameters
    ----------
    grad_output : float or array_like
        Gradient of the result: its shape, or one number for all of it.
    output : array_like
        What `log_softmax` returned.
    dim : int, default -1
        The axis of the classes.
    out : ndarray, optional
        Where the gradient goes: output's shape and dtype, C order. It may be ``output`` or ``grad_output`` itself.
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

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
    if device is None:
        result = _fast_path.log_softmax("log_softmax_backward", [("grad_output", grad_output), ("output", output)], dim, out)
        if result is not None:
            return result
    with select(device, output, grad_output, out) as backend:
        y = float_array(backend, "output", output)
        g = _array_like(backend, "grad_output", grad_output, y)
        axis = normalize_axis_index(_axis(dim), max(y.ndim, 1))
        result = output_array(backend, out, y.shape, y.dtype, [("output", y), ("grad_output", g)], [])
        if y.size:
            row = canonical(backend, y, axis)
            backend.kernels.log_softmax_backward(
                canonical(backend, g, axis), row, as_stored(backend.kernel_view(result)).reshape(row.shape)
            )
        return delivered(backend, result, out)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    device: str | None = None,
) -> Any:
    """Negative log-likelihood of log-probabilities.

    l_i = -w[y_i] * x[i, y_i], and 0 where y_i == ignore_index; "mean" divides the sum by sum_i w[y_i] over the other rows.
    With probabilities: l_i = -sum_c w_c * y_ic * x_ic; "mean" divides by the number of rows.

    Parameters
    ----------
    input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Log-probabilities of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. All arithmetic on half types
        is in float32.
    target : array_like
        Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities (one-hot included): floats
        of input's shape.
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted: its loss is 0, its gradient exactly 0, whatever the row holds.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count (probabilities: by the number of rows). None means "none".
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

    Returns
    -------
    floating or ndarray
        The loss: one number ("mean", "sum"), or one per row ("none"), in input's dtype, float32 for half types.

    Raises
    ------
    IndexError
        If a target is neither in [0, C) nor ``ignore_index``: its value, its index, C, and how many there are.
    TypeError
        For logits that are not floating-point, or class numbers that are.
    ValueError
        For shapes, options or ``out`` that do not fit. Nothing is written before any of these.

    See Also
    --------
    nll_loss_backward : its gradient.
    cross_entropy : the same from logits.

    Notes
    -----
    Meaning: ``torch.nn.functional.nll_loss``. No row at all, or only ignored ones: the mean is nan, the sum 0. A mean over weights that
    sum to 0 is nan.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.nll_loss(np.log([[0.25, 0.75], [0.5, 0.5]]), np.array([1, -100])).round(4)
    np.float64(0.2877)
    """
    done = _fast_path.loss("nll", input, target, weight, ignore_index, reduction, device)
    if done:
        return done[0]
    with select(device, input, target, weight) as backend:
        problem = Problem(backend, input, target, weight, ignore_index, reduction).check_targets()
        return problem.reduced(problem.nll())


def nll_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    out: Array | None = None,
    device: str | None = None,
) -> Array:
    """Gradient of `nll_loss` with respect to its input.

    dx[i, c] = -g_i * w[y_i] * [c == y_i] (divided by sum w[y_i] for "mean"), 0 in ignored rows.

    Parameters
    ----------
    grad_output : float or array_like
        Gradient of the loss, of the loss's shape or one number.
    input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Log-probabilities of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. All arithmetic on half types
        is in float32.
    target : array_like
        Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities (one-hot included): floats
        of input's shape.
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted: its loss is 0, its gradient exactly 0, whatever the row holds.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count (probabilities: by the number of rows). None means "none".
    out : ndarray, optional
        Where the gradient goes: input's shape and dtype, C order. It may be ``input`` itself; other overlaps are refused.
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

    Returns
    -------
    ndarray, shape of input
        The gradient, in input's dtype.

    Raises
    ------
    IndexError
        If a target is neither in [0, C) nor ``ignore_index``: its value, its index, C, and how many there are.
    TypeError
        For logits that are not floating-point, or class numbers that are.
    ValueError
        For shapes, options or ``out`` that do not fit. Nothing is written before any of these.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.nll_loss_backward(1.0, np.log([[0.25, 0.75]]), np.array([1]))
    array([[ 0., -1.]])
    """
    if type(grad_output) is float:
        done = _fast_path.loss("nll", input, target, weight, ignore_index, reduction, device, g=grad_output, out=out, valued=False)
        if done:
            return done[1]
    with select(device, input, target, weight, grad_output, out) as backend:
        problem = Problem(backend, input, target, weight, ignore_index, reduction)
        result, gradient = problem.gradient(out, grad_output)
        problem.check_targets().nll_backward(grad_output, gradient)
        return backend.deliver(result)


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    device: str | None = None,
) -> Any:
    """Cross entropy between logits and targets.

    With p = softmax(x), l_i = (1 - e) * w[y_i] * (-log p[i, y_i]) + (e / C) * sum_c w_c * (-log p_ic) for a smoothing of e, and 0 where
    y_i == ignore_index; "mean" divides the sum by sum_i w[y_i] over the other rows. With probabilities y (smoothed to
    y' = y (1 - e) + e / C): l_i = -sum_c w_c * y'_ic * log p_ic; "mean" divides by the number of rows.

    Parameters
    ----------
    input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Logits of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. All arithmetic on half types is in
        float32.
    target : array_like
        Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities (one-hot included): floats
        of input's shape.
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted: its loss is 0, its gradient exactly 0, whatever the row holds.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count (probabilities: by the number of rows). None means "none".
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread over all classes.
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

    Returns
    -------
    floating or ndarray
        The loss: one number ("mean", "sum"), or one per row ("none"), in input's dtype, float32 for half types.

    Raises
    ------
    IndexError
        If a target is neither in [0, C) nor ``ignore_index``: its value, its index, C, and how many there are.
    TypeError
        For logits that are not floating-point, or class numbers that are.
    ValueError
        For shapes, options or ``out`` that do not fit. Nothing is written before any of these.

    See Also
    --------
    cross_entropy_backward : its gradient.
    cross_entropy_value_and_grad : both, for the price of one.

    Notes
    -----
    Every float32 loss is within 4 units in its own last place: a confident row keeps its digits. No row at all, or only ignored ones:
    the mean is nan, the sum 0. A mean over weights that sum to 0 is nan, and so are its rows' gradients, even where smoothing gives them
    some mass. Results are the same bits for any number of threads. Meaning: ``torch.nn.functional.cross_entropy``; label smoothing:
    Szegedy et al., "Rethinking the Inception Architecture" (2015), https://arxiv.org/abs/1512.00567.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.cross_entropy(np.zeros((2, 4)), np.array([1, 3])).round(4)
    np.float64(1.3863)
    >>> F.cross_entropy(np.array([20, 0, 0], np.float32), 0)
    np.float32(4.1223074e-09)
    """
    done = _fast_path.loss("cross_entropy", input, target, weight, ignore_index, reduction, device, label_smoothing)
    if done:
        return done[0]
    with select(device, input, target, weight) as backend:
        problem = Problem(backend, input, target, weight, ignore_index, reduction, label_smoothing).check_targets()
        return problem.reduced(problem.cross_entropy(None, None))


def cross_entropy_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    out: Array | None = None,
    device: str | None = None,
) -> Array:
    """Gradient of `cross_entropy` with respect to its input.

    dx_ic = g_i * (p_ic * sum_k q_ik - q_ic), where q_ic are the weighted, smoothed target masses of the row (w[y_i] at y_i for plain class
    numbers), divided as the reduction says; exactly 0 in ignored rows.

    Parameters
    ----------
    grad_output : float or array_like
        Gradient of the loss, of the loss's shape or one number.
    input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Logits of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. All arithmetic on half types is in
        float32.
    target : array_like
        Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities (one-hot included): floats
        of input's shape.
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted: its loss is 0, its gradient exactly 0, whatever the row holds.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count (probabilities: by the number of rows). None means "none".
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread over all classes.
    out : ndarray, optional
        Where the gradient goes: input's shape and dtype, C order. It may be ``input`` itself; other overlaps are refused.
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

    Returns
    -------
    ndarray, shape of input
        The gradient, in input's dtype.

    Raises
    ------
    IndexError
        If a target is neither in [0, C) nor ``ignore_index``: its value, its index, C, and how many there are.
    TypeError
        For logits that are not floating-point, or class numbers that are.
    ValueError
        For shapes, options or ``out`` that do not fit. Nothing is written before any of these.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> F.cross_entropy_backward(1.0, np.zeros((1, 2)), np.array([0]))
    array([[-0.5,  0.5]])
    """
    if type(grad_output) is float:
        done = _fast_path.loss("cross_entropy", input, target, weight, ignore_index, reduction, device, label_smoothing, grad_output, out)
        if done:
            return done[1]
    with select(device, input, target, weight, grad_output, out) as backend:
        problem = Problem(backend, input, target, weight, ignore_index, reduction, label_smoothing)
        result, gradient = problem.gradient(out, grad_output)
        problem.check_targets().cross_entropy(grad_output, gradient)
        return backend.deliver(result)


def cross_entropy_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    out: Array | None = None,
    device: str | None = None,
) -> tuple[Any, Array]:
    """`cross_entropy` and its gradient in one pass: the logits are read once, the gradient is written once.

    Parameters
    ----------
    input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Logits of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. All arithmetic on half types is in
        float32.
    target : array_like
        Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities (one-hot included): floats
        of input's shape.
    weight : array_like, shape (C,), optional
        Class weights.
    ignore_index : int, default -100
        The target that marks a row as not to be counted: its loss is 0, its gradient exactly 0, whatever the row holds.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the rows that count (probabilities: by the number of rows). None means "none".
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread over all classes.
    out : ndarray, optional
        Where the gradient goes: input's shape and dtype, C order. It may be ``input`` itself; other overlaps are refused.
    device : str, optional
        "cpu", "cuda" or "cuda:<index>"; None: where the arrays are.

    Returns
    -------
    loss : floating or ndarray
        The loss: one number ("mean", "sum"), or one per row ("none"), in input's dtype, float32 for half types.
    grad : ndarray, shape of input
        Its gradient (for "none": of the sum of the losses) with respect to ``input``, in input's dtype.

    Raises
    ------
    IndexError
        If a target is neither in [0, C) nor ``ignore_index``: its value, its index, C, and how many there are.
    TypeError
        For logits that are not floating-point, or class numbers that are.
    ValueError
        For shapes, options or ``out`` that do not fit. Nothing is written before any of these.

    Notes
    -----
    A fresh result costs page faults: give ``out`` the same array at every step of a training loop.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> loss, grad = F.cross_entropy_value_and_grad(np.zeros((1, 2)), np.array([0]))
    >>> loss.round(4), grad
    (np.float64(0.6931), array([[-0.5,  0.5]]))
    """
    done = _fast_path.loss("cross_entropy", input, target, weight, ignore_index, reduction, device, label_smoothing, 1.0, out)
    if done:
        return done
    with select(device, input, target, weight, out) as backend:
        problem = Problem(backend, input, target, weight, ignore_index, reduction, label_smoothing)
        result, gradient = problem.gradient(out)
        losses = problem.check_targets().cross_entropy(1.0, gradient)
        return problem.reduced(losses), backend.deliver(result)
