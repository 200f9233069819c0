"""JAX: the usual code of jax.nn and optax under jit, with gradients by jax.grad. Every call waits for its result."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp


def jitted(p, function, *arrays):
    """Compile `function` for the CPU. The callable waits for the result of every call.

    float64 needs JAX's x64 mode. The mode is set around each call, because setting it for the process would affect other
    users of JAX. JAX arrays have no strides: a transposed array is passed in memory order, and the compiled function
    transposes it, so that XLA can fuse the transposition.
    """
    mode = partial(jax.enable_x64, True) if p.dtype == "float64" else nullcontext
    cpu = jax.devices("cpu")[0]
    flipped = [p.transposed and a.ndim == 2 for a in arrays]
    compiled = jax.jit(lambda *given: function(*(a.T if flip else a for a, flip in zip(given, flipped, strict=True))))
    with mode():
        arrays = [jax.device_put(a.T if flip else a, cpu) for a, flip in zip(arrays, flipped, strict=True)]

    if mode is nullcontext:

        def run():
            return jax.block_until_ready(compiled(*arrays))
    else:

        def run():
            with mode():
                return jax.block_until_ready(compiled(*arrays))

    run()
    return run


def _picked(x, y):
    return jnp.take_along_axis(x, y[:, None], axis=1)[:, 0]


def _nll(x, y):
    return -_picked(x, y).mean()


def _cross_entropy(x, y):  # the formula of optax.softmax_cross_entropy_with_integer_labels
    return (jax.nn.logsumexp(x, axis=1) - _picked(x, y)).mean()


def log_softmax(p):
    return jitted(p, lambda x: jax.nn.log_softmax(x, axis=1), p.logits)


def log_softmax_backward(p):
    return jitted(p, lambda g, y: g - jnp.exp(y) * g.sum(axis=1, keepdims=True), p.grad_output, p.log_probs)


def nll_loss(p):
    return jitted(p, _nll, p.log_probs, p.target)


def nll_loss_backward(p):
    return jitted(p, jax.grad(_nll), p.log_probs, p.target)


def cross_entropy(p):
    return jitted(p, _cross_entropy, p.logits, p.target)


def cross_entropy_value_and_grad(p):
    return jitted(p, jax.value_and_grad(_cross_entropy), p.logits, p.target)
