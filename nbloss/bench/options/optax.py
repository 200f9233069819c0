"""optax under jit. It has poly-1 and the divergence; its focal loss is one of yes-or-no questions, so this one is made of its losses."""

import jax
import jax.numpy as jnp
from optax import losses

from ..peers.jax import jitted
from .problem import EPSILON, GAMMA, TEMPERATURE


def focal_loss(p):
    def loss(x, y):
        each = losses.softmax_cross_entropy_with_integer_labels(x, y)
        return ((1 - jnp.exp(-each)) ** GAMMA * each).mean()

    return jitted(p, jax.value_and_grad(loss), p.logits, p.target)


def distillation_loss(p):
    def loss(x, teacher):
        log_p, log_q = jax.nn.log_softmax(x / TEMPERATURE), jax.nn.log_softmax(teacher / TEMPERATURE)
        return TEMPERATURE**2 * losses.kl_divergence_with_log_targets(log_p, log_q).mean()

    return jitted(p, jax.value_and_grad(loss), p.logits, p.teacher)


def poly1(p):
    def loss(x, y):
        return losses.poly_loss_cross_entropy(x, jax.nn.one_hot(y, x.shape[1]), epsilon=EPSILON).mean()

    return jitted(p, jax.value_and_grad(loss), p.logits, p.target)
