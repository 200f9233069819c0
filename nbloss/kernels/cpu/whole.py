"""Floor 1: a whole small call at once. Three kernels and their buffers cost more to call than to run."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu import lanes, rows, targets
from nbloss.kernels.cpu.jit import OPTIONS, compiled
from nbloss.kernels.cpu.memory import pointer, room

_row_scale = njit(**OPTIONS)(targets.row_scale)
_row_sum = njit(**OPTIONS)(targets.row_sum)


def _whole(walk):
    """A kernel over ``walk``, the cross entropy of rows or of lanes."""

    def mean(x, target, mask, wide, ignore_index, out, lo, hi):
        numbers = room(pointer(x, 0), 2 * hi + 1)
        scale, loss, upstream = numbers[:hi], numbers[hi : 2 * hi], numbers[2 * hi :]
        totals, bad = np.empty(1), np.empty((1, 2), np.int64)
        _row_scale(target, mask, wide, None, x.shape[1], ignore_index, 1.0, 0.0, scale, None, totals, bad, lo, hi)
        divisor = totals[0]
        if bad[0, 0] > 0:
            return 0.0, -1.0
        upstream[0] = 1.0 / divisor
        walk(x, target, mask, scale, upstream, loss, out, lo, hi)
        _row_sum(loss, totals, lo, hi)
        return totals[0], divisor

    return mean


_SHORT, _LONG = _whole(njit(**OPTIONS)(lanes.cross_entropy)), _whole(njit(**OPTIONS)(rows.cross_entropy))
_SHORT.__qualname__, _LONG.__qualname__ = "short", "long"


def mean(x, target, mask, wide, ignore_index, out):
    """``(sum of losses, divisor)`` of at most GROUP rows with contiguous classes, no options; the gradient of the mean where ``out`` is.

    The divisor is -1 where a target is no class: nothing has been written then.
    """
    body = _SHORT if x.shape[1] <= lanes.SHORT else _LONG
    arguments = x, target, mask, wide, ignore_index, out
    return compiled(body, (x.dtype, target.dtype, out is None), arguments, {"out"})(*arguments, 0, target.size)
