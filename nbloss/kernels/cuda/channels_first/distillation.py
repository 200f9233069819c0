"""The distillation loss of strided classes, and of short rows: one thread per position."""

from nbloss.kernels.cuda.divergence import Steps
from nbloss.kernels.cuda.indexing import position_offset, thread_position
from nbloss.kernels.cuda.prims.api import get, put


def distillation(kind, sm80, gradient):
    """Losses and, with ``gradient``, their gradient."""
    steps = Steps(kind, sm80)
    real, largest, gap_sums, term_sums = steps.real, steps.largest, steps.gap_sums, steps.term_sums
    is_large, loss_of, write = steps.is_large, steps.loss_of, steps.write

    def kernel(x, y, beta, square, upstream, upstream_stride, loss, out, classes, inner, count):
        p = thread_position()
        if p < count:
            base = position_offset(p, classes, inner)
            m, top = largest(y, base, 0, 1, inner, classes), largest(x, base, 0, 1, inner, classes)
            s, gaps, own, impossible = gap_sums(x, y, base, 0, 1, inner, classes, m, top, beta)
            k = real(gaps / s) * beta
            large = is_large(m, top, k, beta, impossible)
            excess, shift = 0.0, 0.0
            if not large:
                excess, shift = term_sums(x, y, base, 0, 1, inner, classes, m, k, beta)
            value, total = loss_of(large, m, top, k, beta, s, own, impossible, excess, shift)
            put(loss, p, value * square)
            if gradient:
                g = get(upstream, p * upstream_stride)
                write(x, y, out, base, 0, 1, inner, classes, large, m, top, k, beta, g, s, own, total)

    return kernel
