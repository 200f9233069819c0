"""Negative log-likelihood of probabilities for contiguous rows, vectors along each row.

Element c goes to partial sum c mod (2 * lanes), in float64. The probabilities may have another storage type than the log-probabilities.
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, lanes, load_n, load_n_as, put, splat, store_n
from nbloss.kernels.cpu.simd.pointers import pointer, position_pointer
from nbloss.kernels.cpu.simd.vec import equal, promote, reduce_add, select


@njit(**INLINE)
def _weighted(y, w, j, count, like):
    """w y of a vector of classes; y without class weights."""
    q = load_n_as(y, j, count, 0.0, like)
    if w is None:
        return q
    return q * load_n(pointer(w, 0), j, count, 0.0)


@njit(**INLINE)
def _products(row, y, w, j, count):
    """w y logp of a vector of classes; 0 where w y is 0, even if logp is infinite."""
    v = load_n(row, j, count, 0.0)
    q = promote(_weighted(y, w, j, count, v))
    return select(equal(q, 0.0), 0.0, q * promote(v))


def nll_soft(logp, y, w, loss, lo, hi):
    """loss = -sum of w y logp over the classes."""
    n, losses = logp.shape[1], pointer(loss, 0)
    width = lanes(pointer(logp, 0))
    for p in range(lo, hi):
        row, probabilities = position_pointer(logp, p), position_pointer(y, p)
        a = promote(splat(row, 0.0))
        b = a
        for j in range(0, n, 2 * width):
            a = a - _products(row, probabilities, w, j, n - j)
            b = b - _products(row, probabilities, w, j + width, n - j - width)
        put(losses, p, reduce_add(a + b))


def nll_soft_backward(y, w, upstream, out, lo, hi):
    """out = -w y upstream."""
    n, upstreams = out.shape[1], pointer(upstream, 0)
    width, like = lanes(pointer(out, 0)), splat(pointer(out, 0), 0.0)
    for p in range(lo, hi):
        row, probabilities = position_pointer(out, p), position_pointer(y, p)
        g = splat(row, get(upstreams, 0 if upstream.size == 1 else p))
        for j in range(0, n, width):
            store_n(row, j, n - j, -(_weighted(probabilities, w, j, n - j, like) * g))
