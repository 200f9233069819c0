"""The sums of a tile's exponentials as they are, one row or pixel per lane, of at most ``lane_sums.SHORT`` classes.

The maximum is not looked for first: that takes a third of the time, and logits seldom need it. ``bare_enough`` says afterwards where every
digit is there.
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.memory import lanes, load, load_four, splat, store
from nbloss.kernels.cpu.moves import move
from nbloss.kernels.cpu.simd import add_where, both, differ, less, quarter, select
from nbloss.kernels.cpu.vecmath import STRICT, bounds, exp_bare, lost

WIDEST = 2.0**100  # a ratio that float32 divides without leaving its normal numbers


def _summed(total, low, value):
    """``total + value``, and ``low`` with what rounding took from a float32 sum."""


@overload(_summed, jit_options=STRICT)
def _typed_summed(total, low, value):
    if total.elem == types.float64:
        return lambda total, low, value: (total + value, low)

    def exactly(total, low, value):
        s = total + value
        return s, low + lost(total, -value, s)

    return exactly


@njit(**STRICT)
def add_one(e, y, own, total):
    """``own``, or a class's exponential where that is y (0 here), and ``total`` with it elsewhere."""
    other = differ(y, 0.0)
    return select(other, own, e), add_where(other, total, e)


@njit(**STRICT)
def add_four(e, y, own, total, low):
    """``add_one`` of four classes, which are 0 to 3 here; ``low`` takes what rounding took from the total."""
    first, second, third, fourth = quarter(e, 0), quarter(e, 1), quarter(e, 2), quarter(e, 3)
    not_first, not_second, not_third, not_fourth = differ(y, 0.0), differ(y, 1.0), differ(y, 2.0), differ(y, 3.0)
    own = select(not_second, select(not_first, own, first), second)
    own = select(not_fourth, select(not_third, own, third), fourth)
    lower = add_where(not_second, select(not_first, first, 0.0), second)
    upper = add_where(not_fourth, select(not_third, third, 0.0), fourth)
    total, low = _summed(total, low, lower + upper)
    return own, total, low


@njit(**STRICT)
def summed_up(own, total, low):
    """The exponential of class y, the sum of all others, what rounding took from that, and the sum of all."""
    others = total + low
    low = low - (others - total)
    return own, others, low, others + (own + low)


@njit(**STRICT)
def bare_sums(tile, n, y, keep, moving, run):
    """What ``summed_up`` says of a tile, in scaled exponentials.

    ``keep`` takes the exponentials. Before each four classes a ``run`` is moved, from that one on, and one before what is left of them
    (``moves.py``).
    """
    step = lanes(tile)
    zero = splat(tile, 0.0)
    own = low = total = zero
    c = n & 3
    if c > 0:
        if moving is not None:
            move(moving, run)
            run += 1
        for k in range(c):
            e = exp_bare(load(tile, k * step))
            if keep is not None:
                store(keep, k * step, e)
            own, total = add_one(e, y, own, total)
            y = y - 1.0
    while c < n:
        if moving is not None:
            move(moving, run)
            run += 1
        e = exp_bare(load_four(tile, c * step))
        if keep is not None:
            store(keep, c * step, e)
        own, total, low = add_four(e, y, own, total, low)
        y = y - 4.0
        c += 4
    return summed_up(own, total, low)


@njit(**STRICT)
def bare_enough(own, others, s, like):
    """Where sums of bare exponentials have every digit, and will when one is divided by the other; nowhere where one is nan."""
    tiny, least, most = bounds(like)
    whole = both(both(less(tiny, others), less(least, s)), less(s, most))
    return both(whole, both(less(own, others * WIDEST), less(others, own * WIDEST)))
