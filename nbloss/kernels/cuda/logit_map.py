"""The logit map (``math.logit_map``), compiled for CUDA, and its kernels: one thread per logit.

The mapped logits go to scratch memory of the computed type, where the kernels of a loss replace them by their gradient. A second kernel
multiplies that by the slopes, which it computes again from the logits.
"""

import numpy as np

from nbloss.kernels.cuda.exp import REAL_TYPE
from nbloss.kernels.cuda.indexing import blocks, thread_position
from nbloss.kernels.cuda.operators import less, select
from nbloss.kernels.cuda.prims.api import device, exp, fma, get, put
from nbloss.kernels.cuda.runtime import launch
from nbloss.kernels.cuda.runtime.arguments import c_ordered
from nbloss.kernels.cuda.tuning import BLOCK_THREADS
from nbloss.kernels.math import logit_map
from nbloss.kernels.math.epilogue import typed


@device
def _absolute(a):
    return abs(a)


_KINDS = {"f": "float32", "d": "float64"}  # NumPy takes microseconds to name a dtype


def make_map(kind):
    """``map(x, cap, scale, ratio)``, which gives u and the slope of a logit, and ``bend`` and ``second`` of the formulas."""
    real = REAL_TYPE[kind]
    zero, one, lowest = real(0), real(1), real(-np.inf)

    @device
    def copysign(size, x):
        return -size if x < zero else size

    @device
    def bounded_exp(t):
        return exp(t if t > lowest else lowest)  # the bound replaces nan

    coefficients = [real(number) for number in logit_map.NEAR[np.dtype(real).itemsize]]
    polynomial = logit_map.make_polynomial(device, fma, coefficients)
    near, capped, bend, second = logit_map.make(device, device, real, select, less, fma, _absolute, copysign, bounded_exp, polynomial)

    @device
    def of_logit(x, cap, scale, ratio):
        v = x * ratio
        z = v * v
        tanh, slope = near(v, z, scale)
        if z < one:
            return cap * tanh, slope
        return capped(x, v, z, tanh, slope, scale, cap)

    return of_logit, bend, second


def map_logits(kind, capped):
    """u of each logit."""
    of_logit, _, _ = make_map(kind)

    def kernel(x, u, count, cap, scale, ratio):
        p = thread_position()
        if p < count:
            if capped:
                put(u, p, of_logit(get(x, p), cap, scale, ratio)[0])
            else:
                put(u, p, get(x, p) * scale)

    return kernel


def multiply_slopes(kind, capped):
    """The gradient of each logit, from that of u; ``out`` may be x."""
    of_logit, _, _ = make_map(kind)

    def kernel(x, gradient, out, count, cap, scale, ratio):
        p = thread_position()
        if p < count:
            if capped:
                put(out, p, get(gradient, p) * of_logit(get(x, p), cap, scale, ratio)[1])
            else:
                put(out, p, get(gradient, p) * scale)

    return kernel


def map_second(kind, capped, given):
    """u, the slope and the bend of each logit, and v times the slope; without v (``given``), the slope."""
    real = REAL_TYPE[kind]
    zero, one = real(0), real(1)
    of_logit, bend, _ = make_map(kind)

    def kernel(x, v, u, slope, bends, moved, count, cap, scale, ratio):
        p = thread_position()
        if p < count:
            logit, steep, curve = get(x, p) * scale, scale, zero
            if capped:
                logit, steep = of_logit(get(x, p), cap, scale, ratio)
                curve = bend(logit, steep, ratio, one / cap)
            put(u, p, logit)
            put(slope, p, steep)
            put(bends, p, curve)
            put(moved, p, get(v, p) * steep if given else steep)

    return kernel


def unmap_second(kind, given):
    """The Hessian times v of each logit; without v (``given``), the diagonal."""
    one = REAL_TYPE[kind](1)
    _, _, second = make_map(kind)

    def kernel(product, slope, gradient, bends, v, out, count):
        p = thread_position()
        if p < count:
            steep = get(slope, p)
            of_u = get(product, p) if given else get(product, p) * steep
            put(out, p, second(of_u, steep, get(gradient, p), get(bends, p), get(v, p) if given else one))

    return kernel


def _numbers(options, dtype):
    """``(whether there is a cap, (cap, scale, ratio))`` of options that map logits, in the type of the arithmetic."""
    numbers, zero = typed(options, dtype), dtype.type(0)
    if numbers.softcap is None:
        return False, (zero, numbers.logit_scale, zero)
    return True, (numbers.softcap, numbers.logit_scale, numbers.logit_scale / numbers.softcap)


def mapped_hessian(kernels, x, v, options, hessian, gradient, out):
    """`contract`'s operation."""
    if not x.size:
        return
    kind, given, (capped, numbers) = _KINDS[x.dtype.char], v is not None, _numbers(options, x.dtype)
    u, slope, bends, moved, product, of_logits = (kernels.scratch(x.shape, x.dtype) for _ in range(6))
    x, v = c_ordered(kernels, x), c_ordered(kernels, v) if given else u  # not read without v
    size = blocks(x.size), BLOCK_THREADS
    launch.run(kernels, map_second, (kind, capped, given), *size, x, v, u, slope, bends, moved, x.size, *numbers)
    hessian(u, moved if given else None, product, None)
    gradient(u, of_logits, None)
    launch.run(kernels, unmap_second, (kind, given), *size, product, slope, of_logits, bends, v, out, x.size)


class Mapped:
    """What the launches of a loss take in place of logits, options and output: those themselves, if no option maps logits."""

    def __init__(self, kernels, x, options, dtype, out):
        self.x, self.options, self.out, self.unmapped = x, options, out, None
        if options is not None and options.maps:
            capped, numbers = _numbers(options, dtype)
            logits, self.x, self.options = c_ordered(kernels, x), kernels.scratch(x.shape, dtype), options.of_rows
            self.unmapped = kernels, logits, out, (_KINDS[dtype.char], capped), (logits.size, *numbers)
            self._run(map_logits, logits, self.x)
            self.out = None if out is None else self.x

    def _run(self, make, *arrays):
        kernels, logits, _, constants, numbers = self.unmapped
        launch.run(kernels, make, constants, blocks(logits.size), BLOCK_THREADS, *arrays, *numbers)

    def finish(self):
        """Write the gradient of the logits, after the launch."""
        if self.unmapped is not None and self.out is not None:
            _, logits, out, _, _ = self.unmapped
            self._run(multiply_slopes, logits, self.out, out)
