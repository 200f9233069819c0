"""The losses in torch's own operations: for derivatives that have no kernel, and for the divisors of batched means."""

import math

import torch

from nbloss._options import EMPTY


def class_axis(input):
    """The axis of the classes."""
    return 0 if input.ndim == 1 else 1


def is_soft(call, target):
    """Whether the targets are probabilities, or the logits of a teacher."""
    return call.name == "distillation_loss" or target.is_floating_point()


def real(input):
    """The dtype of the arithmetic, and of the loss."""
    return torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else input.dtype


def _kept(call, input, target, rows):
    """Which rows count."""
    if is_soft(call, target):
        keep = torch.ones_like(input.select(class_axis(input), 0), dtype=torch.bool)
    else:
        keep = target.long() != call.options["ignore_index"]
    return keep if rows is None else keep & (rows != 0)


def divisor(call, count, dtype, target, weight, rows, start=0):
    """What a mean divides by; axes before ``start`` are batches of their own, and ``count`` is the number of rows of one."""
    given = call.options["divisor"]
    if given is not None or (is_soft(call, target) and rows is None):
        return torch.full((), count if given is None else given, dtype=dtype, device=target.device)
    if is_soft(call, target):
        own = rows.to(dtype)
    else:
        keep = target.long() != call.options["ignore_index"]
        own = keep.to(dtype)
        if weight is not None:
            own = torch.where(keep, weight.to(dtype)[torch.where(keep, target.long(), 0)], 0)
        if rows is not None:
            own = torch.where(keep, own * rows, 0)
    total = own.reshape(*own.shape[:start], -1).sum(-1)
    return total if rows is None else torch.where(total < 0, math.nan, total)


def mean(call, total, over):
    """A total over the divisor of a mean."""
    return torch.where(over == 0, EMPTY[call.options.get("empty", "nan")], total / over)


def value(call, input, target, weight, rows):
    """The loss, with the meaning of the function of ``nbloss.functional``. torch differentiates it as often as asked."""
    options, axis, dtype = call.options, class_axis(input), real(input)
    keep = _kept(call, input, target, rows)
    x = torch.where(keep.unsqueeze(axis), input.to(dtype), 0)
    classes = x.shape[axis]
    if call.name == "distillation_loss":
        losses = _divergence(x, torch.where(keep.unsqueeze(axis), target.to(dtype), 0), axis, options["temperature"])
    else:
        w = None if weight is None else weight.to(dtype).reshape(-1, *(1,) * (x.ndim - axis - 1))
        e = options.get("label_smoothing", 0.0)
        if is_soft(call, target):
            q = torch.where(keep.unsqueeze(axis), target.to(dtype), 0)
        else:
            numbers = torch.arange(classes, device=x.device).reshape(-1, *(1,) * (x.ndim - axis - 1))
            q = (target.long().unsqueeze(axis) == numbers).to(dtype)
        if call.name == "focal_loss":
            losses = _focal(x, q, w, axis, options["gamma"])
        else:
            q = q * (1 - e) + e / classes
            losses = _cross_entropy(x, q if w is None else q * w, axis, call)
    if rows is not None:
        losses = losses * rows.to(dtype)
    losses = torch.where(keep, losses, 0)
    if options["reduction"] == "none":
        return losses
    if options["reduction"] == "sum":
        return losses.sum()
    return mean(call, losses.sum(), divisor(call, losses.numel(), dtype, target, weight, rows))


def _expectation(q, logp, axis):
    """-sum q log p, where a class without mass counts for nothing."""
    return -(q * torch.where((q == 0) & (logp == -math.inf), 0, logp)).sum(axis)


def _cross_entropy(x, q, axis, call):
    if call.name == "nll_loss":
        return _expectation(q, x, axis)
    options = call.options
    x, cap = x * options["logit_scale"], options["softcap"]
    u = x if cap is None else torch.where(x.isfinite(), cap * torch.tanh(x / cap), x)
    square = options["lse_square_scale"] * q.sum(axis) * torch.logsumexp(u, axis) ** 2 if options["lse_square_scale"] else 0
    return _expectation(q, torch.log_softmax(u, axis), axis) + square


def _focal(x, hit, w, axis, gamma):
    loss = _expectation(hit, torch.log_softmax(x, axis), axis)
    own = 1 if w is None else (hit * w).sum(axis)
    return own * (-torch.expm1(-loss)) ** gamma * loss


def _divergence(x, teacher, axis, temperature):
    logp, logq = torch.log_softmax(x / temperature, axis), torch.log_softmax(teacher / temperature, axis)
    q = logq.exp()
    return temperature**2 * (_expectation(q, logp, axis) - _expectation(q, logq, axis))


def second(call, v, g, input, target, weight, rows):
    """The Hessian of g times the loss, times v."""

    def gradient(x):
        return torch.func.vjp(lambda x: value(call, x, target, weight, rows), x)[1](g)[0]

    return torch.func.vjp(gradient, input)[1](v)[0]
