"""Simple Numba kernels: prange over the rows, math.exp, the threading layer of the process.

In a process with nbloss they run on the threading layer that nbloss chose. The workers of the OpenMP layer spin for
milliseconds after every call: `measure.timing` pauses between peers for this reason.
"""

import math

from numba import get_num_threads, njit, prange, set_num_threads

from ..session import cpus


def _ready(run):
    set_num_threads(min(cpus(), get_num_threads()))
    run()
    return run


def _check(p):
    if p.dtype not in ("float32", "float64"):
        raise NotImplementedError(f"Numba has no {p.dtype} arithmetic on the CPU")
    if len(p.shape) != 2:
        raise NotImplementedError("the naive kernels are written for (N, C)")
    return p


@njit(parallel=True, cache=True)
def _log_softmax(x, out):
    for i in prange(x.shape[0]):
        m = x[i].max()
        s = 0.0
        for j in range(x.shape[1]):
            s += math.exp(x[i, j] - m)
        lse = m + math.log(s)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] - lse
    return out


@njit(parallel=True, cache=True)
def _log_softmax_backward(g, y, out):
    for i in prange(g.shape[0]):
        total = g[i].sum()
        for j in range(g.shape[1]):
            out[i, j] = g[i, j] - math.exp(y[i, j]) * total
    return out


@njit(parallel=True, cache=True)
def _nll_loss(x, y):
    total = 0.0
    for i in prange(x.shape[0]):
        total -= x[i, y[i]]
    return total / x.shape[0]


@njit(parallel=True, cache=True)
def _nll_loss_backward(y, out):
    for i in prange(out.shape[0]):
        out[i] = 0.0
        out[i, y[i]] = -1.0 / out.shape[0]
    return out


@njit(parallel=True, cache=True)
def _cross_entropy(x, y):
    total = 0.0
    for i in prange(x.shape[0]):
        m = x[i].max()
        s = 0.0
        for j in range(x.shape[1]):
            s += math.exp(x[i, j] - m)
        total += m + math.log(s) - x[i, y[i]]
    return total / x.shape[0]


@njit(parallel=True, cache=True)
def _cross_entropy_value_and_grad(x, y, out):
    total = 0.0
    rows = x.shape[0]
    for i in prange(rows):
        m = x[i].max()
        s = 0.0
        for j in range(x.shape[1]):
            e = math.exp(x[i, j] - m)
            out[i, j] = e
            s += e
        total += m + math.log(s) - x[i, y[i]]
        for j in range(x.shape[1]):
            out[i, j] /= s * rows
        out[i, y[i]] -= 1.0 / rows
    return total / rows, out


def log_softmax(p):
    x, out = _check(p).logits, p.empty()
    return _ready(lambda: _log_softmax(x, out))


def log_softmax_backward(p):
    g, y, out = _check(p).grad_output, p.log_probs, p.empty()
    return _ready(lambda: _log_softmax_backward(g, y, out))


def nll_loss(p):
    x, y = _check(p).log_probs, p.target
    return _ready(lambda: _nll_loss(x, y))


def nll_loss_backward(p):
    y, out = _check(p).target, p.empty()
    return _ready(lambda: _nll_loss_backward(y, out))


def cross_entropy(p):
    x, y = _check(p).logits, p.target
    return _ready(lambda: _cross_entropy(x, y))


def cross_entropy_value_and_grad(p):
    x, y, out = _check(p).logits, p.target, p.empty()
    return _ready(lambda: _cross_entropy_value_and_grad(x, y, out))
