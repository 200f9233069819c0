"""JAX: the formulas in jax.numpy under jit, with gradients by `jax.value_and_grad`. Every call waits for its result."""

import jax
import jax.numpy as jnp

from ..peers.jax import jitted
from .problem import EPSILON, GAMMA, LSE_SQUARE_SCALE, SOFTCAP, TEMPERATURE


def _losses(x, y):
    return jax.nn.logsumexp(x, axis=1) - jnp.take_along_axis(x, y[:, None], axis=1)[:, 0]


def _value_and_grad(p, loss, *arrays):
    return jitted(p, jax.value_and_grad(loss), p.logits, *arrays)


def focal_loss(p):
    def loss(x, y):
        each = _losses(x, y)
        return ((1 - jnp.exp(-each)) ** GAMMA * each).mean()

    return _value_and_grad(p, loss, p.target)


def distillation_loss(p):
    def loss(x, teacher):
        log_p, log_q = jax.nn.log_softmax(x / TEMPERATURE, axis=1), jax.nn.log_softmax(teacher / TEMPERATURE, axis=1)
        return TEMPERATURE**2 * (jnp.exp(log_q) * (log_q - log_p)).sum(axis=1).mean()

    return _value_and_grad(p, loss, p.teacher)


def poly1(p):
    def loss(x, y):
        each = _losses(x, y)
        return (each + EPSILON * (1 - jnp.exp(-each))).mean()

    return _value_and_grad(p, loss, p.target)


def lse_square_scale(p):
    def loss(x, y):
        return (_losses(x, y) + LSE_SQUARE_SCALE * jax.nn.logsumexp(x, axis=1) ** 2).mean()

    return _value_and_grad(p, loss, p.target)


def sample_weight(p):
    return _value_and_grad(p, lambda x, y, weight: (_losses(x, y) * weight).sum() / weight.sum(), p.target, p.sample_weight)


def cross_entropy_stats(p):
    def stats(x, y):
        log_p = jax.nn.log_softmax(x, axis=1)
        log_prob = jnp.take_along_axis(log_p, y[:, None], axis=1)[:, 0]
        top = x.argmax(axis=1)
        return jax.nn.logsumexp(x, axis=1), log_prob, top, top == y, -(jnp.exp(log_p) * log_p).sum(axis=1)

    return jitted(p, stats, p.logits, p.target)


def softcap(p):
    return _value_and_grad(p, lambda x, y: _losses(SOFTCAP * jnp.tanh(x / SOFTCAP), y).mean(), p.target)


def hvp(p):
    def product(x, y, v):
        return jax.jvp(jax.grad(lambda x: _losses(x, y).mean()), (x,), (v,))[1]

    return jitted(p, product, p.logits, p.target, p.direction)


def hessian_diag(p):
    def diagonal(x):
        probabilities = jax.nn.softmax(x, axis=1)
        return probabilities * (1 - probabilities) / x.shape[0]

    return jitted(p, diagonal, p.logits)
