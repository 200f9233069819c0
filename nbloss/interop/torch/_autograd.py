"""The losses and softmaxes as functions of torch's autograd: any order of derivatives, forward and reverse mode, and vmap."""

import numpy as np
import torch
from torch.autograd import forward_ad

import nbloss.functional as F
from nbloss.interop.torch import _formula
from nbloss.interop.torch._tensors import array, tensor

# Whether torch.func is at work, so that tensors may stand for batches or be traced.
transforms_are_active = torch._C._are_functorch_transforms_active
is_legacy_batchedtensor = torch._C._functorch.is_legacy_batchedtensor


def forward_mode_is_active():
    """Whether there may be forward-mode derivatives."""
    return forward_ad._current_level >= 0


def nests_forward_mode():
    """Whether one forward-mode derivative of torch.func is inside another: torch then takes the outer one of a `Function` for 0."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return sum(level.key() == torch._C._functorch.TransformType.Jvp for level in stack) > 1


NEUTRAL = {
    "ignore_index": -100,
    "reduction": "mean",
    "label_smoothing": 0.0,
    "lse_square_scale": 0.0,
    "softcap": None,
    "logit_scale": 1.0,
    "divisor": None,
    "empty": "nan",
    "gamma": 2.0,
    "temperature": 1.0,
}


def _same(value, default):
    return type(value) is type(default) and value == default


class Call:
    """A loss of ``nbloss.functional`` with values for its options."""

    __slots__ = ("changed", "forms", "inplace", "name", "one_pass", "options")

    def __init__(self, name, options, inplace=False):
        self.name, self.options, self.inplace = name, options, inplace  # inplace: whether the gradient is written over the logits
        # A call with few options is the fastest.
        self.changed = {key: value for key, value in options.items() if not _same(value, NEUTRAL[key])}
        self.forms = {form: getattr(F, name + form, None) for form in ("", "_value_and_grad", "_backward", "_hvp")}
        self.one_pass = not inplace and name != "nll_loss" and options["reduction"] != "none"

    def of_rows(self):
        """The call that gives one loss per row."""
        return Call(self.name, self.options | {"reduction": "none", "divisor": None})


def run(call, form, before, input, target, weight, rows, **more):
    """The result of the function of ``nbloss.functional`` with this end of its name. ``before`` are its first arguments."""
    if weight is not None:
        more["weight"] = array(weight)
    if rows is not None:
        more["sample_weight"] = array(rows)
    return call.forms[form](*before, array(input), array(target), **call.changed, **more)


def apply(function, *arguments):
    """``function.apply``, without a search for default arguments that takes longer than a small loss."""
    if transforms_are_active():
        return function.apply(*arguments)
    return super(torch.autograd.Function, function).apply(*arguments)


def upstream(g):
    """An upstream gradient as ``nbloss.functional`` takes it fastest."""
    return g.item() if g.ndim == 0 and not g.is_cuda else array(g.contiguous())


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
            loss, gradient = run(call, "_value_and_grad", (), input, target, weight, rows)
            ctx.kept = tensor(gradient)
            return tensor(loss)
        return tensor(run(call, "", (), input, target, weight, rows))

    backward = Loss.backward


class DefaultCrossEntropy(torch.autograd.Function):
    """The cross entropy of float32 logits and int64 class numbers without options, in the fewest steps: small losses are steps alone."""

    @staticmethod
    def forward(ctx, input, target):
        ctx.save_for_backward(input, target)
        loss, gradient = F.cross_entropy_value_and_grad(input.detach().numpy(), target.numpy())
        ctx.kept = torch.from_numpy(gradient)
        return torch.from_numpy(np.asarray(loss))

    @staticmethod
    def backward(ctx, g):
        kept, ctx.kept = ctx.kept, None
        if kept is not None and not (torch.is_grad_enabled() or transforms_are_active() or is_legacy_batchedtensor(g)) and g.item() == 1:
            return kept, None
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
    if not call.inplace:
        return tensor(run(call, "_backward", (upstream(g),), *tensors))
    logits = tensors[0]
    gradient = logits.detach()
    run(call, "_backward", (upstream(g),), *tensors, out=array(logits))
    torch.autograd.graph.increment_version(logits)
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
        over = _formula.divisor(call, int(np.prod(losses_shape)), dtype, target, weight, rows, 1)
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
        y = output.to(_formula.real(output))
        wide = g.to(y.dtype)
        if ctx.name == "softmax":
            return _times_softmax(wide, y, ctx.dim).to(g.dtype), None, None
        return (wide - y.exp() * wide.sum(ctx.dim, keepdim=True)).to(g.dtype), None, None

    @staticmethod
    def jvp(ctx, of_input, *_):
        (output,) = ctx.saved_tensors
        y = output.to(_formula.real(output))
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
