"""Losses and softmax of JAX arrays, for every transformation of JAX. On the CPU the kernels of nbloss compute them, in place of XLA's."""

try:
    import jax
    import ml_dtypes  # noqa: F401
except ImportError as error:
    raise ImportError('nbloss.interop.jax needs JAX and ml_dtypes: pip install "nbloss[jax]"') from error

from functools import lru_cache
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbloss._arguments import float_array
from nbloss._distillation import Distillation
from nbloss._options import CHECKS, checked_dim, checked_divisor, checked_row_options
from nbloss._problem import Problem
from nbloss.backends.cpu import CPU
from nbloss.interop.jax._host import Spec
from nbloss.interop.jax._linear import linear_cross_entropy
from nbloss.interop.jax._primitive import call

if TYPE_CHECKING:
    from jax.typing import ArrayLike

__all__ = ["cross_entropy", "distillation_loss", "focal_loss", "linear_cross_entropy", "log_softmax", "nll_loss", "softmax"]


def log_softmax(input: "ArrayLike", dim: int = -1) -> jax.Array:
    """Logarithm of softmax along an axis: y = (x - m) - log sum_c exp(x_c - m), where m is the maximum of the slice.

    Parameters
    ----------
    input : array_like
        Any shape; float16, bfloat16, float32 or float64.
    dim : int, default -1
        The axis.

    Returns
    -------
    jax.Array, shape and dtype of input

    Raises
    ------
    TypeError
        If ``input`` is not floating-point, or ``dim`` is not an integer.
    numpy.exceptions.AxisError
        If ``dim`` is out of range.

    See Also
    --------
    nbloss.functional.log_softmax : the function of NumPy arrays, with its notes on accuracy.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nbloss.interop.jax import log_softmax
    >>> log_softmax(jnp.array([0.0, 0.0])).round(4)
    Array([-0.6931, -0.6931], dtype=float32)
    """
    return _along_axis("log_softmax", input, dim)


def softmax(input: "ArrayLike", dim: int = -1) -> jax.Array:
    """Softmax along an axis: p_c = exp(x_c - m) / sum_k exp(x_k - m), where m is the maximum of the slice.

    Parameters, results and errors are those of `log_softmax`.

    See Also
    --------
    nbloss.functional.softmax : the function of NumPy arrays, with its notes on accuracy.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nbloss.interop.jax import softmax
    >>> softmax(jnp.array([0.0, 0.0]))
    Array([0.5, 0.5], dtype=float32)
    """
    return _along_axis("softmax", input, dim)


def nll_loss(
    input: "ArrayLike",
    target: "ArrayLike",
    weight: "ArrayLike | None" = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: "ArrayLike | None" = None,
    divisor: "ArrayLike | None" = None,
    empty: str = "nan",
) -> jax.Array:
    """Negative log-likelihood of log-probabilities: l_i = -w[y_i] * x[i, y_i], as `nbloss.functional.nll_loss`.

    Parameters, results and errors are those of `cross_entropy`, with log-probabilities instead of logits.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nbloss.interop.jax import nll_loss
    >>> nll_loss(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([0])).round(4)
    Array(1.3863, dtype=float32)
    """
    more = {"weight": weight, "sample_weight": sample_weight, "divisor": divisor}
    return _loss("nll_loss", input, target, more, ignore_index=ignore_index, reduction=reduction, empty=empty)


def cross_entropy(
    input: "ArrayLike",
    target: "ArrayLike",
    weight: "ArrayLike | None" = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: "ArrayLike | None" = None,
    divisor: "ArrayLike | None" = None,
    empty: str = "nan",
) -> jax.Array:
    """Cross entropy between logits and targets: l_i = -w[y_i] * log softmax(x)[i, y_i], as `nbloss.functional.cross_entropy`.

    Parameters
    ----------
    input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Logits of dtype float16, bfloat16, float32 or float64. The classes are the second axis, or the only one.
    target : array_like
        Class numbers, of any integer dtype or bool and of input's shape without the class axis, or probabilities of input's shape.
    weight : array_like, shape (C,), optional
        Class weights.
    sample_weight : array_like, shape of the losses, optional
        What multiplies the loss of each row.
    divisor : float or scalar array, optional
        What a mean is divided by, instead of the sum of the weights of the rows that count.
    ignore_index, reduction, label_smoothing, lse_square_scale, softcap, logit_scale, empty
        As those of `nbloss.functional.cross_entropy`. They are Python values, which a traced function holds as constants.

    Returns
    -------
    jax.Array
        A scalar for "mean" and "sum", and the losses of all rows for "none"; float32 for logits of half precision, else input's dtype.

    Raises
    ------
    TypeError, ValueError
        As `nbloss.functional.cross_entropy`, when the call is traced. A target out of range is known when it is computed: the exception
        of whoever waits for the result, a ``jax.errors.JaxRuntimeError``, names the target, its index and the number of classes.

    See Also
    --------
    nbloss.functional.cross_entropy : the function of NumPy arrays, with all formulas and notes on accuracy.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from nbloss.interop.jax import cross_entropy
    >>> jax.grad(cross_entropy)(jnp.zeros((1, 2)), jnp.array([0]))
    Array([[-0.5,  0.5]], dtype=float32)
    """
    more = {"weight": weight, "sample_weight": sample_weight, "divisor": divisor}
    return _loss(
        "cross_entropy", input, target, more, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing,
        lse_square_scale=lse_square_scale, softcap=softcap, logit_scale=logit_scale, empty=empty,
    )  # fmt: skip


def focal_loss(
    input: "ArrayLike",
    target: "ArrayLike",
    weight: "ArrayLike | None" = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: "ArrayLike | None" = None,
    divisor: "ArrayLike | None" = None,
    empty: str = "nan",
) -> jax.Array:
    """Focal loss between logits and class numbers: l_i = -w[y_i] * (1 - p)^gamma * log p, as `nbloss.functional.focal_loss`.

    p is softmax(x)[i, y_i]: Lin et al., "Focal Loss for Dense Object Detection" (2017), https://arxiv.org/abs/1708.02002. Parameters,
    results and errors are those of `cross_entropy`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nbloss.interop.jax import focal_loss
    >>> focal_loss(jnp.zeros((2, 4)), jnp.array([1, 3])).round(4)
    Array(0.7798, dtype=float32)
    """
    more = {"weight": weight, "sample_weight": sample_weight, "divisor": divisor}
    return _loss("focal_loss", input, target, more, gamma=gamma, ignore_index=ignore_index, reduction=reduction, empty=empty)


def distillation_loss(
    input: "ArrayLike",
    teacher: "ArrayLike",
    *,
    temperature: float = 1.0,
    sample_weight: "ArrayLike | None" = None,
    divisor: "ArrayLike | None" = None,
    reduction: str | None = "mean",
) -> jax.Array:
    """T^2 * KL(softmax(teacher / T) || softmax(input / T)) of each row, as `nbloss.functional.distillation_loss`.

    ``teacher`` has input's shape, and may be differentiated, too. Other parameters, results and errors are those of `cross_entropy`.
    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), https://arxiv.org/abs/1503.02531.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nbloss.interop.jax import distillation_loss
    >>> distillation_loss(jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.25, 0.75]]))).round(4)
    Array(0.1308, dtype=float32)
    """
    more = {"sample_weight": sample_weight, "divisor": divisor}
    return _loss("distillation_loss", input, teacher, more, temperature=temperature, reduction=reduction)


def _along_axis(operation, input, dim):
    x = jnp.asarray(input)
    float_array(CPU, "input", _stand_in(x.shape, x.dtype))
    rows = x if x.ndim else x[None]  # of a scalar, too, the axis has to be its own
    dim = normalize_axis_index(checked_dim(dim), rows.ndim) - rows.ndim  # from the end: jax.vmap adds axes in front
    return call(Spec(operation, 0, ("input",), (rows.ndim,), (("dim", dim),)), rows)[0].reshape(x.shape)


def _loss(loss, input, second, more, **options):
    for name, value in options.items():
        options[name] = CHECKS[name](value)
    if more["divisor"] is not None and not isinstance(more["divisor"], jax.Array):
        options["divisor"] = checked_divisor(more.pop("divisor"), options["reduction"])
    given = {"input": input, "target": second} | {name: value for name, value in more.items() if value is not None}
    arrays = {name: jnp.asarray(value) for name, value in given.items()}
    options = tuple(options.items())
    _check(loss, options, tuple((name, array.shape, array.dtype) for name, array in arrays.items()))
    spec = Spec(loss, 0, tuple(arrays), tuple(array.ndim for array in arrays.values()), options)
    return call(spec, *arrays.values())[0]


def _stand_in(shape, dtype):
    """An array of zeros without memory, in place of one whose numbers are not known yet."""
    return np.broadcast_to(np.zeros((), dtype), shape)


@lru_cache(maxsize=1024)
def _check(loss, options, types):
    """Raise the errors of `nbloss.functional` for all that is known when a call is traced."""
    options, arrays = dict(options), {name: _stand_in(shape, dtype) for name, shape, dtype in types}
    x, y, reduction, sample_weight = arrays["input"], arrays["target"], options["reduction"], arrays.get("sample_weight")
    divisor = 1.0 if "divisor" in arrays else options.get("divisor")
    if loss == "distillation_loss":
        Distillation(CPU, x, y, options["temperature"], reduction, sample_weight, divisor)
        return
    of_row = {"cross_entropy": ("lse_square_scale", "softcap", "logit_scale"), "focal_loss": ("gamma",), "nll_loss": ()}[loss]
    problem = Problem(
        CPU, x, y, arrays.get("weight"), options["ignore_index"], reduction, sample_weight, divisor, options["empty"],
        options.get("label_smoothing", 0.0), checked_row_options(loss.partition("_loss")[0], [options[name] for name in of_row]),
    )  # fmt: skip
    if loss == "focal_loss":
        problem.refuse_probabilities()
