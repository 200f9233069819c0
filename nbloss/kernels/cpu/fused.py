"""Fused kernels: a whole loss of class numbers in one call, from the check of the targets to the sum of the losses.

Three separate kernels and their buffers take longer than the arithmetic of a small call. After a large call, the Python code between them
runs from cold caches. There are two kinds of fused kernels:

==========  ==========================================================================================================
``loss_*``  losses, their sum or mean, and the gradient. The calling thread checks the targets and adds the losses; both
            are passes over a few numbers per row. Only the pass over the logits is parallel
``sum_*``   the sum or mean alone. Each thread checks the targets and adds the losses of its own rows, in one pass
==========  ==========================================================================================================

A kernel returns False, and has written nothing, if it does not apply (``kernel_set.fused_loss``).
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.channels_first.cross_entropy import cross_entropy as channels_first
from nbloss.kernels.cpu.compile.build import parallel_kernel
from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.per_target.nll import nll, nll_backward, nll_sums
from nbloss.kernels.cpu.per_target.partial_sums import added
from nbloss.kernels.cpu.per_target.sums import row_sum
from nbloss.kernels.cpu.per_target.targets import row_scale
from nbloss.kernels.cpu.row_per_lane.cross_entropy import cross_entropy as row_per_lane
from nbloss.kernels.cpu.simd.pointers import address, min_int, offset, pointer
from nbloss.kernels.cpu.simd.workspace import as_array, carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS, FUSED_SUM_ROWS, SUM_GROUP_ROWS, SUM_RUN_ROWS
from nbloss.kernels.cpu.vector_per_row.cross_entropy import cross_entropy as vector_per_row

_GROUPS = FUSED_MAX_ROWS // SUM_GROUP_ROWS


def _njit(body):
    return njit(**OPTIONS, **INLINE_ONLY)(body)


_added = _njit(added)

_row_scale = _njit(row_scale)

_row_sum = _njit(row_sum)


@_njit
def _overlap(a, b):
    """Whether two arrays in C order share memory."""
    return address(pointer(a, 0)) < address(pointer(b, b.size)) and address(pointer(b, 0)) < address(pointer(a, a.size))


@_njit
def _fits(out, x, target, weight):
    """Whether ``out`` may be written: it starts at the same address as ``x``, or shares no memory with an input."""
    if out is None:
        return True
    fits_x = address(pointer(out, 0)) == address(pointer(x, 0)) or not _overlap(out, x)
    return fits_x and not _overlap(out, target) and not _overlap(out, weight)


def _fused(run_rows, accepts_one_scale=True):
    """A fused kernel around ``run_rows``, a parallel kernel for losses and gradients, which may accept one scale for all rows."""

    def loss_and_gradient(x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out, count, chunk, workers, loop):
        if not _fits(out, x, target, weight):
            return False
        groups = (count + SUM_GROUP_ROWS - 1) // SUM_GROUP_ROWS
        numbers, one = carve(pointer(x, 0), (count, 1))
        upstream = as_array(one, 1)
        totals, wrong = as_array(stack_alloc(np.float64, _GROUPS), groups), as_array(stack_alloc(np.int64, _GROUPS), groups)
        divisor, size = 0.0, 1 if accepts_one_scale and weight.size == 0 else count
        for attempt in range(2):
            if attempt:
                if size == count or divisor == count:
                    break
                size = count  # a row is ignored: repeat with one scale per row
            scale = as_array(numbers, size)
            scale[0] = 1.0
            _row_scale(target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, totals, wrong, SUM_GROUP_ROWS, 0, count)
            divisor, outside = _added(totals), 0
            for k in range(groups):
                outside += wrong[k]
            if outside > 0 or (divides and not divisor > 0.0):
                free(numbers)
                return False
        upstream[0] = g / divisor if divides else g
        run_rows(x, target, mask, scale, None, None, None, upstream, loss, out, count, chunk, workers, loop)
        if loss is not None and sums:
            _row_sum(loss, totals, SUM_GROUP_ROWS, 0, count)
            loss[0] = _added(totals) / (divisor if divides else 1.0)
        free(numbers)
        return True

    return loss_and_gradient


_nll_loss, _nll_gradient = _njit(nll), _njit(nll_backward)


def _nll(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    if loss is not None:
        _nll_loss(x, target, mask, scale, loss, lo, hi)
    if out is not None:
        _nll_gradient(target, mask, scale, upstream, out, lo, hi)


def _loss_kernel(body, name, **options):
    """The fused kernel ``name`` for the kernel ``body``."""
    kernel = _fused(_njit(parallel_kernel(body)), **options)
    kernel.__qualname__ = name
    return kernel


loss_row_per_lane = _loss_kernel(row_per_lane, "loss_row_per_lane")
loss_channels_first = _loss_kernel(channels_first, "loss_channels_first")
loss_vector_per_row = _loss_kernel(vector_per_row, "loss_vector_per_row", accepts_one_scale=False)
loss_nll = _loss_kernel(_nll, "loss_nll")


def _sum_body(run_rows):
    """A kernel like ``per_target.nll.nll_sums``, of the losses of ``run_rows``, which accepts any targets and one scale for all rows."""

    def sums(x, target, mask, wide, weight, ignore_index, totals, divisors, wrong, lo, hi):
        size, base = target.size, pointer(x, 0)
        capacity = min_int(FUSED_SUM_ROWS, hi - lo) + 16  # the last vector of rows may extend beyond ``stop``
        losses, weights, single = carve(base, (capacity, capacity, 1))
        one = as_array(single, 1)
        one[0] = 1.0
        for start in range(lo, hi, FUSED_SUM_ROWS):
            stop, scale, divisor = min_int(hi, start + FUSED_SUM_ROWS), one, 0.0
            loss, scales = as_array(offset(losses, -start), size), as_array(offset(weights, -start), size)
            if weight.size > 0:
                scale = scales
            _row_scale(
                target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, divisors, wrong, SUM_RUN_ROWS, start, stop
            )
            for first in range(start, stop, SUM_RUN_ROWS):
                divisor += divisors[first // SUM_RUN_ROWS]
            if weight.size == 0 and divisor < stop - start:
                scale = scales  # a row is ignored: repeat with one scale per row
                _row_scale(
                    target, mask, wide, weight, x.shape[1], ignore_index, 1.0, 0.0, scale, None, divisors, wrong, SUM_RUN_ROWS, start, stop
                )
            run_rows(x, target, mask, scale, None, None, None, one, loss, None, start, stop)
            _row_sum(loss, totals, SUM_RUN_ROWS, start, stop)
        free(losses)

    return sums


def _sum_kernel(body, name):
    """The fused kernel ``name`` for the sum of losses: it writes no array, so it can check the targets in the same pass."""
    run_rows = _njit(parallel_kernel(body))

    def sum_of_losses(x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out, count, chunk, workers, loop):
        runs = (count + SUM_RUN_ROWS - 1) // SUM_RUN_ROWS
        first, second, third = carve(stack_alloc(np.float64, 1), (runs, runs, runs))
        totals, divisors, wrong = as_array(first, runs), as_array(second, runs), as_array(third, runs)
        run_rows(x, target, mask, wide, weight, ignore_index, totals, divisors, wrong, count, chunk, workers, loop)
        total, divisor, outside = _added(totals), _added(divisors), _added(wrong)
        free(first)
        if outside > 0.0 or (divides and not divisor > 0.0):
            return False
        loss[0] = total / (divisor if divides else 1.0)
        return True

    sum_of_losses.__qualname__ = name
    return sum_of_losses


sum_nll = _sum_kernel(nll_sums, "sum_nll")
sum_row_per_lane = _sum_kernel(_sum_body(_njit(row_per_lane)), "sum_row_per_lane")
sum_channels_first = _sum_kernel(_sum_body(_njit(channels_first)), "sum_channels_first")
