"""NumPy, optimised: preallocated temporaries, in-place ufuncs, half precision computed in float32."""

import numpy as np


def _stats(p):
    """Two buffers with one number per row."""
    shape = (p.shape[0], 1, *p.shape[2:])
    return np.full(shape, 0, p.work_dtype), np.full(shape, 0, p.work_dtype)


def _result(p):
    """The result and the array to compute it in, with the logits' strides. They differ for half precision only."""
    out = np.full_like(p.logits, 0)
    return out, out if out.dtype == p.work_dtype else _work(p)


def _work(p):
    return np.full_like(p.logits, 0, p.work_dtype)


def log_softmax(p):
    x, (m, s), (out, z), e = p.logits, _stats(p), _result(p), _work(p)

    def run():
        np.max(x, axis=1, keepdims=True, out=m)
        np.subtract(x, m, out=z)
        np.exp(z, out=e)
        np.sum(e, axis=1, keepdims=True, out=s)
        np.log(s, out=s)
        return np.subtract(z, s, out=out, casting="same_kind")

    return run


def log_softmax_backward(p):
    g, y, (_, s), (out, z) = p.grad_output, p.log_probs, _stats(p), _result(p)

    def run():
        np.sum(g, axis=1, keepdims=True, out=s, dtype=s.dtype)
        np.exp(y, out=z, dtype=z.dtype)
        np.multiply(z, s, out=z)
        return np.subtract(g, z, out=out, casting="same_kind")

    return run


def nll_loss(p):
    x, at, dtype = p.log_probs, p.at_target, p.work_dtype
    return lambda: -x[at].mean(dtype=dtype)


def nll_loss_backward(p):
    at, out, value = p.at_target, p.empty(), -1 / p.rows

    def run():
        out.fill(0)
        out[at] = value
        return out

    return run


def cross_entropy(p):
    x, at, (m, s), z = p.logits, p.at_target, _stats(p), _work(p)
    picked = np.full(p.target.shape, 0, p.work_dtype)
    squeezed = s[:, 0]

    def run():
        np.max(x, axis=1, keepdims=True, out=m)
        np.subtract(x, m, out=z)
        picked[...] = z[at]
        np.exp(z, out=z)
        np.sum(z, axis=1, keepdims=True, out=s)
        np.log(s, out=s)
        return (squeezed - picked).mean()

    return run


def cross_entropy_value_and_grad(p):
    x, at, (m, s), (out, z) = p.logits, p.at_target, _stats(p), _result(p)
    picked, rows = np.full(p.target.shape, 0, p.work_dtype), p.rows
    squeezed = s[:, 0]

    def run():
        np.max(x, axis=1, keepdims=True, out=m)
        np.subtract(x, m, out=z)
        picked[...] = z[at]
        np.exp(z, out=z)
        np.sum(z, axis=1, keepdims=True, out=s)
        loss = (np.log(squeezed) - picked).mean()
        np.multiply(s, rows, out=s)  # adds the mean's 1/N to the division below, which is needed anyway
        np.divide(z, s, out=z)
        z[at] -= 1 / rows
        if out is not z:
            np.copyto(out, z, casting="same_kind")
        return loss, out

    return run
