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

GROUPS = 32  # of targets.GROUP rows, at most: so many sums have room (`_plain.MOST` is what is asked for)

_added = njit(**OPTIONS, **PART)(targets.added)
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


def _whole(walk, takes_one=True):
    """A kernel over ``walk``, a loss of rows or its gradient, which may take one scale for all."""

    def loss_and_gradient(x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out, count, chunk, workers, loop):
        if not _fits(out, x, target, weight):
            return False
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
            divisor, outside = _added(totals), 0
            for k in range(groups):
                outside += wrong[k]
            if outside > 0 or (divides and not divisor > 0.0):
                release(numbers)
                return False
        upstream[0] = g / divisor if divides else g
        walk(x, target, mask, scale, upstream, loss, out, count, chunk, workers, loop)
        if loss is not None and sums:
            _row_sum(loss, totals, 0, count)
            loss[0] = _added(totals) / (divisor if divides else 1.0)
        release(numbers)
        return True

    return loss_and_gradient


_picked, _placed = njit(**OPTIONS, **PART)(targets.nll), njit(**OPTIONS, **PART)(targets.nll_backward)


def _nll(x, target, mask, scale, upstream, loss, out, lo, hi):
    if loss is not None:
        _picked(x, target, mask, scale, loss, lo, hi)
    if out is not None:
        _placed(target, mask, scale, upstream, out, lo, hi)


def _entered(body, name, **options):
    kernel = _whole(njit(**OPTIONS, **PART)(shared(body)), **options)
    kernel.__qualname__ = name
    return kernel


_SHORT, _PIXELS = _entered(lanes.cross_entropy, "short"), _entered(pixels.cross_entropy, "pixels")
_LONG, _NLL = _entered(rows.cross_entropy, "long", takes_one=False), _entered(_nll, "nll")


_sums = njit(**OPTIONS, **PART)(shared(targets.nll_sums))


def nll_sum(x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out, count, chunk, workers, loop):
    """The sum of the NLL losses, in one pass: nothing is written, so targets need not be judged beforehand."""
    runs = (count + targets.RUN - 1) // targets.RUN
    numbers = room(local(np.float64, 1), 3 * runs)
    totals, divisors, wrong = view(numbers, runs), view(moved(numbers, runs), runs), view(moved(numbers, 2 * runs), runs)
    _sums(x, target, mask, wide, weight, ignore_index, totals, divisors, wrong, count, chunk, workers, loop)
    total, divisor, outside = _added(totals), _added(divisors), _added(wrong)
    release(numbers)
    if outside > 0.0 or (divides and not divisor > 0.0):
        return False
    loss[0] = total / (divisor if divides else 1.0)
    return True


def whole(operation, x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out):
    """Fill ``loss`` and, with g times the gradient of their sum or mean, ``out``; for arrays in C order; no weights are an empty array.

    The ``operation`` is "cross_entropy" or "nll". A sum (``divides``: by the weights that count) takes the place of the first loss; that of
    "nll" without a gradient needs room for no more, and takes rows of any strides. Returns whether that was done: where a target is no
    class, a mean has no positive sum of weights, or ``out`` shares memory that it may not, nothing has been written.
    """
    classes, count = x.shape[1], target.size
    numbers = classes
    if operation == "nll":
        body, multiple, numbers = _NLL, 64, targets.FETCHED if out is None else classes
        if sums and out is None:
            body, multiple = nll_sum, targets.RUN
    elif x.shape[2] == 1:
        body, multiple = (_SHORT, 16) if classes <= SHORT else (_LONG, 1)
    else:
        body, multiple = _PIXELS if pixels.walks(x, out) else _SHORT, 64
    variant = x.dtype, target.dtype, loss is None, out is None
    arguments = x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out
    return run(body, variant, arguments, _WRITTEN, count, numbers, multiple, body is _LONG, x.shape[2])


_WRITTEN = {"loss", "out"}
