"""Sums of a tile for class numbers, one position per lane, of at most LANES_MAX_CLASSES classes: of exp(x) where that keeps every digit.

The search for the maximum m takes a third of the time, and few logits need it. ``unshifted_is_exact`` decides afterwards in which lanes the
sums of exp(x) have full precision. In the others, m is subtracted (``shift``), with its rounding error.

===========  =========================================================================================================
y            class number of the target, relative to the class that is processed: 0 where that is the target
own          scaled exponential of the target
total, low   sum of the scaled exponentials of all other classes so far; its accumulated rounding error
others, s    sum of all other classes at the end; sum of all classes
shift        what is subtracted from the logits of each lane: m, or 0, which changes no bit; None: nothing in any lane
above        for label smoothing: the logit that the others are compared with: m where m is subtracted, else that of the target
gaps         float64 sum of w[c] (above - x[c]), where w are class weights, or None: ones
===========  =========================================================================================================
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.channels_first.pipeline import transfer_class
from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.reduce import weighted_gap
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_x4, splat, store
from nbloss.kernels.cpu.simd.vec import (
    extract_x4,
    less,
    mask_and,
    mask_or,
    masked_add,
    maximum,
    not_equal,
    promote,
    repeat_x4,
    select,
)
from nbloss.kernels.cpu.simd.vecmath import exp_unshifted, rounding_error, unshifted_bounds, unshifted_limits

MAX_RATIO = 2.0**100  # the quotient of two numbers with at most this ratio is a normal float32 number

MAX_GAP = 76.0  # logits with a larger difference have exponentials with a larger ratio, even if LANES_MAX_CLASSES of them are added


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
def _term(v, shift):
    """The scaled exponential of a class, or of four of them."""
    if shift is None:
        return exp_unshifted(v, None)
    t = v - shift
    return exp_unshifted(t, rounding_error(v, shift, t))


@none_of_none
def _repeated(shift):
    return repeat_x4(shift)


@none_of_none
def _no_gaps(above):
    return promote(above) * 0.0


@none_of_none
def _add_gap(gaps, above, v, w, c):
    """``gaps`` after class c with the logits v; None without smoothing."""
    return gaps + promote(weighted_gap(above, v, w, c))


@none_of_none
def _add_four_gaps(gaps, above, v, w, c):
    """``_add_gap`` of the classes c to c + 3."""
    first, second = weighted_gap(above, extract_x4(v, 0), w, c), weighted_gap(above, extract_x4(v, 1), w, c + 1)
    third, fourth = weighted_gap(above, extract_x4(v, 2), w, c + 2), weighted_gap(above, extract_x4(v, 3), w, c + 3)
    return gaps + promote((first + second) + (third + fourth))


@njit(**INLINE)
def target_sums(tile, n, y, shift, above, w, keep, transfers, run):
    """``(*finish_sums, gaps)`` of a tile. Stores the scaled exponentials in ``keep``, unless it is None; ``keep`` may be ``tile``.

    The classes are processed in groups: the first group has n mod 4 classes, the others have four. Before each group,
    ``channels_first/pipeline`` transfers one class of other blocks, from class ``run`` on, unless ``transfers`` is None. The function is
    not an argument: so passed, (8, 21, 512, 512) took 1.8 of the time.
    """
    width = lanes(tile)
    zero = splat(tile, 0.0)
    own = low = total = zero
    gaps, shifts = _no_gaps(above), _repeated(shift)
    c = n & 3
    if c > 0:
        if transfers is not None:
            transfer_class(transfers, run)
            run += 1
        for k in range(c):
            v = load(tile, k * width)
            e = _term(v, shift)
            if keep is not None:
                store(keep, k * width, e)
            own, total = accumulate_one(e, y, own, total)
            gaps = _add_gap(gaps, above, v, w, k)
            y = y - 1.0
    while c < n:
        if transfers is not None:
            transfer_class(transfers, run)
            run += 1
        v = load_x4(tile, c * width)
        e = _term(v, shifts)
        if keep is not None:
            store(keep, c * width, e)
        own, total, low = accumulate_four(e, y, own, total, low)
        gaps = _add_four_gaps(gaps, above, v, w, c)
        y = y - 4.0
        c += 4
    own, others, low, s = finish_sums(own, total, low)
    return own, others, low, s, gaps


@njit(**INLINE)
def unshifted_is_exact(own, others, s, like):
    """In which lanes the unshifted sums, and the quotient of ``others`` and ``own``, have full precision; false where one is nan."""
    tiny, least, most = unshifted_bounds(like)
    in_range = mask_and(mask_and(less(tiny, others), less(least, s)), less(s, most))
    return mask_and(in_range, mask_and(less(own, others * MAX_RATIO), less(others, own * MAX_RATIO)))


@njit(**INLINE)
def extremes(tile, n, y):
    """``(m, largest logit of a class that is not the target, x[y])``; -inf and 0 where y is no class. Ignores nan."""
    width = lanes(tile)
    largest, own = splat(tile, -np.inf), splat(tile, 0.0)
    for c in range(n):
        v, other = load(tile, c * width), not_equal(y, 0.0)
        largest = maximum(select(other, v, -np.inf), largest)
        own = select(other, own, v)
        y = y - 1.0
    return maximum(own, largest), largest, own


@njit(**INLINE)
def unshifted_would_fail(m, largest, own, like):
    """Lanes that ``unshifted_is_exact`` would certainly refuse: the sums need not be taken to know. Arguments of `extremes`."""
    lowest, below, highest = unshifted_limits(like)
    far = mask_or(less(m, below), less(highest, m))
    apart = mask_or(less(own + MAX_GAP, largest), less(largest + MAX_GAP, own))
    return mask_or(mask_or(far, apart), less(largest, lowest))
