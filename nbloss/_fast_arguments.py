"""Which arguments of a loss the fast path takes, and what the kernels get for them. For all others the general path takes the call."""

from math import inf

import numpy as np
from numpy import ndarray

from nbloss._arguments import float_kind
from nbloss._problem import overlaps_itself, signed_view

C_ALIGNED, C_WRITEABLE = 0x0101, 0x0501  # bits of `flags.num`: C order and alignment; the same, and writeable

known_dtypes: dict = {}  # (dtype of logits, dtype of targets) -> what `describe` returns


def describe(logits, target):
    """What the kernels need to know about two dtypes; None if the fast path does not take them.

    ``(view of the logits, an empty weight array, whether targets are probabilities, view of the targets, their mask, whether they are
    uint64)``, as in ``nbloss._problem``.
    """
    known, seen, soft = None, float_kind(logits), float_kind(target)
    if seen and logits.isnative and target.isnative:
        if soft:
            known = seen[0], np.empty(0, seen[1]), True, soft[0], -1, False
        elif target.kind in "iub":
            known = seen[0], np.empty(0, seen[1]), False, *signed_view(target)
    known_dtypes[logits, target] = known
    return known


def is_writable(out, shape, dtype):
    """Whether the kernels write ``out``: of this shape and dtype, each element in a place of its own."""
    if is_in_order(out, shape, dtype):
        return True
    if type(out) is not ndarray or out.dtype != dtype or out.shape != shape or not out.flags.writeable:
        return False
    return not overlaps_itself(out)


def is_in_order(out, shape, dtype):
    """Whether ``out`` is a writeable array of this shape and dtype in C order."""
    return type(out) is ndarray and out.shape == shape and out.dtype == dtype and out.flags.num & C_WRITEABLE == C_WRITEABLE


def fits_classes(weight, classes, dtype):
    """Whether the kernels take class weights as they are."""
    return type(weight) is ndarray and weight.dtype == dtype and weight.shape == (classes,) and weight.flags.num & C_ALIGNED == C_ALIGNED


def row_weights(array, shape, dtype, out):
    """Sample weights as the kernels take them; None if the general path must take them, also where ``out`` may share their memory."""
    if type(array) is not ndarray or array.shape != shape or array.dtype.kind not in "iuf" or not array.dtype.isnative:
        return None
    if out is not None and (type(out) is not ndarray or np.may_share_memory(array, out)):
        return None
    return np.ascontiguousarray(array, dtype).reshape(-1)


def plain_divisor(divisor, over):
    """A divisor of the mean, in place of ``over``; None if the general path must take it: where it is no mean (``over`` is not 0), too."""
    if over or type(divisor) not in (float, int, np.int64, np.float64, np.float32):
        return None
    try:
        divisor = float(divisor)
    except OverflowError:  # an int beyond float64
        return None
    return divisor if 0.0 < divisor < inf else None


def fits_rows(g, shape, dtype):
    """Whether the kernels take an upstream gradient of a number per position as it is."""
    return g.shape == shape and g.dtype == dtype and g.flags.num & C_ALIGNED == C_ALIGNED


def plain_upstream(g, shape, dtype):
    """An upstream gradient as a float, or as an array of one number per position; None if it is none of the usual types."""
    kind = type(g)
    if kind is ndarray and g.ndim:
        return g.reshape(-1) if fits_rows(g, shape, dtype) else None
    return g if kind is float else float(g) if kind is int or kind is np.float32 or kind is np.float64 else None
