"""The arithmetic of one row whose classes are in the registers of one thread, whatever the memory that they come from.

`channels_first.registers` has them in columns of a thread's own memory, `rows.row_per_thread` in shared memory.

======  ====================================================================================================
symbol  meaning
======  ====================================================================================================
m       maximum of the position's logits
s       sum of exp(x - m)
rest    s - 1: the sum without one of the terms of the maximum, which keeps its digits where s rounds to 1
ties    how many terms equal that of the maximum, minus 1; they are counted, the other terms are added
======  ====================================================================================================

m - m is added to rest: it is nan where m is not finite, so that the whole position becomes nan, and 0 otherwise.
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.epilogue import index_at_target, index_factor, index_loss
from nbloss.kernels.cuda.exp import EXP_OF_POSITION, REAL_TYPE
from nbloss.kernels.cuda.prims.api import device, log1p, maximum, maximum_old, put

LOW_BITS = 0x7FFFFFFF  # of a class number, which is small here: 32 bits take half as many instructions as 64


@device
def get_in_column(column, i):
    return column[i]


@device
def put_in_column(column, i, number):
    column[i] = number


def make_log_softmax(classes, kind, sm80, probabilities, exponentials=EXP_OF_POSITION, read=get_in_column, write=put_in_column):
    """``position(x, out, base, inner)`` for one position, whose classes are at base + c inner.

    It writes (x - m) - log s; with ``probabilities`` exp(x - m) / s. ``read`` and ``write`` are ``get`` and ``put`` for the memory of x and
    out, and ``exponentials`` is a table of ``exp``.
    """
    real, (reference, exp_of_row, unit, inverse) = REAL_TYPE[kind], exponentials[kind]
    larger = maximum if sm80 else maximum_old
    zero, one, lowest = real(0), real(1), real(-np.inf)

    @device
    def position(x, out, base, inner):
        held = cuda.local.array(classes, real)
        m = lowest
        for c in range(classes):
            held[c] = read(x, base + c * inner)
            m = larger(m, held[c])
        ref = reference(m)
        even, odd, ties = zero, zero, real(classes - 1)
        for c in range(classes):
            v = held[c]
            e = exp_of_row(v, ref)
            smaller = one if v < m else zero
            ties -= smaller
            if c % 2:
                odd += e * smaller
            else:
                even += e * smaller
            if probabilities:
                held[c] = unit(ref) if v == m else e
        rest = (even + odd) * inverse(ref) + ties + (m - m)
        term = one / (rest + one) * inverse(ref) if probabilities else log1p(rest)
        for c in range(classes):
            write(out, base + c * inner, held[c] * term if probabilities else (held[c] - m) - term)

    return position


def make_cross_entropy(
    classes, kind, sm80, gradient,
    exponentials=EXP_OF_POSITION, read=get_in_column, write=put_in_column, read_upstream=get_in_column, indexed=False,
):  # fmt: skip
    """``position(x, base, inner, y, weight, upstream, at, options, loss, p, out)`` for one position, whose classes are at base + c inner.

    It writes loss p, and with ``gradient`` the gradient. y is the target, or any number if weight is 0. The upstream gradient is
    read_upstream(upstream, at). ``indexed``: reading and writing the target's class once more costs less than comparing every class with
    the target, because the classes are in shared memory. The others are those of ``make_log_softmax``.
    """
    real, (reference, exp_of_row, unit, inverse) = REAL_TYPE[kind], exponentials[kind]
    larger = maximum if sm80 else maximum_old
    zero, one, lowest = real(0), real(1), real(-np.inf)

    @device
    def position(x, base, inner, y, weight, upstream, at, options, loss, p, out):
        held = cuda.local.array(classes, real)
        m = lowest
        for c in range(classes):
            held[c] = read(x, base + c * inner)
            m = larger(m, held[c])
        ref = reference(m)
        even, odd, ties = zero, zero, real(classes - 1)
        x_y, e_y = m, zero if indexed else unit(ref)
        if indexed:
            if weight != zero:
                x_y = read(x, base + y * inner)
            e_y = exp_of_row(x_y, ref)
        for c in range(classes):
            v = held[c]
            e = exp_of_row(v, ref)
            smaller = one if v < m else zero
            ties -= smaller
            if c % 2:
                odd += e * smaller
            else:
                even += e * smaller
            if not indexed and c == y:
                x_y, e_y = v, e
            held[c] = e
        rest = (even + odd) * inverse(ref) + ties + (m - m)
        s = rest + one
        value, log_s, gap = zero, zero, zero
        if weight != zero:
            log_s, gap = log1p(rest), m - x_y
            value = index_loss(weight, log_s, gap, m, options)
        put(loss, p, value)
        if gradient:
            coef = weight * read_upstream(upstream, at)
            is_zero = weight == zero or coef == zero
            of_p = index_factor(coef, log_s, gap, m, options)
            factor = zero if is_zero else of_p / s * inverse(ref)  # no exponential is inf or nan
            own = e_y * inverse(ref)
            at_target = index_at_target(coef, of_p, s - own if x_y < m else rest, own, s, log_s, m, options)
            at_target = zero if is_zero else at_target
            for c in range(classes):
                write(out, base + c * inner, at_target if not indexed and c == y else held[c] * factor)
            if indexed and not is_zero:
                write(out, base + y * inner, at_target)

    return position
