"""A whole cross entropy of class numbers in one call: targets, rows and sums.

Three kernels and their buffers cost a small call more than its arithmetic, and a large one has to run the Python between them from cold
caches. The targets are judged, and the losses added, by the thread that calls: together they are one pass over a few numbers per row.
Where only a sum of few classes is asked for, nothing is written, and each thread judges and adds its own rows.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu import lanes, pixels, rows, targets
from nbloss.kernels.cpu.build import shared
from nbloss.kernels.cpu.memory import address, moved, pointer, smaller
from nbloss.kernels.cpu.partial_sums import added
from nbloss.kernels.cpu.parts import PART
from nbloss.kernels.cpu.rooms import local, release, room, view
from nbloss.kernels.cpu.shares import OPTIONS
from nbloss.kernels.cpu.tuning import GROUP, RUN

GROUPS = 32  # of GROUP rows, at most: so many sums have room (`_plain.MOST` is what is asked for)
PIECE = 4 * RUN  # rows whose scales and losses are in a first cache when they are added

_added = njit(**OPTIONS, **PART)(added)
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
        groups = (count + GROUP - 1) // GROUP
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
            _row_scale(target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, totals, wrong, GROUP, 0, count)
            divisor, outside = _added(totals), 0
            for k in range(groups):
                outside += wrong[k]
            if outside > 0 or (divides and not divisor > 0.0):
                release(numbers)
                return False
        upstream[0] = g / divisor if divides else g
        walk(x, target, mask, scale, upstream, loss, out, count, chunk, workers, loop)
        if loss is not None and sums:
            _row_sum(loss, totals, GROUP, 0, count)
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


loss_short, loss_pixels = _entered(lanes.cross_entropy, "loss_short"), _entered(pixels.cross_entropy, "loss_pixels")
loss_long, loss_nll = _entered(rows.cross_entropy, "loss_long", takes_one=False), _entered(_nll, "loss_nll")


def _adding(walk):
    """The sums that ``targets.nll_sums`` gives, of a loss that takes any target and one scale for all."""

    def sums(x, target, mask, wide, weight, ignore_index, totals, divisors, wrong, lo, hi):
        size, base = target.size, pointer(x, 0)
        most = smaller(PIECE, hi - lo) + 16  # lanes of no row, too
        losses = room(base, 2 * most + 1)
        one = view(moved(losses, 2 * most), 1)
        one[0] = 1.0
        for start in range(lo, hi, PIECE):
            stop, scale, divisor = smaller(hi, start + PIECE), one, 0.0
            loss, each = view(moved(losses, -start), size), view(moved(losses, most - start), size)
            if weight.size > 0:
                scale = each
            _row_scale(target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, divisors, wrong, RUN, start, stop)
            for first in range(start, stop, RUN):
                divisor += divisors[first // RUN]
            if weight.size == 0 and divisor < stop - start:
                scale = each  # some row is ignored
                _row_scale(target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, divisors, wrong, RUN, start, stop)
            walk(x, target, mask, scale, one, loss, None, start, stop)
            _row_sum(loss, totals, RUN, start, stop)
        release(losses)

    return sums


def _summed(body, name):
    """A kernel that adds up a loss of rows in one pass: nothing is written, so targets need not be judged beforehand."""
    walk = njit(**OPTIONS, **PART)(shared(body))

    def sum_of_losses(x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out, count, chunk, workers, loop):
        runs = (count + RUN - 1) // RUN
        numbers = room(local(np.float64, 1), 3 * runs)
        totals, divisors, wrong = view(numbers, runs), view(moved(numbers, runs), runs), view(moved(numbers, 2 * runs), runs)
        walk(x, target, mask, wide, weight, ignore_index, totals, divisors, wrong, count, chunk, workers, loop)
        total, divisor, outside = _added(totals), _added(divisors), _added(wrong)
        release(numbers)
        if outside > 0.0 or (divides and not divisor > 0.0):
            return False
        loss[0] = total / (divisor if divides else 1.0)
        return True

    sum_of_losses.__qualname__ = name
    return sum_of_losses


sum_nll = _summed(targets.nll_sums, "sum_nll")
sum_short = _summed(_adding(njit(**OPTIONS, **PART)(lanes.cross_entropy)), "sum_short")
sum_pixels = _summed(_adding(njit(**OPTIONS, **PART)(pixels.cross_entropy)), "sum_pixels")
