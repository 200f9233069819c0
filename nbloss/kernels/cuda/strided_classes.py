"""What kernels do with the classes of a position that a thread takes: ``first``, ``first + step``, ... Class c is at base + c stride."""

import numpy as np

from nbloss.kernels.cuda.exp import REAL_TYPE
from nbloss.kernels.cuda.prims.api import device, get, maximum, maximum_old


def make_largest(kind, sm80):
    """``largest(x, base, first, step, stride, classes)``: the maximum of this thread's classes; nan if one of them is nan."""
    larger, lowest = maximum if sm80 else maximum_old, REAL_TYPE[kind](-np.inf)

    @device
    def largest(x, base, first, step, stride, classes):
        m = lowest
        c = first
        while c < classes:
            m = larger(m, get(x, base + c * stride))
            c += step
        return m

    return largest
