"""Fused kernels: a whole loss in one call, from the check of the targets to the sum of the losses.

Three separate kernels and their buffers take longer than the arithmetic of a small call. After a large call, the Python code between them
runs from cold caches. There are three kinds of fused kernels:

==========  ==========================================================================================================
``loss_*``  class numbers: losses, their sum or mean, and the gradient
``sum_*``   class numbers: the sum or mean alone. Each thread checks the targets and adds the losses of its own rows, in one
            pass
``soft_*``  probabilities: losses, their sum or mean, and the gradient
==========  ==========================================================================================================

The kernels of class numbers take ``share`` and ``w`` for label smoothing (None: none): what it gives every class, and the class weights
that multiply it. ``weight`` and ``sample_weight`` are empty arrays where there are none. The sum of the losses and ``g`` are divided by
``over``; 0.0: by the sum of the weights of the rows that count. ``g`` is a number, or an array with a number per position. What a kernel
returns is in the contract (``NOT_DONE`` and others).
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from nbloss.kernels.contract import DONE, EMPTY, NOT_DONE, POSITIVE
from nbloss.kernels.cpu.blocked import kernels as blocked
from nbloss.kernels.cpu.channels_first.cross_entropy import cross_entropy as channels_first
from nbloss.kernels.cpu.compile.build import parallel_kernel
from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE, INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.mapped import kernels as mapped
from nbloss.kernels.cpu.per_target.nll import nll, nll_backward, nll_sums
from nbloss.kernels.cpu.per_target.partial_sums import added
from nbloss.kernels.cpu.per_target.sums import largest_negated, row_sum
from nbloss.kernels.cpu.per_target.targets import row_scale, weigh
from nbloss.kernels.cpu.per_target.zeros import zero_rows
from nbloss.kernels.cpu.row_per_lane.cross_entropy import cross_entropy as row_per_lane
from nbloss.kernels.cpu.row_per_lane.soft_targets import cross_entropy_soft as soft_targets_per_lane
from nbloss.kernels.cpu.simd.overlap import overlap, same_strides
from nbloss.kernels.cpu.simd.pointers import address, min_int, offset, pointer, zero_fill
from nbloss.kernels.cpu.simd.workspace import alloc, as_array, carve, free, stack_alloc
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS, FUSED_SUM_ROWS, PARALLEL_CHECK_MIN_ROWS, SUM_GROUP_ROWS, SUM_RUN_ROWS
from nbloss.kernels.cpu.vector_per_row.cross_entropy import cross_entropy as vector_per_row
from nbloss.kernels.cpu.vector_per_row.soft_targets import cross_entropy_soft as soft_targets_of_rows
from nbloss.kernels.math.rowmath import positive_logp

_GROUPS = FUSED_MAX_ROWS // SUM_GROUP_ROWS

_ON_STACK = 256  # numbers: the sums of a call with few runs are on the stack


def _njit(body):
    return njit(**OPTIONS, **INLINE_ONLY)(body)


_added, _row_sum, _positive_logp, _row_scale, _weigh = map(_njit, (added, row_sum, positive_logp, row_scale, weigh))

_row_scale_parallel, _zero_rows = _njit(parallel_kernel(row_scale)), _njit(parallel_kernel(zero_rows))


# ------------------------------ arguments ------------------------------


@_njit
def _fits(out, x):
    """Whether ``out`` may be written beside x: it is x itself, or shares no range of addresses with it."""
    if out is None:
        return True
    return (address(pointer(out, 0)) == address(pointer(x, 0)) and same_strides(out, x)) or not overlap(out, x)


@_njit
def _apart(out, other):
    """Whether ``out`` shares no range of addresses with an array that it may not be."""
    if out is None:
        return True
    return other.size == 0 or not overlap(out, other)


def _upstream_of(g, one, divisor):
    """The upstream gradient as an array: the caller's, or g / divisor in ``one``."""


@overload(_upstream_of, jit_options=INLINE)
def _typed_upstream_of(g, one, divisor):
    if isinstance(g, types.Array):
        return lambda g, one, divisor: g

    def number(g, one, divisor):
        one[0] = g / divisor
        return one

    return number


def _apart_from_upstream(out, g):
    """``_apart`` for an upstream gradient that may be a number."""


@overload(_apart_from_upstream, jit_options=INLINE)
def _typed_apart_from_upstream(out, g):
    if isinstance(g, types.Array):
        return lambda out, g: _apart(out, g)
    return lambda out, g: True


def _number_or(share, otherwise):
    """``share``, or the other number if it is None."""


@overload(_number_or, jit_options=INLINE)
def _typed_number_or(share, otherwise):
    if isinstance(share, types.NoneType):
        return lambda share, otherwise: otherwise
    return lambda share, otherwise: share


@none_of_none
def _buffer(share, base, count):
    """An array of ``count`` numbers where there is a ``share``."""
    return as_array(base, count)


@_njit
def _reduce(loss, sums, count, totals, divisor):
    """Replace the first loss by the sum of all over ``divisor``, if that is asked for."""
    if loss is not None and sums:
        _row_sum(loss, totals, SUM_GROUP_ROWS, 0, count)
        loss[0] = _added(totals) / divisor


# ------------------------------ class numbers, with losses per row ------------------------------


@_njit
def _nothing_to_judge(loss, x, judged, count):
    return DONE


@_njit
def _are_log_probabilities(loss, x, judged, count):
    """POSITIVE if a picked log-probability is above 0; those of rows with weights are not ``judged``."""
    if loss is None:
        return DONE
    if judged and largest_negated(pointer(loss, 0), count) > _positive_logp(x.itemsize):
        return POSITIVE
    return DONE


def _fused(run_rows, accepts_one_scale=True, judge=_nothing_to_judge):
    """A fused kernel around ``run_rows``, a parallel kernel for losses and gradients, which may accept one scale for all rows."""

    def loss_and_gradient(
        x, target, mask, wide, weight, sample_weight, ignore_index, hit, share, w, options, sums, over, g, loss, out,
        count, chunk, workers, loop,
    ):  # fmt: skip
        if not (_fits(out, x) and _apart(out, target) and _apart(out, weight) and _apart_from_upstream(out, g)):
            return NOT_DONE
        groups = (count + SUM_GROUP_ROWS - 1) // SUM_GROUP_ROWS
        numbers, spreads, one = carve(pointer(x, 0), (count, count, 1))
        totals, wrong = as_array(stack_alloc(np.float64, _GROUPS), groups), as_array(stack_alloc(np.int64, _GROUPS), groups)
        unweighted = weight.size == 0 and sample_weight.size == 0
        divisor, size = 0.0, 1 if accepts_one_scale and unweighted and share is None else count
        constant, spread = _number_or(share, 0.0), _buffer(share, spreads, count)
        check_loop, check_workers = loop, workers
        if count < PARALLEL_CHECK_MIN_ROWS:
            check_loop, check_workers = 0, 1
        for attempt in range(2):
            if attempt:
                if size == count or divisor == count:
                    break
                size = count  # a row is ignored: repeat with one scale per row
            scale = as_array(numbers, size)
            scale[0] = hit
            _row_scale_parallel(
                target, mask, wide, weight, sample_weight, x.shape[1], ignore_index, hit, constant, scale, spread, totals, wrong,
                SUM_GROUP_ROWS, count, SUM_GROUP_ROWS, check_workers, check_loop,
            )  # fmt: skip
            divisor, outside = _added(totals), 0
            for k in range(groups):
                outside += wrong[k]
            if outside > 0 or (over == 0.0 and not divisor > 0.0 and not unweighted):
                free(numbers)
                return NOT_DONE
            if unweighted and divisor == 0.0:  # every row is ignored
                free(numbers)
                if out is not None:
                    _zero_rows(out, count, chunk, workers, loop)
                if loss is not None:
                    for k in range(1 if sums else count):
                        loss[k] = 0.0
                    if over == 0.0:
                        loss[0] = np.nan
                        return EMPTY
                return DONE
        if over != 0.0:
            divisor = over
        upstream = _upstream_of(g, as_array(one, 1), divisor)
        run_rows(x, target, mask, scale, spread, w, options, upstream, loss, out, count, chunk, workers, loop)
        answer = judge(loss, x, unweighted, count)
        _reduce(loss, sums, count, totals, divisor)
        free(numbers)
        return answer

    return loss_and_gradient


_nll_loss, _nll_gradient, _nll_sums = _njit(nll), _njit(nll_backward), _njit(nll_sums)


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
loss_blocked = _loss_kernel(blocked.cross_entropy, "loss_blocked", accepts_one_scale=False)
loss_mapped = _loss_kernel(mapped.cross_entropy, "loss_mapped", accepts_one_scale=False)
loss_nll = _loss_kernel(_nll, "loss_nll", judge=_are_log_probabilities)


# ------------------------------ class numbers, the sum alone ------------------------------


def _sum_body(run_rows):
    """A kernel like ``per_target.nll.nll_sums``, of the losses of ``run_rows``, which accepts any targets and one scale for all rows."""

    def sums(x, target, mask, wide, weight, sample_weight, ignore_index, hit, share, w, options, totals, divisors, wrong, positive, lo, hi):
        size, base = target.size, pointer(x, 0)
        capacity = min_int(FUSED_SUM_ROWS, hi - lo) + 16  # the last vector of rows may extend beyond ``stop``
        losses, weights, spreads, single = carve(base, (capacity, capacity, capacity, 1))
        one, constant = as_array(single, 1), _number_or(share, 0.0)
        one[0] = hit
        for start in range(lo, hi, FUSED_SUM_ROWS):
            stop, scale, divisor = min_int(hi, start + FUSED_SUM_ROWS), one, 0.0
            loss, scales = as_array(offset(losses, -start), size), as_array(offset(weights, -start), size)
            spread = _buffer(share, offset(spreads, -start), size)
            if weight.size > 0 or sample_weight.size > 0 or share is not None:
                scale = scales
            for attempt in range(2):
                _row_scale(
                    target, mask, wide, weight, sample_weight, x.shape[1], ignore_index, hit, constant, scale, spread, divisors, wrong,
                    SUM_RUN_ROWS, start, stop,
                )  # fmt: skip
                if attempt or scale.size == size:
                    break
                for first in range(start, stop, SUM_RUN_ROWS):
                    divisor += divisors[first // SUM_RUN_ROWS]
                if divisor == stop - start:
                    break
                scale = scales  # a row is ignored: repeat with one scale per row
            run_rows(x, target, mask, scale, spread, w, options, one, loss, None, start, stop)
            _row_sum(loss, totals, SUM_RUN_ROWS, start, stop)
        free(losses)

    return sums


def _nll_sum_body(
    x, target, mask, wide, weight, sample_weight, ignore_index, hit, share, w, options, totals, divisors, wrong, positive, lo, hi
):
    _nll_sums(x, target, mask, wide, weight, ignore_index, totals, divisors, wrong, positive, lo, hi)


def _sum_kernel(body, name):
    """The fused kernel ``name`` for the sum of losses: it writes no array, so it can check the targets in the same pass."""
    run_rows = _njit(parallel_kernel(body))

    def sum_of_losses(
        x, target, mask, wide, weight, sample_weight, ignore_index, hit, share, w, options, sums, over, g, loss, out,
        count, chunk, workers, loop,
    ):  # fmt: skip
        runs = (count + SUM_RUN_ROWS - 1) // SUM_RUN_ROWS
        numbers = stack_alloc(np.float64, _ON_STACK)
        if 4 * runs > _ON_STACK:
            numbers = alloc(numbers, 4 * runs)
        totals, divisors = as_array(numbers, runs), as_array(offset(numbers, runs), runs)
        wrong, positive = as_array(offset(numbers, 2 * runs), runs), as_array(offset(numbers, 3 * runs), runs)
        zero_fill(offset(numbers, 3 * runs), runs)  # only the negative log-likelihood judges
        run_rows(
            x, target, mask, wide, weight, sample_weight, ignore_index, hit, share, w, options, totals, divisors, wrong, positive,
            count, chunk, workers, loop,
        )  # fmt: skip
        total, divisor, outside, above = _added(totals), _added(divisors), _added(wrong), _added(positive)
        if 4 * runs > _ON_STACK:
            free(numbers)
        if outside > 0.0 or (over == 0.0 and not divisor > 0.0 and (weight.size > 0 or sample_weight.size > 0)):
            return NOT_DONE
        if over == 0.0 and divisor == 0.0:  # every row is ignored
            loss[0] = np.nan
            return EMPTY
        loss[0] = total / (divisor if over == 0.0 else over)
        return POSITIVE if above > 0.0 else DONE

    sum_of_losses.__qualname__ = name
    return sum_of_losses


sum_nll = _sum_kernel(_nll_sum_body, "sum_nll")
sum_row_per_lane = _sum_kernel(_sum_body(_njit(row_per_lane)), "sum_row_per_lane")
sum_channels_first = _sum_kernel(_sum_body(_njit(channels_first)), "sum_channels_first")


# ------------------------------ probabilities ------------------------------


def _soft_kernel(body, name):
    """The fused kernel ``name`` for losses of probabilities: there are no targets to check, and each row without sample weight counts 1."""
    run_rows = _njit(parallel_kernel(body))

    def soft_loss(x, y, w, a, b, sample_weight, options, sums, over, g, loss, out, count, chunk, workers, loop):
        if not (_fits(out, x) and _apart(out, y) and (w is None or _apart(out, w)) and _apart_from_upstream(out, g)):
            return NOT_DONE
        groups, divisor = (count + SUM_GROUP_ROWS - 1) // SUM_GROUP_ROWS, np.float64(count) if over == 0.0 else over
        totals = as_array(stack_alloc(np.float64, _GROUPS), groups)
        if over == 0.0 and sample_weight.size > 0:
            _row_sum(sample_weight, totals, SUM_GROUP_ROWS, 0, count)
            divisor = _added(totals)
            if not divisor > 0.0:
                return NOT_DONE
        one, weighed = carve(pointer(x, 0), (1, sample_weight.size))
        given = _upstream_of(g, as_array(one, 1), divisor)
        upstream = as_array(pointer(given, 0), given.size)
        if sample_weight.size > 0:
            upstream = as_array(weighed, count)
            _weigh(given, sample_weight, upstream)
        run_rows(x, y, w, a, b, options, upstream, loss, out, count, chunk, workers, loop)
        if sample_weight.size > 0:
            _weigh(loss, sample_weight, loss)
        _reduce(loss, sums, count, totals, divisor)
        free(one)
        return DONE

    soft_loss.__qualname__ = name
    return soft_loss


soft_row_per_lane = _soft_kernel(soft_targets_per_lane, "soft_row_per_lane")
soft_vector_per_row = _soft_kernel(soft_targets_of_rows, "soft_vector_per_row")
soft_blocked = _soft_kernel(blocked.cross_entropy_soft, "soft_blocked")
soft_mapped = _soft_kernel(mapped.cross_entropy_soft, "soft_mapped")
