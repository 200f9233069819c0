"""What one call computes: functions of `nbloss.functional` on NumPy views of XLA's buffers, with the axes of `jax.vmap` in front."""

from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

import nbloss.functional as F
from nbloss._options import EMPTY


class Spec(NamedTuple):
    """All that a call depends on besides the numbers in its arrays."""

    loss: str  # a function of nbloss.functional, also where its derivatives are asked for
    # What is computed. 0: the result. Of a loss, 1: it and its gradient; 2: its Hessian times the array "v". Of softmax or its logarithm,
    # whose result is "y", 1: the Jacobian times "v"; 2: the transposed Jacobian times "v".
    order: int
    names: tuple[
        str, ...
    ]  # of the arrays: ("input",) or ("v", "y"); of a loss "v" for order 2, "input", "target", and those of its options
    ranks: tuple[int, ...]  # of the arrays, without the axes of jax.vmap that may be in front
    options: tuple[tuple[str, Any], ...]

    @property
    def along_axis(self):
        """Whether this is softmax or its logarithm."""
        return self.loss in ("softmax", "log_softmax")

    @property
    def ndim(self):
        """The rank of the logits."""
        return self.ranks[0]


def runner(spec):
    """A function ``run(arrays, results)`` that fills the arrays of the results."""
    one, plain = _single(spec), spec.ndim

    def run(arrays, results):
        front = arrays[0].ndim - plain
        if not front:
            one(arrays, results)
        elif not _merged(spec, front, arrays, results):
            _each(one, front, arrays, results)

    return run


def _single(spec):
    """`runner` for arrays without axes in front."""
    options, extra = dict(spec.options), spec.names[2 + (spec.order == 2) :]
    if spec.along_axis:
        along_axis = partial(getattr(F, f"{spec.loss}_backward" if spec.order else spec.loss), **options)
        return lambda arrays, results: along_axis(*arrays, out=results[0])
    if spec.order == 2:
        hvp = partial(getattr(F, f"{spec.loss}_hvp"), **options)
        return lambda arrays, results: hvp(*arrays[:3], **dict(zip(extra, arrays[3:], strict=True)), out=results[0])
    fill = partial(_fill(spec), **options)
    if not extra:
        return lambda arrays, results: fill(results, *arrays)
    return lambda arrays, results: fill(results, *arrays[:2], **dict(zip(extra, arrays[2:], strict=True)))


def _fill(spec):
    """A function that fills the results of a loss of order 0 or 1."""
    value = getattr(F, spec.loss)
    both = getattr(F, f"{spec.loss}_value_and_grad", _nll_loss_value_and_grad)

    def fill_value(results, x, y, **options):
        results[0][...] = value(x, y, **options)

    def fill_both(results, x, y, **options):
        results[0][...] = both(x, y, out=results[1], **options)[0]

    return fill_both if spec.order else fill_value


def _nll_loss_value_and_grad(input, target, *, grad_output=1.0, out, **options):
    return F.nll_loss(input, target, **options), F.nll_loss_backward(grad_output, input, target, out=out, **options)


# ------------------------------ jax.vmap ------------------------------


def _each(one, front, arrays, results):
    """One call after the other."""
    shape = results[0].shape[:front]
    arrays = [np.broadcast_to(array, shape + array.shape[front:]) for array in arrays]
    for index in np.ndindex(shape):
        at = (*index, ...)
        try:
            one([array[at] for array in arrays], [result[at] for result in results])
        except IndexError as error:
            raise IndexError(f"{error}, in call {index} of jax.vmap") from None


def _merged(spec, front, arrays, results):
    """One call for the rows of all calls, where these have the same options; whether it was done.

    Gradients of single examples are thousands of calls of one row each.
    """
    if spec.along_axis:  # dim counts from the end
        _single(spec)([np.broadcast_to(array, results[0].shape) for array in arrays], results)
        return True
    given, options, calls = dict(zip(spec.names, arrays, strict=True)), dict(spec.options), results[0].shape[:front]
    reduction, x = options["reduction"], given["input"]
    if "weight" in given and prod(given["weight"].shape[:front]) == 1:
        options["weight"] = given.pop("weight").reshape(-1)
    own = {"weight", "divisor"} | ({"sample_weight"} if reduction == "mean" else set())
    if own & given.keys() or (spec.order < 2 and x.shape[:front] != calls):  # of v there is one for each call: a copy of x is no larger
        return False
    batch = front + (x.ndim > front + 1)  # the axes that become one
    rows = x.shape[front:batch] + x.shape[batch + 1 :]

    def merged(array):  # a view, if it has all these axes
        return array.reshape(prod(array.shape[:batch]), *array.shape[batch:])

    given = {name: merged(np.broadcast_to(array, calls + array.shape[front:])) for name, array in given.items()}
    x, y = given.pop("input"), given.pop("target")
    losses = np.empty(calls + rows, np.float64 if results[0].dtype == np.float64 else np.float32)
    try:
        factor, whole = 1.0, tuple(range(front, losses.ndim))
        if reduction == "mean":
            count = options.get("divisor")
            if count is None:
                count = _row_weights(options, x, y, losses).sum(axis=whole, dtype=np.float64, keepdims=True)
            with np.errstate(divide="ignore"):
                factor = np.where(count == 0, EMPTY[options.get("empty", "nan")], np.divide(1, count))
        if spec.order and reduction == "mean":
            given["grad_output"] = merged(np.broadcast_to(factor.astype(losses.dtype), losses.shape))
        given = options | {"reduction": "none", "divisor": None} | given
        if spec.order == 2:
            getattr(F, f"{spec.loss}_hvp")(input=x, target=y, out=merged(results[0]), **given)
            return True
        _fill(spec)([merged(losses), *map(merged, results[1:])], x, y, **given)
    except IndexError:
        return False  # the calls one by one say where the target is
    if reduction == "none":
        results[0][...] = losses
    else:
        with np.errstate(invalid="ignore"):
            total = losses.sum(axis=whole, dtype=np.float64, keepdims=True) * factor
        results[0][...] = np.where(factor == 0, 0, total).reshape(calls)
    return True


def _row_weights(options, x, y, losses):
    """What each row adds to the divisor of a mean, in the shape of the losses: its loss where all log-probabilities are -1."""
    if x.ndim == y.ndim:
        return np.broadcast_to(1.0, losses.shape)
    options = {name: options.get(name) for name in ("weight", "ignore_index")}
    return F.nll_loss(np.broadcast_to(losses.dtype.type(-1), x.shape), y, reduction="none", **options).reshape(losses.shape)
