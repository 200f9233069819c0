"""JAX: `value_and_grad` of the mean cross entropy under jit. Every call waits for its result."""

import jax

import nbloss.interop.jax as interop

from ..peers.jax import jitted
from ..peers.nbloss import ready  # this import also chooses the threading layer


def nbloss(p):
    return ready(jitted(p, jax.value_and_grad(interop.cross_entropy), p.logits, p.target))


def jit(p):
    def loss(x, y):
        x = x.astype("float32") if x.dtype == "bfloat16" else x  # as optax's users do: a mean in bfloat16 has three digits
        picked = jax.numpy.take_along_axis(x, jax.numpy.expand_dims(y, 1), axis=1).squeeze(1)
        return (jax.nn.logsumexp(x, axis=1) - picked).mean()

    return jitted(p, jax.value_and_grad(loss), p.logits, p.target)
