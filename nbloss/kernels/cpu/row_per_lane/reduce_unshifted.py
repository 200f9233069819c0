"""The sums of a tile's exponentials as they are, one row or pixel per lane, of at most ``lane_sums.SHORT`` classes.

The maximum is not looked for first: that takes a third of the time, and logits seldom need it. ``bare_enough`` says afterwards where every
digit is there.
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.channels_first.pipeline import transfer_class
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_x4, splat, store
from nbloss.kernels.cpu.simd.vec import extract_x4, less, mask_and, masked_add, not_equal, select
from nbloss.kernels.cpu.simd.vecmath import exp_unshifted, rounding_error, unshifted_bounds

MAX_RATIO = 2.0**100  # a ratio that float32 divides without leaving its normal numbers


def _add_exactly(total, low, value):
    """``total + value``, and ``low`` with what rounding took from a float32 sum."""


@overload(_add_exactly, jit_options=INLINE)
def _typed_add_exactly(total, low, value):
    if total.elem == types.float64:
        return lambda total, low, value: (total + value, low)

    def exactly(total, low, value):
        s = total + value
        return s, low + rounding_error(total, -value, s)

    return exactly


@njit(**INLINE)
def accumulate_one(e, y, own, total):
    """``own``, or a class's exponential where that is y (0 here), and ``total`` with it elsewhere."""
    other = not_equal(y, 0.0)
    return select(other, own, e), masked_add(other, total, e)


@njit(**INLINE)
def accumulate_four(e, y, own, total, low):
    """``add_one`` of four classes, which are 0 to 3 here; ``low`` takes what rounding took from the total."""
    first, second, third, fourth = extract_x4(e, 0), extract_x4(e, 1), extract_x4(e, 2), extract_x4(e, 3)
    not_first, not_second, not_third, not_fourth = not_equal(y, 0.0), not_equal(y, 1.0), not_equal(y, 2.0), not_equal(y, 3.0)
    own = select(not_second, select(not_first, own, first), second)
    own = select(not_fourth, select(not_third, own, third), fourth)
    lower = masked_add(not_second, select(not_first, first, 0.0), second)
    upper = masked_add(not_fourth, select(not_third, third, 0.0), fourth)
    total, low = _add_exactly(total, low, lower + upper)
    return own, total, low


@njit(**INLINE)
def finish_sums(own, total, low):
    """The exponential of class y, the sum of all others, what rounding took from that, and the sum of all."""
    others = total + low
    low = low - (others - total)
    return own, others, low, others + (own + low)


@njit(**INLINE)
def unshifted_sums(tile, n, y, keep, transfers, run):
    """What ``summed_up`` says of a tile, in scaled exponentials.

    ``keep`` takes the exponentials. Before each four classes a ``run`` is moved, from that one on, and one before what is left of them
    (``moves.py``).
    """
    width = lanes(tile)
    zero = splat(tile, 0.0)
    own = low = total = zero
    c = n & 3
    if c > 0:
        if transfers is not None:
            transfer_class(transfers, run)
            run += 1
        for k in range(c):
            e = exp_unshifted(load(tile, k * width))
            if keep is not None:
                store(keep, k * width, e)
            own, total = accumulate_one(e, y, own, total)
            y = y - 1.0
    while c < n:
        if transfers is not None:
            transfer_class(transfers, run)
            run += 1
        e = exp_unshifted(load_x4(tile, c * width))
        if keep is not None:
            store(keep, c * width, e)
        own, total, low = accumulate_four(e, y, own, total, low)
        y = y - 4.0
        c += 4
    return finish_sums(own, total, low)


@njit(**INLINE)
def unshifted_is_exact(own, others, s, like):
    """Where sums of bare exponentials have every digit, and will when one is divided by the other; nowhere where one is nan."""
    tiny, least, most = unshifted_bounds(like)
    in_range = mask_and(mask_and(less(tiny, others), less(least, s)), less(s, most))
    return mask_and(in_range, mask_and(less(own, others * MAX_RATIO), less(others, own * MAX_RATIO)))
