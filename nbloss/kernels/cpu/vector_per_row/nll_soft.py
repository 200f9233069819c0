"""Negative log-likelihood of probabilities for contiguous rows, vectors along each row.

Element c goes to partial sum c mod (2 * lanes), in float64. The probabilities may have another storage type than the log-probabilities.
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_as, load_n, load_n_as, put, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import pointer, position_pointer, zero_fill
from nbloss.kernels.cpu.simd.vec import equal, promote, reduce_add, select


@njit(**INLINE)
def _product(q, v):
    """w y logp in float64; 0 where w y is 0, even if logp is infinite."""
    return promote(select(equal(q, 0.0), 0.0, q)) * promote(select(equal(q, 0.0), 0.0, v))


@njit(**INLINE)
def _whole(row, y, w, j):
    """w y logp of a whole vector of classes."""
    v = load(row, j)
    q = load_as(y, j, v)
    if w is not None:
        q = q * load(pointer(w, 0), j)
    return _product(q, v)


@njit(**INLINE)
def _part(row, y, w, j, count):
    """w y logp of the first ``count`` lanes; 0 in the others."""
    v = load_n(row, j, count, 0.0)
    q = load_n_as(y, j, count, 0.0, v)
    if w is not None:
        q = q * load_n(pointer(w, 0), j, count, 0.0)
    return _product(q, v)


def nll_soft(logp, y, w, loss, lo, hi):
    """loss = -sum of w y logp over the classes."""
    n, losses = logp.shape[1], pointer(loss, 0)
    width = lanes(pointer(logp, 0))
    for p in range(lo, hi):
        row, probabilities = position_pointer(logp, p), position_pointer(y, p)
        a = promote(splat(row, 0.0))
        b, j = a, 0
        while j + 2 * width <= n:
            a = a - _whole(row, probabilities, w, j)
            b = b - _whole(row, probabilities, w, j + width)
            j += 2 * width
        if j < n:
            a = a - _part(row, probabilities, w, j, n - j)
            b = b - _part(row, probabilities, w, j + width, n - j - width)
        put(losses, p, reduce_add(a + b))


def nll_soft_backward(y, w, upstream, out, lo, hi):
    """out = -w y upstream."""
    n, upstreams = out.shape[1], pointer(upstream, 0)
    width, like = lanes(pointer(out, 0)), splat(pointer(out, 0), 0.0)
    for p in range(lo, hi):
        row, probabilities = position_pointer(out, p), position_pointer(y, p)
        number = get(upstreams, 0 if upstream.size == 1 else p)
        if number == 0:  # also of probabilities that are nan
            zero_fill(row, n)
            continue
        g, j = -splat(row, number), 0
        while j + width <= n:
            q = load_as(probabilities, j, like)
            if w is not None:
                q = q * load(pointer(w, 0), j)
            store(row, j, q * g)
            j += width
        if j < n:
            q = load_n_as(probabilities, j, n - j, 0.0, like)
            if w is not None:
                q = q * load_n(pointer(w, 0), j, n - j, 0.0)
            store_n(row, j, n - j, q * g)
