"""The same functions as operators that torch.compile puts into its graphs. ``_autograd`` cannot be traced: NumPy computes there."""

import torch

import nbloss.functional as F
from nbloss.interop.torch import _formula
from nbloss.interop.torch._calls import Call, forward_mode_is_active, run, transforms_are_active, upstream
from nbloss.interop.torch._tensors import array, tensor

_OF_LOSS = (
    "Tensor input, Tensor target, Tensor? weight, Tensor? rows, str name, *, str reduction, float? divisor=None, int? ignore_index=None, "
    "str? empty=None, float? label_smoothing=None, float? lse_square_scale=None, float? softcap=None, float? logit_scale=None, "
    "float? gamma=None, float? temperature=None"
)


def _call(name, options):
    """A call with the options that are given: a default of None stands for an option that the loss may not have."""
    return Call(name, {key: value for key, value in options.items() if value is not None})


def must_be_traced():
    """Whether torch.func or forward-mode differentiation is at work in what is compiled: they would take an operator for a constant."""
    return transforms_are_active() or forward_mode_is_active()


# A result of an operator has to have the strides that its fake predicts: C order.


@torch.library.custom_op("nbloss::loss", mutates_args=(), schema=f"({_OF_LOSS}) -> Tensor")
def loss(input, target, weight, rows, name, **options):
    return tensor(run(_call(name, options), "", (), input, target, weight, rows)).contiguous()


@torch.library.custom_op("nbloss::loss_backward", mutates_args=(), schema=f"(Tensor g, {_OF_LOSS}) -> Tensor")
def loss_backward(g, input, target, weight, rows, name, **options):
    return tensor(run(_call(name, options), "_backward", (upstream(g),), input, target, weight, rows)).contiguous()


@torch.library.custom_op("nbloss::along_axis", mutates_args=(), schema="(Tensor input, int dim, str name) -> Tensor")
def along_axis(input, dim, name):
    return tensor(getattr(F, name)(array(input), dim)).contiguous()


@torch.library.custom_op("nbloss::along_axis_backward", mutates_args=(), schema="(Tensor g, Tensor output, int dim, str name) -> Tensor")
def along_axis_backward(g, output, dim, name):
    return tensor(getattr(F, f"{name}_backward")(array(g), array(output), dim)).contiguous()


@loss.register_fake
def _(input, target, weight, rows, name, *, reduction, **options):
    axis = _formula.class_axis(input)
    shape = (*input.shape[:axis], *input.shape[axis + 1 :]) if reduction == "none" else ()
    return input.new_empty(shape, dtype=_formula.real(input))


@loss_backward.register_fake
def _(g, input, target, weight, rows, name, **options):
    return input.new_empty(input.shape)


@along_axis.register_fake
def _(input, dim, name):
    return input.new_empty(input.shape)


@along_axis_backward.register_fake
def _(g, output, dim, name):
    return output.new_empty(output.shape)


def _save_loss(ctx, inputs, keyword_only_inputs, output):
    *tensors, ctx.name = inputs
    ctx.options = keyword_only_inputs
    ctx.save_for_backward(*tensors)


def _differentiate_loss(ctx, g):
    return loss_backward(g, *ctx.saved_tensors, ctx.name, **ctx.options), None, None, None, None


def _save_output(ctx, inputs, output):
    _, ctx.dim, ctx.name = inputs
    ctx.save_for_backward(output)


def _differentiate_along_axis(ctx, g):
    return along_axis_backward(g, *ctx.saved_tensors, ctx.dim, ctx.name), None, None


loss.register_autograd(_differentiate_loss, setup_context=_save_loss)
along_axis.register_autograd(_differentiate_along_axis, setup_context=_save_output)
