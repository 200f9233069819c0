"""The losses as functions of torch's autograd: any order of derivatives, forward and reverse mode, and vmap."""

import math

import numpy as np
import torch

import nbloss.functional as F
from nbloss.interop.torch import _formula
from nbloss.interop.torch._calls import (
    NEUTRAL,
    Call,
    apply,
    forward_mode_is_active,
    is_legacy_batchedtensor,
    run,
    transforms_are_active,
    upstream,
)
from nbloss.interop.torch._tensors import array, gradient_buffer, tensor

OVERWRITTEN = object()  # in place of a gradient that is where the logits were


class Loss(torch.autograd.Function):
    """A loss. With torch.func and forward-mode differentiation it is used as it is, otherwise as `UntransformedLoss`."""

    @staticmethod
    def forward(input, target, weight, rows, call):
        return tensor(run(call, "", (), input, target, weight, rows))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.call = inputs
        ctx.kept = None
        _save(ctx, tensors)

    @staticmethod
    def backward(ctx, g):
        if g is None:
            return None, None, None, None, None
        return _differentiated(ctx, g), None, None, None, None

    @staticmethod
    def jvp(ctx, of_input, of_target, of_weight, of_rows, *_):
        _refuse_tangents(of_target, of_weight, of_rows)
        input, *others = ctx.saved_tensors
        return _along(ctx.call, of_input, _ones(ctx.call, input), input, *others)

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _batched(Loss, info, in_dims, arguments, 0)


class UntransformedLoss(torch.autograd.Function):
    """A loss whose forward leaves the gradient on ``ctx``: saved tensors would be copied into ``.grad``.

    torch.func does not take a forward with ``ctx``, which needs fewer steps: it counts for small losses.
    """

    @staticmethod
    def forward(ctx, input, target, weight, rows, call):
        ctx.save_for_backward(input, target, weight, rows)
        ctx.call, ctx.kept = call, None
        if call.one_pass and ctx.needs_input_grad[0]:
            buffer = {} if input.is_cuda else gradient_buffer(array(input))
            loss, gradient = run(call, "_value_and_grad", (), input, target, weight, rows, **buffer)
            ctx.kept = tensor(gradient)
            return tensor(loss)
        return tensor(run(call, "", (), input, target, weight, rows))

    backward = Loss.backward


class DefaultCrossEntropy(torch.autograd.Function):
    """The cross entropy of float32 logits and int64 class numbers without options, in the fewest steps: small losses are steps alone."""

    @staticmethod
    def forward(ctx, input, target):
        ctx.save_for_backward(input, target)
        try:
            arrays = input.detach().numpy(), target.numpy()
        except (RuntimeError, TypeError):  # what NumPy does not read as it is
            arrays = array(input), array(target)
        loss, gradient = F.cross_entropy_value_and_grad(*arrays, **gradient_buffer(arrays[0]))
        ctx.kept = torch.from_numpy(gradient)
        return torch.from_numpy(np.asarray(loss))

    @staticmethod
    def backward(ctx, g):
        kept, ctx.kept = ctx.kept, None
        try:  # contextlib.suppress takes longer
            if kept is not None and not torch.is_grad_enabled() and g.item() == 1:
                return kept, None
        except RuntimeError:  # a batch of upstream gradients is no number
            pass
        ctx.call = DEFAULT
        return _differentiated(ctx, g), None


DEFAULT = Call("cross_entropy", {key: NEUTRAL[key] for key in NEUTRAL if key not in ("gamma", "temperature")})
default_cross_entropy = super(torch.autograd.Function, DefaultCrossEntropy).apply
untransformed_loss = super(torch.autograd.Function, UntransformedLoss).apply  # `Function.apply` only looks for torch.func


class Gradient(torch.autograd.Function):
    """The gradient of g times a loss with respect to the logits."""

    @staticmethod
    def forward(g, input, target, weight, rows, call):
        return tensor(run(call, "_backward", (upstream(g),), input, target, weight, rows))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.call = inputs
        _save(ctx, tensors)

    @staticmethod
    def backward(ctx, v):
        if v is None:
            return (None,) * 6
        g, *tensors = ctx.saved_tensors
        of_g = _along(ctx.call, v, g, *tensors) if ctx.needs_input_grad[0] else None
        of_input = _second(ctx.call, v, g, *tensors) if ctx.needs_input_grad[1] else None
        return of_g, of_input, None, None, None, None

    @staticmethod
    def jvp(ctx, of_g, of_input, of_target, of_weight, of_rows, _):
        _refuse_tangents(of_target, of_weight, of_rows)
        g, *tensors = ctx.saved_tensors
        terms = [] if of_g is None else [apply(Gradient, of_g, *tensors, ctx.call)]
        terms += [] if of_input is None else [_second(ctx.call, of_input, g, *tensors)]
        return sum(terms)

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _batched(Gradient, info, in_dims, arguments, 1)


class Hessian(torch.autograd.Function):
    """The Hessian of g times a cross entropy, times v."""

    @staticmethod
    def forward(v, g, input, target, weight, rows, call):
        return tensor(run(call, "_hvp", (array(v),), input, target, weight, rows, grad_output=upstream(g)))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.call = inputs
        _save(ctx, tensors)

    @staticmethod
    def backward(ctx, u):
        if u is None:
            return (None,) * 7
        v, g, input, *others = ctx.saved_tensors
        _, gradient = torch.func.vjp(lambda v, g, x: _formula.second(ctx.call, v, g, x, *others), v, g, input)
        return *gradient(u), None, None, None, None

    @staticmethod
    def jvp(ctx, of_v, of_g, of_input, of_target, of_weight, of_rows, _):
        _refuse_tangents(of_target, of_weight, of_rows)
        v, g, input, *others = ctx.saved_tensors
        tangents = [torch.zeros_like(x) if t is None else t for t, x in ((of_v, v), (of_g, g), (of_input, input))]
        return torch.func.jvp(lambda v, g, x: _formula.second(ctx.call, v, g, x, *others), (v, g, input), tuple(tangents))[1]

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _batched(Hessian, info, in_dims, arguments, 2)


def _differentiated(ctx, g):
    """The gradient of g times a loss with respect to the logits."""
    call, kept = ctx.call, ctx.kept
    ctx.kept = None
    plain = not (torch.is_grad_enabled() or transforms_are_active() or is_legacy_batchedtensor(g))
    if call.inplace and (not plain or kept is OVERWRITTEN):
        raise RuntimeError(
            "the first backward has overwritten the logits: a second one needs inplace_backward=False" if plain
            else "the backward will overwrite the logits: a second derivative needs inplace_backward=False"
        )  # fmt: skip
    if plain and kept is not None:
        if g.is_cuda:  # reading g would wait for the GPU
            if kept.dtype.itemsize > 2:
                return kept.mul_(g)
        elif g.item() == 1:
            return kept
    tensors = (*ctx.saved_tensors, None, None)[:4]
    if is_legacy_batchedtensor(g):  # of torch.autograd.grad(..., is_grads_batched=True)
        unit = apply(Gradient, _ones(call, tensors[0]), *tensors, call)
        return (g if g.ndim == 0 else g.unsqueeze(_formula.class_axis(unit))) * unit
    if not plain:
        return apply(Gradient, g, *tensors, call)
    gradient = tensors[0].detach() if call.inplace else kept  # memory to write to that causes no page faults
    if gradient is None:
        return tensor(run(call, "_backward", (upstream(g),), *tensors))
    run(call, "_backward", (upstream(g),), *tensors, out=array(gradient))
    if call.inplace:
        torch.autograd.graph.increment_version(gradient)
        ctx.kept = OVERWRITTEN
    return gradient


def _save(ctx, tensors):
    """Save the arguments for the backward, and for a forward-mode derivative if one is asked for."""
    ctx.save_for_backward(*tensors)
    if forward_mode_is_active():
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)


def _refuse_tangents(*tangents):
    if any(tangent is not None for tangent in tangents):
        raise NotImplementedError("forward-mode derivatives are those with respect to input: target, weight and sample_weight have none")


def _ones(call, input):
    """An upstream gradient of 1."""
    shape = () if call.options["reduction"] != "none" else input.select(_formula.class_axis(input), 0).shape
    return torch.ones(shape, dtype=_formula.real(input), device=input.device)


def _along(call, v, g, input, *others):
    """The derivative of a loss in the direction v of its logits, of g's shape."""
    unit = apply(Gradient, torch.ones_like(g), input.to(g.dtype), *others, call)
    terms = v.to(g.dtype) * unit
    return terms.sum() if call.options["reduction"] != "none" else terms.sum(_formula.class_axis(input))


def _second(call, v, g, input, *others):
    """The derivative of the gradient of g times a loss in the direction v of its logits."""
    if call.name == "nll_loss":
        return torch.zeros_like(input)
    if call.name == "cross_entropy":
        return apply(Hessian, v, g, input, *others, call)
    return _formula.second(call, v, g, input, *others)


def _batched(function, info, in_dims, arguments, at):
    """The result of a function for a batch of its arguments: the batch becomes rows. ``at`` is the position of the logits.

    A batch of class weights is taken one by one.
    """
    *tensors, call = arguments[: at + 5]
    rest = arguments[at + 5 :]
    count = info.batch_size
    if in_dims[at + 2] is not None:
        parts = [
            apply(function, *(t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims, strict=False)), call, *rest)
            for i in range(count)
        ]  # fmt: skip
        return torch.stack(parts), 0

    def batch(position):
        """A tensor with the batch first."""
        given, dim = tensors[position], in_dims[position]
        return given if given is None else given.expand(count, *given.shape) if dim is None else given.movedim(dim, 0)

    input, target, weight, rows = batch(at), batch(at + 1), tensors[at + 2], batch(at + 3)
    shape, dtype = input.shape[1:], _formula.real(input)
    losses_shape = shape[1:] if len(shape) == 1 else shape[:1] + shape[2:]
    reduction = call.options["reduction"]

    def as_rows(batched):
        return batched if batched is None or len(shape) == 1 else batched.flatten(0, 1)

    over = None
    if reduction == "mean":
        over = _formula.divisor(call, math.prod(losses_shape), dtype, target, weight, rows, 1)
    before = []
    if at == 2:
        before.append(as_rows(batch(0)))
    if at:
        g = batch(at - 1)
        if reduction != "none":
            g = g if over is None else _formula.mean(call, g, over)
            g = g.reshape(count, *(1,) * len(losses_shape)).expand(count, *losses_shape)
        before.append(as_rows(g))
    result = apply(function, *before, as_rows(input), as_rows(target), weight, as_rows(rows), call.of_rows(), *rest)
    if at:
        return result.reshape(count, *shape), 0
    result = result.reshape(count, *losses_shape)
    if reduction == "none":
        return result, 0
    total = result.reshape(count, -1).sum(1)
    return total if over is None else _formula.mean(call, total, over), 0
