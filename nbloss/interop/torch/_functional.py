"""The functions with the names of ``torch.nn.functional``."""

from functools import lru_cache

import torch
from torch import Tensor

from nbloss._problem import overlaps_itself
from nbloss.interop.torch import _compiled, _formula
from nbloss.interop.torch._autograd import AlongAxis, Call, Loss, apply, nests_forward_mode, run, transforms_are_active
from nbloss.interop.torch._tensors import array


def log_softmax(input, dim=-1, *, dtype=None):
    return _along_axis("log_softmax", input, dim, dtype)


def softmax(input, dim=-1, *, dtype=None):
    return _along_axis("softmax", input, dim, dtype)


def _along_axis(name, input, dim, dtype):
    if dtype is not None:
        input = input.to(dtype)
    elif input.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(input.device.type):
        input = input.float()  # autocast's rule for softmaxes
    if torch.compiler.is_compiling():
        return getattr(torch, name)(input, dim) if _compiled.must_be_traced() else _compiled.along_axis(input, dim, name)
    if transforms_are_active() and nests_forward_mode():
        return getattr(torch, name)(input, dim)
    return apply(AlongAxis, input, dim, name)


def nll_loss(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", *, sample_weight=None, divisor=None,
    empty="nan", inplace_backward=False,
):  # fmt: skip
    values = inplace_backward, size_average, reduce, reduction, divisor, ignore_index, empty
    return _loss("nll_loss", input, target, weight, sample_weight, values)


def cross_entropy(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0, *,
    lse_square_scale=0.0, softcap=None, logit_scale=1.0, sample_weight=None, divisor=None, empty="nan", inplace_backward=False,
):  # fmt: skip
    values = (
        inplace_backward, size_average, reduce, reduction, divisor, ignore_index, empty, label_smoothing, lse_square_scale, softcap,
        logit_scale,
    )  # fmt: skip
    return _loss("cross_entropy", input, target, weight, sample_weight, values)


def focal_loss(
    input, target, weight=None, *, gamma=2.0, ignore_index=-100, reduction="mean", sample_weight=None, divisor=None, empty="nan",
    inplace_backward=False,
):  # fmt: skip
    values = inplace_backward, None, None, reduction, divisor, ignore_index, empty, gamma
    return _loss("focal_loss", input, target, weight, sample_weight, values)


def distillation_loss(input, teacher, *, temperature=1.0, sample_weight=None, divisor=None, reduction="mean", inplace_backward=False):
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
        if _compiled.must_be_traced() or (target.requires_grad and torch.is_grad_enabled()):
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
    if differentiable and (
        target.requires_grad or (weight is not None and weight.requires_grad) or (rows is not None and rows.requires_grad)
    ):
        if not traced:
            run(call, "", (), input, target, weight, rows)  # for its errors
        return _formula.value(call, input, target, weight, rows)
    kept = None
    if not traced and differentiable and input.requires_grad:
        if call.one_pass:
            kept = []
        elif call.inplace:
            _refuse_unwritable(input)
    elif call.inplace:
        call = Call(name, call.options)
    return apply(Loss, input, target, weight, rows, call, kept)


def _refuse_unwritable(input):
    """Raise unless the gradient may be written over the logits."""
    if input.is_leaf:
        raise ValueError("inplace_backward=True should come with logits that were computed: a leaf that requires grad keeps its values")
    seen = array(input)
    if not input.is_cuda and overlaps_itself(seen):
        raise ValueError("inplace_backward=True should come with logits of which each has a place of its own in memory: use .contiguous()")
