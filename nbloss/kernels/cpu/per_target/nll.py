"""Negative log-likelihood losses and gradients, from and to arrays of any strides.

Probabilities may have another storage type than the log-probabilities: loads convert them. ``w`` is None if there are no class weights.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.per_target.sums import largest_negated, sum_of_run
from nbloss.kernels.cpu.per_target.targets import judge
from nbloss.kernels.cpu.per_target.zeros import clear
from nbloss.kernels.cpu.simd.integers import all_below, widen_to_int64, zero_unless
from nbloss.kernels.cpu.simd.load_store import cast, get, lanes, load_as, load_float64, load_n, load_n_as, put, splat, store, store_n
from nbloss.kernels.cpu.simd.pointers import max_int, min_int, offset, pointer, prefetch_read, run_of_positions, stride
from nbloss.kernels.cpu.simd.vec import demote, equal, promote, select
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import NLL_PREFETCH_ROWS, SUM_RUN_ROWS, ZERO_FILL_ELEMENTS
from nbloss.kernels.math.rowmath import positive_logp

_WINDOW = SUM_RUN_ROWS + NLL_PREFETCH_ROWS  # targets that are converted at once: those of a run, and those to prefetch for
_WEIGHTS = SUM_RUN_ROWS + 16  # numbers: those of a run, and as many as a vector may extend beyond it

_positive_logp = njit(**INLINE)(positive_logp)


def nll(logp, target, mask, scale, loss, lo, hi):
    """loss = -scale * logp[target]."""
    targets, scales, losses, widened = pointer(target, 0), pointer(scale, 0), pointer(loss, 0), stack_alloc(np.int64, SUM_RUN_ROWS)
    class_stride, one_scale, none_ignored = stride(logp, 1), scale.size == 1, scale.size == 1 and scale[0] != 0
    p = lo
    while p < hi:
        first, position_stride, count = run_of_positions(logp, p, min_int(hi, p + SUM_RUN_ROWS))
        run_targets, into = widen_to_int64(offset(targets, p), mask, count, widened), offset(losses, p)
        if none_ignored:  # no branch per row: (8, 21, 512, 512) takes 0.6 to 0.8 of the time
            row_weight = get(scales, 0)
            for k in range(count):
                put(into, k, -(row_weight * get(first, k * position_stride + get(run_targets, k) * class_stride)))
        else:
            for k in range(count):
                row_weight, value = get(scales, 0 if one_scale else p + k), 0.0
                if row_weight != 0:  # the target of an ignored row may be out of range
                    value = -(row_weight * get(first, k * position_stride + get(run_targets, k) * class_stride))
                put(into, k, value)
        p += count


def nll_sums(logp, target, mask, wide, weight, ignore_index, totals, divisors, wrong, positive, lo, hi):
    """In one pass, for each run of SUM_RUN_ROWS rows: the sum of the losses, the sum of w[y], and how many targets are out of range.

    ``positive`` is 1 for a run in which a log-probability is above 0 beyond rounding, unless there are class weights.
    """
    base, targets, weights = pointer(logp, 0), pointer(target, 0), pointer(weight, 0)
    losses, run_weights, widened = alloc(base, SUM_RUN_ROWS), stack_alloc(np.float64, _WEIGHTS), stack_alloc(np.int64, _WINDOW)
    classes, class_stride, no_weights = logp.shape[1], stride(logp, 1), weight.size == 0
    limit = _positive_logp(logp.itemsize)
    fast_check, zeros = not 0 <= ignore_index < classes, splat(base, 0.0)
    judged, counts = stack_alloc(np.int64, 64), stack_alloc(np.float64, 64)
    for start in range(lo, hi, SUM_RUN_ROWS):
        p, stop = start, min_int(hi, start + SUM_RUN_ROWS)
        window_targets = widen_to_int64(offset(targets, start), mask, min_int(hi - start, _WINDOW), widened)
        counted, outside = 0, 0
        while p < stop:
            first, position_stride, available = run_of_positions(logp, p, hi)
            count, k = min_int(available, stop - p), 0
            while k < count:
                into, run_targets, size = offset(losses, p + k - start), offset(window_targets, p + k - start), min_int(64, count - k)
                # Channels first: nearly every access is to another cache line, in as many streams as there are classes. A target that is
                # ignored or out of range only causes a useless prefetch.
                if size == 64 and position_stride == 1 and k + NLL_PREFETCH_ROWS <= available:
                    for i in range(NLL_PREFETCH_ROWS - 64, NLL_PREFETCH_ROWS):
                        prefetch_read(first, k + i + get(run_targets, i) * class_stride)
                here = offset(first, k * position_stride)
                if fast_check and size == 64 and all_below(run_targets, 64, classes):
                    counted, ignored = counted + 64, False
                    if no_weights:
                        for i in range(64):
                            put(into, i, -get(here, i * position_stride + get(run_targets, i) * class_stride))
                        k += 64
                        continue
                else:
                    more, out_of_range = judge(run_targets, size, classes, ignore_index, wide, judged, counts)
                    counted, outside, ignored, run_targets = counted + more, outside + out_of_range, more < size, judged
                    if more == 0:
                        for i in range(0, size, lanes(base)):
                            store_n(into, i, size - i, zeros)
                            store(offset(run_weights, p + k - start), i, promote(zeros))
                        k += size
                        continue
                weights_at = offset(run_weights, p + k - start)
                for i in range(size):
                    place = i * position_stride + get(run_targets, i) * class_stride
                    if ignored:  # rows that do not count read one place, which is in a cache
                        place = zero_unless(get(counts, i) != 0, place)
                    put(into, i, get(here, place))
                if not no_weights:
                    for i in range(size):
                        put(weights_at, i, np.float64(get(weights, get(run_targets, i))))
                for i in range(0, size, lanes(base)):
                    w = load_float64(counts if no_weights else weights_at, i, zeros)
                    if ignored and not no_weights:
                        w = select(equal(load_float64(counts, i, zeros), 0.0), 0.0, w)
                        store(weights_at, i, w)
                    store_n(into, i, size - i, select(equal(w, 0.0), 0.0, -(demote(w, zeros) * load_n(into, i, size - i, 0.0))))
                k += size
            p += count
        run = start // SUM_RUN_ROWS
        totals[run] = sum_of_run(losses, stop - start)
        positive[run] = np.float64(no_weights and largest_negated(losses, stop - start) > limit)
        divisors[run] = np.float64(counted) if no_weights else sum_of_run(run_weights, stop - start)
        wrong[run] = outside
    free(losses)


def nll_backward(target, mask, scale, upstream, out, lo, hi):
    """out = -scale * upstream at the targets, 0 elsewhere."""
    targets, scales, upstreams, widened = pointer(target, 0), pointer(scale, 0), pointer(upstream, 0), stack_alloc(np.int64, SUM_RUN_ROWS)
    n, class_stride, one_scale, one_upstream = out.shape[1], stride(out, 1), scale.size == 1, upstream.size == 1
    max_rows = max_int(1, min_int(SUM_RUN_ROWS, ZERO_FILL_ELEMENTS // n))
    p = lo
    while p < hi:
        first, position_stride, count = run_of_positions(out, p, min_int(hi, p + max_rows))
        clear(first, n, class_stride, position_stride, count)
        run_targets = widen_to_int64(offset(targets, p), mask, count, widened)
        for k in range(count):
            row_weight = get(scales, 0 if one_scale else p + k)
            if row_weight != 0:
                put(
                    first,
                    k * position_stride + get(run_targets, k) * class_stride,
                    -(row_weight * get(upstreams, 0 if one_upstream else p + k)),
                )
        p += count


# ------------------------------ probabilities ------------------------------


@njit(**INLINE)
def _weighted(q, w, c):
    """w_c q, for a number or a vector; q without class weights."""
    if w is None:
        return q
    return q * get(pointer(w, 0), c)


@njit(**INLINE)
def _products(line, line_y, count, w, c):
    """w_c y logp of a vector of positions, in float64; 0 where w_c y is 0, even if logp is infinite."""
    v = load_n(line, 0, count, 0.0)
    q = promote(_weighted(load_n_as(line_y, 0, count, 0.0, v), w, c))
    return select(equal(q, 0.0), 0.0, q * promote(v))


@njit(**INLINE)
def _gradient(q, w, c, g):
    """-w_c q g of a vector of positions; 0 where g is 0."""
    return select(equal(g, 0.0), 0.0, -(_weighted(q, w, c) * g))


def nll_soft(logp, y, w, loss, lo, hi):
    """loss = -sum of w y logp over the classes, which are added in order."""
    n, class_stride, class_stride_y = logp.shape[1], stride(logp, 1), stride(y, 1)
    losses, width = pointer(loss, 0), lanes(pointer(logp, 0))
    like = splat(pointer(logp, 0), 0.0)
    p = lo
    while p < hi:
        first, step, count = run_of_positions(logp, p, hi)
        first_y, step_y, count = run_of_positions(y, p, p + count)
        if step == 1 and step_y == 1:
            for k in range(0, count, width):
                total = promote(like)
                for c in range(n):
                    line, line_y = offset(first, c * class_stride + k), offset(first_y, c * class_stride_y + k)
                    total = total - _products(line, line_y, count - k, w, c)
                store_n(losses, p + k, count - k, demote(total, like))
        else:
            for k in range(count):
                row, row_y, sum_of_row = offset(first, k * step), offset(first_y, k * step_y), 0.0
                for c in range(n):
                    q = np.float64(_weighted(cast(row, get(row_y, c * class_stride_y)), w, c))
                    if q != 0:
                        sum_of_row -= q * np.float64(get(row, c * class_stride))
                put(losses, p + k, sum_of_row)
        p += count


def nll_soft_backward(y, w, upstream, out, lo, hi):
    """out = -w y upstream, and 0 where upstream is 0, also of probabilities that are nan."""
    n, class_stride, class_stride_y, upstreams = out.shape[1], stride(out, 1), stride(y, 1), pointer(upstream, 0)
    width, like, one_upstream = lanes(pointer(out, 0)), splat(pointer(out, 0), 0.0), upstream.size == 1
    p = lo
    while p < hi:
        first, step, count = run_of_positions(out, p, hi)
        first_y, step_y, count = run_of_positions(y, p, p + count)
        if step == 1 and step_y == 1:
            g, whole = splat(upstreams, get(upstreams, 0)), count // width * width if one_upstream else 0
            for c in range(n):
                line, line_y = offset(first, c * class_stride), offset(first_y, c * class_stride_y)
                for k in range(0, whole, width):
                    store(line, k, _gradient(load_as(line_y, k, like), w, c, g))
                for k in range(whole, count, width):
                    if not one_upstream:
                        g = load_n(upstreams, p + k, count - k, 0.0)
                    store_n(line, k, count - k, _gradient(load_n_as(line_y, k, count - k, 0.0, like), w, c, g))
        else:
            for k in range(count):
                row, row_y, factor = offset(first, k * step), offset(first_y, k * step_y), get(upstreams, 0 if one_upstream else p + k)
                for c in range(n):
                    q = _weighted(cast(upstreams, get(row_y, c * class_stride_y)), w, c)
                    put(row, c * class_stride, -(q * factor) if factor != 0 else 0.0)
        p += count
