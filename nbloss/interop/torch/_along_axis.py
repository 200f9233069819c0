"""log_softmax and softmax as functions of torch's autograd: any order of derivatives, forward and reverse mode, and vmap."""

import numpy as np
import torch

import nbloss.functional as F
from nbloss.interop.torch._calls import apply, is_legacy_batchedtensor, transforms_are_active
from nbloss.interop.torch._formula import real
from nbloss.interop.torch._tensors import array, tensor


class AlongAxis(torch.autograd.Function):
    """log_softmax or softmax along an axis."""

    @staticmethod
    def forward(input, dim, name):
        return tensor(getattr(F, name)(array(input), dim))

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.dim, ctx.name = inputs
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx, g):
        (output,) = ctx.saved_tensors
        if not (torch.is_grad_enabled() or transforms_are_active() or is_legacy_batchedtensor(g)):
            g = g.contiguous() if output.is_contiguous() else g  # the gradient of a sum repeats one number
            return tensor(getattr(F, f"{ctx.name}_backward")(array(g), array(output), ctx.dim)), None, None
        y = output.to(real(output))
        wide = g.to(y.dtype)
        if ctx.name == "softmax":
            return _times_softmax(wide, y, ctx.dim).to(g.dtype), None, None
        return (wide - y.exp() * wide.sum(ctx.dim, keepdim=True)).to(g.dtype), None, None

    @staticmethod
    def jvp(ctx, of_input, *_):
        (output,) = ctx.saved_tensors
        y = output.to(real(output))
        wide = of_input.to(y.dtype)
        if ctx.name == "softmax":
            return _times_softmax(wide, y, ctx.dim).to(of_input.dtype)
        return (wide - (y.exp() * wide).sum(ctx.dim, keepdim=True)).to(of_input.dtype)

    @staticmethod
    def vmap(info, in_dims, input, dim, name):
        input = input.movedim(in_dims[0], 0)
        axes = input.ndim - 1
        if not -max(axes, 1) <= dim < max(axes, 1):
            raise np.exceptions.AxisError(dim, axes)
        if not axes:
            return apply(AlongAxis, input.unsqueeze(1), 1, name).squeeze(1), 0
        return apply(AlongAxis, input, dim if dim < 0 else dim + 1, name), 0


class UntransformedAlongAxis(torch.autograd.Function):
    """`AlongAxis` without torch.func, as `UntransformedLoss`."""

    @staticmethod
    def forward(ctx, input, dim, name):
        ctx.dim, ctx.name = dim, name
        output = AlongAxis.forward(input, dim, name)
        ctx.save_for_backward(output)
        return output

    backward = AlongAxis.backward


untransformed_along_axis = super(torch.autograd.Function, UntransformedAlongAxis).apply


def _times_softmax(g, y, dim):
    """The Jacobian of softmax, which is symmetric, times g."""
    return y * (g - (g * y).sum(dim, keepdim=True))
