"""The losses as formulas of jax.numpy: for platforms without a kernel, and for derivatives that no kernel has."""

import jax
import jax.numpy as jnp


def formula(spec):
    """A function of the arrays of a call that returns its results as a list. All of them can be differentiated."""
    options = dict(spec.options)
    if spec.along_axis:
        along_axis = _ALONG_AXIS[spec.loss][spec.order]
        return lambda *arrays: [along_axis(*(array.astype(_real(array)) for array in arrays), options["dim"]).astype(arrays[0].dtype)]
    names = spec.names[3:] if spec.order == 2 else spec.names[2:]

    def value(x, y, *more):
        return value_of(spec.loss, x, y, **options | dict(zip(names, more, strict=True)))

    def gradient(x, *others):  # "none": of the sum of the losses
        return jax.grad(lambda x: value(x, *others).sum())(x)

    def hvp(v, x, *others):
        return jax.jvp(lambda x: gradient(x, *others), [x], [v])[1]

    orders = (
        lambda *arrays: [value(*arrays)],
        lambda *arrays: [value(*arrays), gradient(*arrays)],
        lambda *arrays: [hvp(*arrays)],
    )
    return orders[spec.order]


def _softmax_jacobian(v, y, dim):
    """Jacobian and transposed Jacobian are the same."""
    return y * (v - (y * v).sum(dim, keepdims=True))


_ALONG_AXIS = {
    "softmax": (jax.nn.softmax, _softmax_jacobian, _softmax_jacobian),
    "log_softmax": (
        jax.nn.log_softmax,
        lambda v, y, dim: v - (jnp.exp(y) * v).sum(dim, keepdims=True),
        lambda v, y, dim: v - jnp.exp(y) * v.sum(dim, keepdims=True),
    ),
}


def _real(x):
    """The dtype of the arithmetic."""
    return jnp.promote_types(x.dtype, jnp.float32)


def value_of(
    loss, x, y, *, reduction, weight=None, sample_weight=None, divisor=None, ignore_index=-100, empty="nan", label_smoothing=0.0,
    lse_square_scale=0.0, softcap=None, logit_scale=1.0, gamma=2.0, temperature=1.0,
):  # fmt: skip
    """A loss of class numbers, probabilities or a teacher's logits. Rows that do not count have the loss and the gradient 0."""
    real, axis, soft = _real(x), min(x.ndim - 1, 1), x.ndim == y.ndim
    x = jnp.moveaxis(x.astype(real), axis, -1)
    count = x.shape[-1]
    w = jnp.ones(count, real) if weight is None else weight.astype(real)
    if loss == "distillation_loss":
        y, logit_scale = jax.nn.softmax(jnp.moveaxis(y.astype(real), axis, -1) / temperature), 1 / temperature
        log_y = jnp.log(jnp.where(y == 0, 1, y))
    elif soft:
        y = jnp.moveaxis(y.astype(real), axis, -1)
    if soft:
        keep, own = jnp.ones(x.shape[:-1], bool), jnp.ones(x.shape[:-1], real)
        q = w * (y * (1 - label_smoothing) + label_smoothing / count)
    else:
        keep = y != ignore_index
        hit = jnp.arange(count) == jnp.where(keep, y, 0)[..., None]
        own = jnp.where(hit.any(-1), (hit * w).sum(-1), jnp.nan)  # nan: a target out of range, which no formula can refuse
        q = (1 - label_smoothing) * hit * w + label_smoothing / count * w
    if sample_weight is not None:
        keep &= sample_weight != 0
        of_rows = jnp.where(keep, sample_weight.astype(real), 0)
        q, own = q * of_rows[..., None], own * of_rows
    x = jnp.where(keep[..., None], x, 0)  # before any other step, so that no derivative meets what an ignored row holds
    if loss == "nll_loss":
        logp = x
    else:
        x = logit_scale * x if softcap is None else softcap * jnp.tanh(logit_scale / softcap * x)
        logp = jax.nn.log_softmax(x)
    losses = -(q * jnp.where((logp == -jnp.inf) & (q == 0), 0, logp)).sum(-1)
    if loss == "distillation_loss":
        losses = temperature**2 * (losses + (q * log_y).sum(-1))
    if loss == "focal_loss":
        surely = jnp.where(hit, logp, 0).sum(-1)
        losses = losses * (-jnp.expm1(surely)) ** gamma
    if lse_square_scale:
        losses += lse_square_scale * q.sum(-1) * jax.nn.logsumexp(x, axis=-1) ** 2
    losses = jnp.where(keep, losses + 0 * own, 0)
    if reduction != "mean":
        return losses if reduction == "none" else losses.sum()
    total = jnp.where(keep, own, 0).sum() if divisor is None else jnp.asarray(divisor, real)
    if sample_weight is not None and divisor is None:
        total = jnp.where(total < 0, jnp.nan, total)
    return jnp.where(total == 0, jnp.nan if empty == "nan" else 0.0, losses.sum() / jnp.where(total == 0, 1, total))
