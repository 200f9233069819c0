"""The functions with the names of ``torch.nn.functional``."""

from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor

from nbloss._docstrings import documented
from nbloss._problem import overlaps_itself
from nbloss.interop.torch import _compiled, _formula
from nbloss.interop.torch._along_axis import AlongAxis, untransformed_along_axis
from nbloss.interop.torch._autograd import Loss, default_cross_entropy, untransformed_loss
from nbloss.interop.torch._calls import Call, apply, forward_mode_is_active, nests_forward_mode, run, transforms_are_active
from nbloss.interop.torch._tensors import array

# Below this many log-probabilities torch's own nll_loss is as right, and faster: it has nothing to compute, and each step of Python counts.
# Forward and backward on one thread: 28 against 62 us for 32 x 10, 339 against 392 for 1024 x 1000, 1129 against 912 for 4096 x 1000
# (2026-11-30, a busy machine). cross_entropy stays with nbloss at every size: torch's loses the digits of confident rows.
_NLL_ELEMENTS_OF_TORCH = 2**21

_DEFAULTS = (
    None,
    None,
    None,
    -100,
    None,
    "mean",
    0.0,
    0.0,
    None,
    1.0,
    None,
    "nan",
    False,
)  # of `cross_entropy`, for a comparison in one step

_ALONG_AXIS = {
    "input": """\
input : torch.Tensor
    Logits of dtype float16, bfloat16, float32 or float64, of any shape and strides. With ``dtype``, of any real dtype.""",
    "dtype": """\
dtype : torch.dtype, optional
    Convert the input to this dtype first; the result has it too.""",
}
_ENTRIES = {
    "input": """\
input : torch.Tensor, shape (C,), (N, C) or (N, C, d1, ..., dK)
    Logits (of `nll_loss`: log-probabilities) of dtype float16, bfloat16, float32 or float64, with any strides.""",
    "target": """\
target : torch.Tensor
    Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities: floats of input's shape, which
    may require grad.""",
    "teacher": """\
teacher : torch.Tensor, shape of input
    Logits of the teacher. It may not require grad.""",
    "weight": """\
weight : torch.Tensor, shape (C,), optional
    Class weights. With weights that require grad, torch's operations compute the loss.""",
    "sample_weight": """\
sample_weight : torch.Tensor, shape of the loss, optional
    A weight for each row: it multiplies the row's loss, its gradient, and its part of what "mean" divides by. A row with weight 0 counts
    for nothing, whatever its logits are.""",
    "inplace_backward": """\
inplace_backward : bool, default False
    Let the backward write the gradient over the logits: it saves the memory and the page faults of an array of their size. The logits
    have their values until then. A second backward and second derivatives are a RuntimeError. It has no effect under torch.func and
    torch.compile.""",
}
_TEXTS = {
    "returns_loss": """\
torch.Tensor
    The loss: a number ("mean", "sum"), or one per row ("none"). Its dtype is input's; float32 for float16 and bfloat16.""",
    "raises": """\
Raises
------
IndexError
    If a target is neither in [0, C) nor ``ignore_index``. The message has its value, its index and C.
TypeError
    If an argument is no dense tensor, the logits are not floating-point, or class numbers are floating-point.
ValueError
    If shapes or options do not fit, or ``inplace_backward`` would overwrite a leaf or overlapping memory.""",
}
_ENTRIES |= _TEXTS


@documented(**_ALONG_AXIS)
def log_softmax(input: Tensor, dim: int = -1, *, dtype: torch.dtype | None = None) -> Tensor:
    """Logarithm of the softmax along an axis: y_j = x_j - log(sum_c exp(x_c)).

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    torch.Tensor, shape of input

    Raises
    ------
    TypeError
        If the input is no dense tensor of floats, and no ``dtype`` is given.
    IndexError
        If there is no such axis.

    Notes
    -----
    Meaning: ``torch.nn.functional.log_softmax``; accuracy: `nbloss.functional.log_softmax`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.log_softmax(torch.zeros(2))
    tensor([-0.6931, -0.6931])
    """
    return _along_axis("log_softmax", input, dim, dtype)


@documented(**_ALONG_AXIS)
def softmax(input: Tensor, dim: int = -1, *, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax along an axis: p_j = exp(x_j) / sum_c exp(x_c).

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    torch.Tensor, shape of input

    Raises
    ------
    TypeError, IndexError
        As `log_softmax`.

    Notes
    -----
    Meaning: ``torch.nn.functional.softmax``; accuracy: `nbloss.functional.softmax`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.softmax(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """
    return _along_axis("softmax", input, dim, dtype)


def _along_axis(name, input, dim, dtype):
    if dtype is not None:
        input = input.to(dtype)
    elif input.is_cuda and input.dtype.itemsize == 2 and torch.is_autocast_enabled("cuda"):
        input = input.float()  # torch's rule for softmaxes on a GPU; it has none on the CPU
    if torch.compiler.is_compiling():
        return getattr(torch, name)(input, dim) if _compiled.must_be_traced() else _compiled.along_axis(input, dim, name)
    if not transforms_are_active() and not forward_mode_is_active():
        return untransformed_along_axis(input, dim, name)
    return getattr(torch, name)(input, dim) if nests_forward_mode() else apply(AlongAxis, input, dim, name)


@documented(**_ENTRIES)
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str | None = "mean",
    *,
    sample_weight: Tensor | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    inplace_backward: bool = False,
) -> Tensor:
    """Negative log-likelihood of log-probabilities: l_i = -w[y_i] * x[i, y_i], and 0 where y_i == ignore_index.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Notes
    -----
    Meaning: ``torch.nn.functional.nll_loss``. Options, accuracy and errors are those of
    `nbloss.functional.nll_loss`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.nll_loss(torch.log(torch.tensor([[0.25, 0.75]])), torch.tensor([1]))
    tensor(0.2877)
    """
    if (
        weight is None and sample_weight is None and divisor is None and empty == "nan" and size_average is None and reduce is None
        and type(input) is type(target) is Tensor and input.dtype in (torch.float32, torch.float64) and target.dtype is torch.int64
        and not torch.compiler.is_compiling() and input.ndim == 2 and target.shape == input.shape[:1] and not inplace_backward
        and 0 < input.numel() < _NLL_ELEMENTS_OF_TORCH and input.is_cpu
    ):  # fmt: skip
        with suppress(IndexError, ValueError, TypeError):  # nbloss's errors say more
            return torch.nn.functional.nll_loss(input, target, None, None, ignore_index, None, "none" if reduction is None else reduction)
    values = inplace_backward, size_average, reduce, reduction, divisor, ignore_index, empty
    return _loss("nll_loss", input, target, weight, sample_weight, values)


@documented(**_ENTRIES)
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    *,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: Tensor | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    inplace_backward: bool = False,
) -> Tensor:
    """Cross entropy between logits and targets: l_i = w[y_i] * (log sum_c exp(x_ic) - x[i, y_i]), and 0 where ignored.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Notes
    -----
    Meaning: ``torch.nn.functional.cross_entropy``. Options, accuracy and errors are those of
    `nbloss.functional.cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.cross_entropy(torch.zeros(2, 4), torch.tensor([1, 3]))
    tensor(1.3863)
    """
    options = (
        weight, sample_weight, size_average, ignore_index, reduce, reduction, label_smoothing, lse_square_scale, softcap, logit_scale,
        divisor, empty, inplace_backward,
    )  # fmt: skip
    if (
        options == _DEFAULTS and type(input) is type(target) is Tensor and input.dtype is torch.float32 and target.dtype is torch.int64
        and input.is_cpu and input.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        and not transforms_are_active() and not forward_mode_is_active()
    ):  # fmt: skip
        return default_cross_entropy(input, target)
    values = (
        inplace_backward, size_average, reduce, reduction, divisor, ignore_index, empty, label_smoothing, lse_square_scale, softcap,
        logit_scale,
    )  # fmt: skip
    return _loss("cross_entropy", input, target, weight, sample_weight, values)


@documented(**_ENTRIES)
def focal_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    sample_weight: Tensor | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    inplace_backward: bool = False,
) -> Tensor:
    """Focal loss: l_i = w[y_i] * (1 - p[i, y_i])^gamma * (-log p[i, y_i]) with p = softmax(x), and 0 where ignored.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Notes
    -----
    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), https://arxiv.org/abs/1708.02002. Options, accuracy and errors are
    those of `nbloss.functional.focal_loss`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.focal_loss(torch.zeros(1, 2), torch.tensor([1]), gamma=1.0)
    tensor(0.3466)
    """
    values = inplace_backward, None, None, reduction, divisor, ignore_index, empty, gamma
    return _loss("focal_loss", input, target, weight, sample_weight, values)


@documented(**_ENTRIES)
def distillation_loss(
    input: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    divisor: float | None = None,
    reduction: str | None = "mean",
    inplace_backward: bool = False,
) -> Tensor:
    """Divergence of a student from a teacher: l_i = T^2 * sum_c q_ic * log(q_ic / p_ic), q and p the softmaxes of t / T and x / T.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Notes
    -----
    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015),
    https://arxiv.org/abs/1503.02531. Options, accuracy and errors are those of
    `nbloss.functional.distillation_loss`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """
    if isinstance(teacher, torch.Tensor) and teacher.requires_grad:
        raise ValueError("teacher should not require grad, because the loss has no gradient with respect to it: use teacher.detach()")
    values = inplace_backward, None, None, reduction, divisor, temperature
    return _loss("distillation_loss", input, teacher, None, sample_weight, values)


_OPTIONS = {  # loss -> the names of its options, in the order in which the functions above give their values
    "nll_loss": ("reduction", "divisor", "ignore_index", "empty"),
    "focal_loss": ("reduction", "divisor", "ignore_index", "empty", "gamma"),
    "distillation_loss": ("reduction", "divisor", "temperature"),
}
_OPTIONS["cross_entropy"] = (*_OPTIONS["nll_loss"], "label_smoothing", "lse_square_scale", "softcap", "logit_scale")


def _options(name, size_average, reduce, reduction, *values):
    """The keyword arguments of a function of ``nbloss.functional``; torch's deprecated ones say what the reduction is."""
    if size_average is not None or reduce is not None:
        reduction = torch.nn._reduction.legacy_get_string(size_average, reduce)
    return dict(zip(_OPTIONS[name], ("none" if reduction is None else reduction, *values), strict=True))


def _new_call(name, inplace, *values):
    return Call(name, _options(name, *values), inplace)


_call = lru_cache(256, typed=True)(_new_call)


def _loss(name, input, target, weight, rows, values):
    if torch.compiler.is_compiling():
        options = _options(name, *values[1:])
        if _compiled.must_be_traced() or _other_than_input_require_grad(target, weight, rows):
            return _formula.value(Call(name, options), input, target, weight, rows)
        return _compiled.loss(input, target, weight, rows, name, **options)
    try:
        call = _call(name, *values)
    except TypeError:  # an option that is not hashable
        call = _new_call(name, *values)
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        raise TypeError(f"input and target should be tensors; got {type(input).__name__} and {type(target).__name__}")
    traced, differentiable = transforms_are_active(), torch.is_grad_enabled()
    if traced and nests_forward_mode():
        return _formula.value(call, input, target, weight, rows)
    if _other_than_input_require_grad(target, weight, rows):
        if not traced:
            run(call, "", (), input, target, weight, rows)  # for its errors
        return _formula.value(call, input, target, weight, rows)
    if call.inplace:
        if traced:
            call = Call(name, call.options)
        elif differentiable and input.requires_grad:
            _refuse_unwritable(input)
    if traced or forward_mode_is_active():
        return apply(Loss, input, target, weight, rows, call)
    return untransformed_loss(input, target, weight, rows, call)


def _other_than_input_require_grad(target, weight, rows):
    return torch.is_grad_enabled() and (
        target.requires_grad or (weight is not None and weight.requires_grad) or (rows is not None and rows.requires_grad)
    )


def _refuse_unwritable(input):
    """Raise unless the gradient may be written over the logits."""
    if input.is_leaf:
        raise ValueError("inplace_backward=True should come with logits that were computed: a leaf that requires grad keeps its values")
    seen = array(input)
    if not input.is_cuda and overlaps_itself(seen):
        raise ValueError("inplace_backward=True should come with logits of which each has a place of its own in memory: use .contiguous()")
