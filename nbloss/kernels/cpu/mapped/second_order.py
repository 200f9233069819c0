"""The second derivatives of losses whose logits are mapped: what comes before and after those with respect to the mapped logits.

Arrays are contiguous, of the computed type, and as long as a multiple of the grain in ``choose``: vectors are written whole.
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.logit_map import bend, map_run, second
from nbloss.kernels.cpu.simd.load_store import lanes, load, splat, store
from nbloss.kernels.cpu.simd.pointers import pointer


@njit(**INLINE)
def _capped(u, slope, bends, lo, hi, cap, scale):
    map_run(pointer(u, lo), pointer(u, lo), pointer(slope, lo), hi - lo, cap, scale)
    logits, slopes, result = pointer(u, 0), pointer(slope, 0), pointer(bends, 0)
    ratio, inverse = scale / cap, 1 / cap
    for i in range(lo, hi, lanes(logits)):
        store(result, i, bend(load(logits, i), load(slopes, i), ratio, inverse))


@njit(**INLINE)
def _scaled(u, slope, bends, lo, hi, scale):
    logits, slopes, result = pointer(u, 0), pointer(slope, 0), pointer(bends, 0)
    for i in range(lo, hi, lanes(logits)):
        store(logits, i, load(logits, i) * scale)
        store(slopes, i, splat(logits, scale))
        store(result, i, splat(logits, 0.0))


@njit(**INLINE)
def _mapped(u, slope, bends, lo, hi, cap, scale):
    if cap is None:
        _scaled(u, slope, bends, lo, hi, scale)
    else:
        _capped(u, slope, bends, lo, hi, cap, scale)


def map_logits(u, slope, bends, moved, options, lo, hi):
    """Replace logits by u, fill ``slope`` and ``bends``, and multiply ``moved`` by the slopes."""
    _mapped(u, slope, bends, lo, hi, options.softcap, options.logit_scale)
    vectors, slopes = pointer(moved, 0), pointer(slope, 0)
    for i in range(lo, hi, lanes(vectors)):
        store(vectors, i, load(vectors, i) * load(slopes, i))


def unmap(product, slope, gradient, bends, v, lo, hi):
    """Replace the Hessian times an array, with respect to u, by that with respect to x."""
    products, slopes, gradients = pointer(product, 0), pointer(slope, 0), pointer(gradient, 0)
    curves, values = pointer(bends, 0), pointer(v, 0)
    for i in range(lo, hi, lanes(products)):
        store(products, i, second(load(products, i), load(slopes, i), load(gradients, i), load(curves, i), load(values, i)))
