"""The calls of nbloss and of torch: `nbloss(operation, call)` and `torch(operation, call)` return callables to be timed.

nbloss writes gradients and log-probabilities into an array that exists. torch has no `out=`, so its results are new.
`cross_entropy_backward` takes the logits, not the result of a forward: for torch that is the forward and the backward.
"""

import numpy as np

import nbloss.functional as F

from . import wanted


def _result(call):
    """The result array, whose pages are written once, so that the timed calls cause no page faults."""
    out = np.empty(call.logits.shape, call.logits.dtype) if call.out is None else call.out
    out[...] = 0
    return out


def upstream(call):
    """What `cross_entropy_backward` gets: an array with "none", its plain reduction here; otherwise a number."""
    if call.options.get("reduction", "none") != "none":
        return 1.0
    rows = np.delete(call.logits.shape, 1)
    kind = np.float64 if call.logits.dtype == np.float64 else np.float32
    return np.random.default_rng(2).standard_normal(rows).astype(kind)


def _value_and_grad(call):
    out = _result(call)
    return lambda: F.cross_entropy_value_and_grad(call.logits, call.target, out=out, **call.options)


def _loss(call):
    return lambda: F.cross_entropy(call.logits, call.target, **call.options)


def _backward(call):
    out, g, options = _result(call), upstream(call), {"reduction": "none"} | call.options
    return lambda: F.cross_entropy_backward(g, call.logits, call.target, out=out, **options)


def _nll(call):
    return lambda: F.nll_loss(call.logits, call.target, **call.options)


def _log_softmax(call):
    out = _result(call)
    return lambda: F.log_softmax(call.logits, call.axis, out=out)


def _log_probs(call):
    """The forward's result, laid out as the logits are."""
    result = np.empty_like(call.logits)
    result[...] = F.log_softmax(call.logits, call.axis)
    return result


def _log_softmax_backward(call):
    out, y = _result(call), _log_probs(call)
    return lambda: F.log_softmax_backward(call.logits, y, call.axis, out=out)


_NBLOSS = {
    wanted.VALUE_AND_GRAD: _value_and_grad,
    wanted.LOSS: _loss,
    wanted.BACKWARD: _backward,
    wanted.NLL: _nll,
    wanted.LOG_SOFTMAX: _log_softmax,
    wanted.LOG_SOFTMAX_BACKWARD: _log_softmax_backward,
}


def nbloss(operation, call):
    """The call of nbloss, made once: the kernel is compiled or loaded."""
    from ..peers.nbloss import ready  # starts Numba, which --help does not need

    return ready(_NBLOSS[operation](call))


def torch(operation, call):
    """The same by torch. NotImplementedError where torch is not installed."""
    try:
        import torch as library

        from ..peers.torch import tensor
    except ImportError as error:
        raise NotImplementedError(f"not installed: {error}") from None

    def taken(array):  # torch has no negative strides and few integer types: what it needs is made beforehand, and is not timed
        array = np.ascontiguousarray(array) if any(stride < 0 for stride in array.strides) else array
        return tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)

    x, options = taken(call.logits), dict(call.options)
    y = None if call.target is None else taken(call.target)
    if "weight" in options:
        options["weight"] = taken(options["weight"]).to(x.dtype)
    functional, grad = library.nn.functional, library.autograd.grad

    def value_and_grad():
        loss = functional.cross_entropy(x, y, **options)
        return loss, grad(loss if loss.ndim == 0 else loss.sum(), x)[0]

    def backward():
        loss = functional.cross_entropy(x, y, **{"reduction": "none"} | options)
        return grad(loss, x, g)[0]

    if operation == wanted.LOSS:
        return lambda: functional.cross_entropy(x, y, **options)
    if operation == wanted.NLL:
        return lambda: functional.nll_loss(x, y, **options)
    if operation == wanted.LOG_SOFTMAX:
        return lambda: functional.log_softmax(x, call.axis)
    if operation == wanted.LOG_SOFTMAX_BACKWARD:
        g, z = taken(call.logits), x.detach().clone().requires_grad_()
        result = functional.log_softmax(z, call.axis)
        return lambda: grad(result, z, g, retain_graph=True)[0]
    x.requires_grad_()
    if operation == wanted.VALUE_AND_GRAD:
        return value_and_grad
    g = upstream(call)
    g = None if isinstance(g, float) else taken(g).to(x.dtype)
    return backward
