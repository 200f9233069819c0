"""Floor 1: a whole cross entropy of class numbers in one call: targets, rows and sums.

Three kernels and their buffers cost a small call more than its arithmetic, and a large one has to run the Python between them from cold
caches. The targets are judged, and the losses added, by the thread that calls: together they are one pass over a few numbers per row.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu import lanes, pixels, rows, targets
from nbloss.kernels.cpu.jit import run, shared
from nbloss.kernels.cpu.lane_sums import SHORT
from nbloss.kernels.cpu.memory import address, moved, pointer
from nbloss.kernels.cpu.parts import PART
from nbloss.kernels.cpu.rooms import local, release, room, view
from nbloss.kernels.cpu.shares import OPTIONS

GROUPS = 16  # of targets.GROUP rows, at most: so many sums have room (`_plain.MOST` is what is asked for)

_row_scale = njit(**OPTIONS, **PART)(targets.row_scale)
_row_sum = njit(**OPTIONS, **PART)(targets.row_sum)


@njit(**OPTIONS, **PART)
def _overlap(a, b):
    """Whether two arrays in C order share memory."""
    return address(pointer(a, 0)) < address(pointer(b, b.size)) and address(pointer(b, 0)) < address(pointer(a, a.size))


@njit(**OPTIONS, **PART)
def _fits(out, x, target, weight):
    """Whether ``out`` may be written: it is ``x`` itself, or shares no memory with anything."""
    if out is None:
        return True
    beside = address(pointer(out, 0)) == address(pointer(x, 0)) or not _overlap(out, x)
    return beside and not _overlap(out, target) and not _overlap(out, weight)


def _whole(walk, takes_one):
    """A kernel over ``walk``, the cross entropy of rows, lanes or pixels, which may take one scale for all."""

    def cross_entropy(x, target, mask, wide, weight, ignore_index, mean, loss, out, count, chunk, workers, loop):
        if not _fits(out, x, target, weight):
            return 0.0, 0.0, False
        groups = (count + targets.GROUP - 1) // targets.GROUP
        numbers = room(pointer(x, 0), count + 1)
        upstream = view(moved(numbers, count), 1)
        totals, wrong = view(local(np.float64, GROUPS), groups), view(local(np.int64, GROUPS), groups)
        divisor, size = 0.0, 1 if takes_one and weight.size == 0 else count
        for again in range(2):
            if again:
                if size == count or divisor == count:
                    break
                size = count  # some row is ignored
            scale = view(numbers, size)
            scale[0] = 1.0
            _row_scale(target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, totals, wrong, 0, count)
            divisor, outside = 0.0, 0
            for k in range(groups):
                divisor += totals[k]
                outside += wrong[k]
            if outside > 0:
                release(numbers)
                return 0.0, 0.0, False
        upstream[0] = 1.0 / divisor if mean else 1.0
        walk(x, target, mask, scale, upstream, loss, out, count, chunk, workers, loop)
        _row_sum(loss, totals, 0, count)
        total = 0.0
        for k in range(groups):
            total += totals[k]
        release(numbers)
        return total, divisor, True

    return cross_entropy


_SHORT, _PIXELS, _LONG = (_whole(njit(**OPTIONS, **PART)(shared(walk.cross_entropy)), walk is not rows) for walk in (lanes, pixels, rows))
_SHORT.__qualname__, _PIXELS.__qualname__, _LONG.__qualname__ = "short", "pixels", "long"


def whole(x, target, mask, wide, weight, ignore_index, mean, loss, out):
    """Fill ``loss`` and, with the gradient of their mean or sum, ``out``; for arrays in C order; no weights are an empty array.

    Returns the sum of the losses, the sum of the weights that count, and whether that was done: where a target is no class, or ``out``
    shares memory that it may not, nothing has been written.
    """
    classes, count = x.shape[1], target.size
    if x.shape[2] == 1:
        body, multiple = (_SHORT, 16) if classes <= SHORT else (_LONG, 1)
    else:
        body, multiple = _PIXELS if pixels.walks(x, out) else _SHORT, 64
    variant = x.dtype, target.dtype, out is None
    arguments = x, target, mask, wide, weight, ignore_index, mean, loss, out
    return run(body, variant, arguments, _WRITTEN, count, classes, multiple, body is _LONG, x.shape[2])


_WRITTEN = {"loss", "out"}
