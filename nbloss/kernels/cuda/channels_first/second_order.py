"""The second derivatives of strided classes and of short rows, and the sums of their target distributions: one thread per position."""

from nbloss.kernels.cuda.indexing import position_offset, thread_position
from nbloss.kernels.cuda.prims.api import get, put
from nbloss.kernels.cuda.second_order import Steps, mass_sum


def hessian(kind, sm80, product, optioned):
    """The Hessian times v (``product``), or its diagonal."""
    steps = Steps(kind, sm80, product, optioned)
    largest, sums, finished, write = steps.largest, steps.sums, steps.finished, steps.write

    def kernel(x, v, coef, coef_stride, option, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            m = largest(x, base, 0, 1, inner, classes)
            others, products, ties, at_top = sums(x, v, base, 0, 1, inner, classes, m)
            rest, s, ref, mean = finished(others, products, ties, at_top, m)
            write(x, v, out, base, 0, 1, inner, classes, m, rest, s, ref, mean, get(coef, p * coef_stride), option)

    return kernel


def row_mass():
    """mass = sum of w (a y + b) of each position."""

    def kernel(y, w, a, b, mass, classes, inner, count):
        p = thread_position()
        if p < count:
            put(mass, p, mass_sum(y, w, a, b, position_offset(p, classes, inner), 0, 1, inner, classes))

    return kernel
