"""What a call of a loss is, and which derivatives of torch may be at work."""

import torch
from torch.autograd import forward_ad

import nbloss.functional as F
from nbloss.interop.torch._tensors import array

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
