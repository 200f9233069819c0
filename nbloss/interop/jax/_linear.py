"""The loss of a last layer, whose logits are never all in memory. It is computed by `jax.pure_callback`: the products take far longer."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

import nbloss.functional as F
from nbloss._linear import LinearProblem
from nbloss._options import CHECKS, checked_bytes, checked_divisor, checked_row_options
from nbloss.backends.cpu import CPU
from nbloss.interop.jax._formula import value_of

_WRT = "input", "linear_weight", "linear_bias"


def _values(spec, arrays):
    """The loss as a callback."""
    options = dict(spec)
    real, rows = jnp.promote_types(arrays["input"].dtype, jnp.float32), ()
    if options["reduction"] == "none":
        rows = (*arrays["input"].shape[:-1], *arrays["linear_weight"].shape[1:-1])

    def on_host(arrays):
        return np.asarray(F.linear_cross_entropy(**_numpy(arrays), **options))

    return jax.pure_callback(on_host, jax.ShapeDtypeStruct(rows, real), arrays, vmap_method="sequential")


def _both(spec, wrt, g, arrays):
    """The loss, and the gradients of g times the loss by name, as a callback."""
    options = dict(spec)
    real = jnp.promote_types(arrays["input"].dtype, jnp.float32)
    of_loss = jax.eval_shape(partial(_values, spec), arrays)
    results = of_loss, {name: jax.ShapeDtypeStruct(arrays[name].shape, arrays[name].dtype) for name in wrt}

    def on_host(g, arrays):
        found = F.linear_cross_entropy_value_and_grad(**_numpy(arrays), **options, grad_output=np.asarray(g), wrt=wrt)
        return np.asarray(found.loss), {name: getattr(found, name) for name in wrt}

    return jax.pure_callback(on_host, results, g.astype(real), arrays, vmap_method="sequential")


def _numpy(arrays):
    return {name: np.asarray(array) for name, array in arrays.items()}


# ------------------------------ derivatives of the callbacks: all logits at once ------------------------------


def _composed(spec, arrays):
    """The loss from all logits, which JAX differentiates as often as asked."""
    options, more = dict(spec), dict(arrays)
    x, layer, bias = (more.pop(name, None) for name in _WRT)
    logits = jnp.tensordot(x, layer, (-1, -1))
    options["ignore_index"] = -100 if options["ignore_index"] is None else options["ignore_index"]
    del options["max_memory"]
    return value_of("cross_entropy", logits if bias is None else logits + bias, more.pop("target"), **options, **more)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value(spec, arrays):
    return _values(spec, arrays)


@_value.defjvp
def _value_jvp(spec, primals, tangents):
    return _values(spec, *primals), jax.jvp(partial(_composed, spec), primals, tangents)[1]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _value_and_gradients(spec, wrt, g, arrays):
    return _both(spec, wrt, g, arrays)


@_value_and_gradients.defjvp
def _value_and_gradients_jvp(spec, wrt, primals, tangents):
    def formula(g, arrays):
        value, back = jax.vjp(lambda some: _composed(spec, arrays | some), {name: arrays[name] for name in wrt})
        return value, back(g)[0]

    return _both(spec, wrt, *primals), jax.jvp(formula, primals, tangents)[1]


# ------------------------------ the loss ------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(spec, arrays):
    return _value(spec, arrays)


def _forward(spec, arrays):
    """The gradients of a sum come with its value: they take three products, and two in a backward of its own."""
    values = {name: array.value for name, array in arrays.items()}
    changed = [name for name, array in arrays.items() if array.perturbed and jnp.issubdtype(values[name].dtype, jnp.floating)]
    if others := set(changed) - set(_WRT):
        raise NotImplementedError(f"linear_cross_entropy has no derivative with respect to {', '.join(sorted(others))}: use cross_entropy")
    wrt = tuple(changed)
    if dict(spec)["reduction"] == "none" or not wrt:
        return _value(spec, values), (None, values, dict.fromkeys(wrt))
    value, gradients = _value_and_gradients(spec, wrt, jnp.ones((), jnp.promote_types(values["input"].dtype, jnp.float32)), values)
    return value, (gradients, values, dict.fromkeys(wrt))


def _backward(spec, kept, g):
    gradients, arrays, wrt = kept
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        return (dict.fromkeys(arrays),)
    if gradients is None and wrt:
        gradients = _value_and_gradients(spec, tuple(wrt), g, arrays)[1]
    elif wrt:
        gradients = {name: (g * gradient.astype(g.dtype)).astype(gradient.dtype) for name, gradient in gradients.items()}
    return (dict.fromkeys(arrays) | (gradients or {}),)


_loss.defvjp(_forward, _backward, symbolic_zeros=True)


def linear_cross_entropy(
    input: "jax.typing.ArrayLike",
    linear_weight: "jax.typing.ArrayLike",
    target: "jax.typing.ArrayLike",
    *,
    linear_bias: "jax.typing.ArrayLike | None" = None,
    weight: "jax.typing.ArrayLike | None" = None,
    reduction: str | None = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: "jax.typing.ArrayLike | None" = None,
    divisor: float | None = None,
    empty: str = "nan",
    max_memory: float = 2**27,
) -> jax.Array:
    """Cross entropy of the logits of a linear layer, without an array of all logits, as `nbloss.functional.linear_cross_entropy`.

    The loss is ``cross_entropy(input @ linear_weight.T + linear_bias, target, ...)``.

    Parameters
    ----------
    input : array_like, shape (D,) or (N, D)
        The features of each row.
    linear_weight : array_like, shape (C, D) or (C, d1, ..., dK, D)
        The weight of the layer, of input's dtype.
    target : array_like
        Class numbers of shape (), (N,) or (N, d1, ..., dK), or probabilities of the logits' shape.
    linear_bias : array_like, shape of linear_weight without its last axis, optional
        What is added to the logits.
    weight, sample_weight, reduction, ignore_index, label_smoothing, lse_square_scale, softcap, logit_scale, divisor, empty, max_memory
        As those of `nbloss.functional.linear_cross_entropy`; all but the first two are Python values.

    Returns
    -------
    jax.Array
        A scalar for "mean" and "sum", and the losses of all rows for "none"; float32 for half precision, else input's dtype.

    Raises
    ------
    TypeError, ValueError
        As `nbloss.functional.linear_cross_entropy`, when the call is traced.
    NotImplementedError
        If it is differentiated with respect to the target or to weights.

    Notes
    -----
    It can be differentiated in reverse mode with respect to input, weight and bias of the layer. Second derivatives compute all logits.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nbloss.interop.jax import linear_cross_entropy
    >>> linear_cross_entropy(jnp.ones((2, 3)), jnp.zeros((4, 3)), jnp.array([1, 3])).round(4)
    Array(1.3863, dtype=float32)
    """
    options = {
        "reduction": CHECKS["reduction"](reduction), "ignore_index": ignore_index, "label_smoothing": label_smoothing,
        "lse_square_scale": lse_square_scale, "softcap": softcap, "logit_scale": logit_scale,
        "divisor": checked_divisor(divisor, reduction), "empty": empty, "max_memory": checked_bytes("max_memory", max_memory),
    }  # fmt: skip
    given = {
        "input": input, "linear_weight": linear_weight, "linear_bias": linear_bias, "target": target, "weight": weight,
        "sample_weight": sample_weight,
    }  # fmt: skip
    arrays = {name: jnp.asarray(array) for name, array in given.items() if array is not None}
    spec = tuple(options.items())
    _check(spec, tuple((name, array.shape, array.dtype) for name, array in arrays.items()))
    return _loss(spec, arrays)


@lru_cache(maxsize=1024)
def _check(spec, types):
    """Raise the errors of `nbloss.functional` for all that is known when a call is traced."""
    options, arrays = dict(spec), {name: np.broadcast_to(np.zeros((), dtype), shape) for name, shape, dtype in types}
    row_options = checked_row_options("cross_entropy", [options[name] for name in ("lse_square_scale", "softcap", "logit_scale")])
    LinearProblem(
        CPU, arrays["input"], arrays["linear_weight"], arrays.get("linear_bias"), arrays["target"], arrays.get("weight"),
        options["ignore_index"], options["max_memory"], options["reduction"], arrays.get("sample_weight"), options["divisor"],
        options["empty"], options["label_smoothing"], row_options,
    )  # fmt: skip
