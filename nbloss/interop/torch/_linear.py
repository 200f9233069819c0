"""The loss of a last layer, whose logits are never all in memory."""

import math

import torch
from torch import Tensor
from torch.nn.modules.loss import _WeightedLoss

import nbloss.functional as F
from nbloss._docstrings import documented
from nbloss.functional._linear_cross_entropy import ENTRIES
from nbloss.interop.torch._calls import NEUTRAL, forward_mode_is_active, is_legacy_batchedtensor, transforms_are_active, upstream
from nbloss.interop.torch._functional import cross_entropy
from nbloss.interop.torch._tensors import array, tensor

_NAMES = "input", "linear_weight", "linear_bias"
_ENTRIES = {
    "input": """\
input : torch.Tensor, shape (D,) or (N, D)
    The features of each row, of dtype float16, bfloat16, float32 or float64.""",
    "linear_weight": """\
linear_weight : torch.Tensor, shape (C, D) or (C, d1, ..., dK, D)
    The weight of the layer, of input's dtype.""",
    "target": """\
target : torch.Tensor
    Class numbers of any integer dtype or bool, of shape (), (N,) or (N, d1, ..., dK); or probabilities: floats of the logits' shape.""",
    "linear_bias": """\
linear_bias : torch.Tensor, shape of linear_weight without its last axis, optional
    What is added to the logits.""",
    "returns_loss": """\
torch.Tensor
    The loss: a number ("mean", "sum"), or one per row ("none"). Its dtype is input's; float32 for float16 and bfloat16.""",
}


class LinearLoss(torch.autograd.Function):
    """The loss of a layer. The forward leaves the gradients of a sum on ``ctx``: a backward of its own would compute the logits again."""

    @staticmethod
    def forward(ctx, input, linear_weight, linear_bias, target, weight, rows, options, max_memory):
        tensors = input, linear_weight, linear_bias, target, weight, rows
        ctx.save_for_backward(*tensors)
        ctx.options, ctx.max_memory, ctx.kept = options, max_memory, None
        wrt = [name for name, wanted in zip(_NAMES, ctx.needs_input_grad, strict=False) if wanted]
        if not wrt or options["reduction"] in ("none", None):
            return tensor(_run("linear_cross_entropy", (), tensors, options, max_memory))
        loss, *gradients = _run("linear_cross_entropy_value_and_grad", (), tensors, options, max_memory, wrt=wrt)
        ctx.kept = gradients
        return tensor(loss)

    @staticmethod
    def backward(ctx, g):
        kept, ctx.kept = ctx.kept, None
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[: len(_NAMES)]
        if torch.is_grad_enabled() or transforms_are_active() or is_legacy_batchedtensor(g):
            with torch.enable_grad():
                at = [value for value, needed in zip(tensors, wanted, strict=False) if needed]
                found = iter(torch.autograd.grad(_composed(*tensors, ctx.options), at, g, create_graph=True))
            gradients = [next(found) if needed else None for needed in wanted]
        elif kept is not None and g.item() == 1:
            gradients = _tensors(kept)
        elif kept is not None and tensors[0].dtype.itemsize > 2:
            gradients = [gradient if gradient is None else gradient.mul_(g) for gradient in _tensors(kept)]
        else:  # half gradients of a scaled loss are no rounded gradients times the scale
            wrt = [name for name, needed in zip(_NAMES, wanted, strict=True) if needed]
            before = (upstream(g),)
            gradients = _tensors(_run("linear_cross_entropy_backward", before, tensors, ctx.options, ctx.max_memory, wrt=wrt))
        return *gradients, None, None, None, None, None


def _run(name, before, tensors, options, max_memory, **more):
    """The result of a function of ``nbloss.functional``."""
    x, layer, bias, target, weight, rows = (None if value is None else array(value) for value in tensors)
    if rows is not None:
        more["sample_weight"] = rows
    return getattr(F, name)(*before, x, layer, target, linear_bias=bias, weight=weight, max_memory=max_memory, **options, **more)


def _tensors(arrays):
    return [None if value is None else tensor(value) for value in arrays]


def _composed(input, linear_weight, linear_bias, target, weight, rows, options):
    """The same loss from all logits at once, for derivatives that the kernels do not have, and for other devices."""
    bias = None if linear_bias is None else linear_bias.flatten()
    logits = torch.nn.functional.linear(input, linear_weight.flatten(0, -2), bias).unflatten(-1, linear_weight.shape[:-1])
    options = options | {"ignore_index": NEUTRAL["ignore_index"] if options["ignore_index"] is None else options["ignore_index"]}
    return cross_entropy(logits, target, weight, sample_weight=rows, **options)


@documented(**ENTRIES | _ENTRIES)
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str | None = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: Tensor | None = None,
    divisor: float | None = None,
    empty: str = "nan",
    max_memory: float = 2**27,
) -> Tensor:
    """Cross entropy of the logits of a linear layer, without a tensor of all logits.

    The loss is ``cross_entropy(linear(input, linear_weight, linear_bias), target, ...)``.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Notes
    -----
    The forward computes the gradients, too, of the arguments that require them: the backward only hands them over. All logits are computed
    at once for second derivatives, under torch.func and torch.compile, for targets and weights that require grad, and on a GPU.
    Meaning: ``torch.nn.functional.linear_cross_entropy``; the rest is that of `nbloss.functional.linear_cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> import nbloss.interop.torch as nt
    >>> nt.linear_cross_entropy(torch.ones(2, 3), torch.zeros(4, 3), torch.tensor([1, 3]))
    tensor(1.3863)
    """
    options = {
        "reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing, "lse_square_scale": lse_square_scale,
        "softcap": softcap, "logit_scale": logit_scale, "divisor": divisor, "empty": empty,
    }  # fmt: skip
    tensors = input, linear_weight, linear_bias, target, weight, sample_weight
    if torch.compiler.is_compiling():
        return _composed(*tensors, options)
    for name, value in zip((*_NAMES, "target", "weight", "sample_weight"), tensors, strict=True):
        if not isinstance(value, Tensor) and (value is not None or name in ("input", "linear_weight", "target")):
            raise TypeError(f"{name} should be a tensor; got {type(value).__name__}")
    others = torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in tensors[len(_NAMES) :])
    if input.is_cuda or others or transforms_are_active() or forward_mode_is_active():
        return _composed(*tensors, options)
    if torch.is_autocast_enabled("cpu"):  # products in its dtype, as torch's linear
        dtype = torch.get_autocast_dtype("cpu")
        input, linear_weight = input.to(dtype), linear_weight.to(dtype)
    if not (torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in (input, linear_weight, linear_bias))):
        return tensor(_run("linear_cross_entropy", (), (input, linear_weight, *tensors[2:]), options, max_memory))
    return LinearLoss.apply(input, linear_weight, linear_bias, *tensors[len(_NAMES) :], options, max_memory)


class LinearCrossEntropyLoss(_WeightedLoss):
    """`linear_cross_entropy` as a module that owns the layer: ``torch.nn.LinearCrossEntropyLoss`` with more options.

    Parameters
    ----------
    in_features, num_classes, out_features, bias, device, dtype, reduction, weight, ignore_index, label_smoothing
        As those of ``torch.nn.LinearCrossEntropyLoss``, whose ``state_dict`` it takes. The layer is ``linear``, a ``torch.nn.Linear``.
    lse_square_scale, softcap, logit_scale, divisor, empty, max_memory
        As those of `linear_cross_entropy`; attributes of the module.

    Notes
    -----
    ``loss.linear.weight = embedding.weight`` ties the layer to an embedding.

    Examples
    --------
    >>> import torch
    >>> from nbloss.interop.torch import LinearCrossEntropyLoss
    >>> loss = LinearCrossEntropyLoss(3, 5)
    >>> loss(torch.zeros(2, 3), torch.tensor([0, 4]))
    tensor(1.6094, grad_fn=<LinearLossBackward>)
    """

    _options = (
        "reduction", "ignore_index", "label_smoothing", "lse_square_scale", "softcap", "logit_scale", "divisor", "empty", "max_memory",
    )  # fmt: skip

    def __init__(
        self, in_features, num_classes, *, out_features=(), bias=False, device=None, dtype=None, reduction="mean", weight=None,
        ignore_index=None, label_smoothing=0.0, lse_square_scale=0.0, softcap=None, logit_scale=1.0, divisor=None, empty="nan",
        max_memory=2**27,
    ):  # fmt: skip
        super().__init__(weight, reduction=reduction)
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.linear = torch.nn.Linear(in_features, math.prod(out_features, start=num_classes), bias, device, dtype)
        values = ignore_index, label_smoothing, lse_square_scale, softcap, logit_scale, divisor, empty, max_memory
        for name, value in zip(self._options[1:], values, strict=True):
            setattr(self, name, value)

    def forward(self, input, target, *, sample_weight=None, divisor=None):
        """The loss. ``divisor`` replaces the module's for this call; the shapes are those of the function."""
        options = {name: getattr(self, name) for name in self._options}
        if divisor is not None:
            options["divisor"] = divisor
        outputs = self.num_classes, *self.out_features
        layer, bias = self.linear.weight.unflatten(0, outputs), self.linear.bias
        bias = None if bias is None else bias.unflatten(0, outputs)
        return linear_cross_entropy(input, layer, target, linear_bias=bias, weight=self.weight, sample_weight=sample_weight, **options)

    def extra_repr(self):
        """The sizes, and the options that are not the default."""
        shown = [f"num_classes={self.num_classes}", f"out_features={self.out_features}"]
        defaults = dict(zip(self._options, ("mean", None, 0.0, 0.0, None, 1.0, None, "nan", 2**27), strict=True))
        return ", ".join(shown + [f"{k}={getattr(self, k)!r}" for k, default in defaults.items() if getattr(self, k) != default])
