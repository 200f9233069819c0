"""Unshifted sums of a tile: sums of exp(x) instead of exp(x - m), one position per lane, of at most LANES_MAX_CLASSES classes.

The search for the maximum m takes a third of the time, and few logits need it. ``unshifted_is_exact`` decides afterwards in which lanes the
sums have full precision.

===========  =========================================================================================================
y            class number of the target, relative to the class that is processed: 0 where that is the target
own          scaled exponential of the target
total, low   sum of the scaled exponentials of all other classes so far; its accumulated rounding error
others, s    sum of all other classes at the end; sum of all classes
===========  =========================================================================================================
"""

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.channels_first.pipeline import transfer_class
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_x4, splat, store
from nbloss.kernels.cpu.simd.vec import extract_x4, less, mask_and, masked_add, not_equal, select
from nbloss.kernels.cpu.simd.vecmath import exp_unshifted, rounding_error, unshifted_bounds

MAX_RATIO = 2.0**100  # the quotient of two numbers with at most this ratio is a normal float32 number


def _add_with_error(total, low, value):
    """``(total + value, low)``, with the rounding error of a float32 sum added to ``low``; float64 leaves ``low`` unchanged."""


@overload(_add_with_error, jit_options=INLINE)
def _typed_add_with_error(total, low, value):
    if total.elem == types.float64:
        return lambda total, low, value: (total + value, low)

    def add_float32(total, low, value):
        s = total + value
        return s, low + rounding_error(total, -value, s)

    return add_float32


@njit(**INLINE)
def accumulate_one(e, y, own, total):
    """``(own, total)`` after one class with exponential e, which is the target where y is 0."""
    other = not_equal(y, 0.0)
    return select(other, own, e), masked_add(other, total, e)


@njit(**INLINE)
def accumulate_four(e, y, own, total, low):
    """``(own, total, low)`` after four classes with exponentials e, of which number y (0 to 3) is the target."""
    first, second, third, fourth = extract_x4(e, 0), extract_x4(e, 1), extract_x4(e, 2), extract_x4(e, 3)
    not_first, not_second, not_third, not_fourth = not_equal(y, 0.0), not_equal(y, 1.0), not_equal(y, 2.0), not_equal(y, 3.0)
    own = select(not_second, select(not_first, own, first), second)
    own = select(not_fourth, select(not_third, own, third), fourth)
    lower = masked_add(not_second, select(not_first, first, 0.0), second)
    upper = masked_add(not_fourth, select(not_third, third, 0.0), fourth)
    total, low = _add_with_error(total, low, lower + upper)
    return own, total, low


@njit(**INLINE)
def finish_sums(own, total, low):
    """``(own, others, rounding error of others, s)``."""
    others = total + low
    low = low - (others - total)
    return own, others, low, others + (own + low)


@njit(**INLINE)
def unshifted_sums(tile, n, y, keep, transfers, run):
    """``finish_sums`` of a tile. Stores the scaled exponentials in ``keep``, unless it is None.

    The classes are processed in groups: the first group has n mod 4 classes, the others have four. Before each group,
    ``channels_first/pipeline`` transfers one class of other blocks, from class ``run`` on, unless ``transfers`` is None. The function is
    not an argument: so passed, (8, 21, 512, 512) took 1.8 of the time.
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
    """In which lanes the unshifted sums, and the quotient of ``others`` and ``own``, have full precision; false where one is nan."""
    tiny, least, most = unshifted_bounds(like)
    in_range = mask_and(mask_and(less(tiny, others), less(least, s)), less(s, most))
    return mask_and(in_range, mask_and(less(own, others * MAX_RATIO), less(others, own * MAX_RATIO)))
