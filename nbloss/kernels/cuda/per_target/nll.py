"""The NLL loss and its gradient, for class numbers and for probabilities."""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.indexing import blocks, position_offset, quotient, thread_position
from nbloss.kernels.cuda.per_target.strided_copy import from_lowest
from nbloss.kernels.cuda.prims.api import device, get, integer, put, shuffle_xor
from nbloss.kernels.cuda.runtime import launch
from nbloss.kernels.cuda.runtime.arguments import c_ordered, upstream_stride
from nbloss.kernels.cuda.sums import sum_arguments, sum_by_last_block
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, WARP_THREADS


def loss_at_target(summed):
    """loss = -scale logp[y], one thread per position. (o, c, i) has the offset first + o stride_outer + c stride_class + i stride_inner."""

    def kernel(
        logp, first, stride_outer, stride_class, stride_inner, inner, target, mask, scale, loss, report, divides, block_count, total, count,
    ):  # fmt: skip
        p = thread_position()
        if p < count:
            s = get(scale, p)
            value = s  # 0
            if s != 0:
                y = integer(target, p) & mask
                o = quotient(p, inner)
                offset = first + o * stride_outer + y * stride_class + (p - o * inner) * stride_inner
                value = -(s * get(logp, offset))
            put(loss, p, value)
        if summed:
            sum_by_last_block(loss, count, report, divides, block_count, total)

    return kernel


def nll(kernels, logp, target, mask, scale, loss):
    """``logp`` may have any strides: the kernel reads one number per position, so a copy would cost more than it saves."""
    count = scale.size
    if count:
        lowest, first = from_lowest(logp)
        strides = (stride // logp.itemsize for stride in logp.strides)
        summed, total = sum_arguments(kernels, loss, loss, blocks(count))
        arguments = lowest, first, *strides, logp.shape[2], target, int(mask), scale, loss, *total, count
        launch.run(kernels, loss_at_target, (summed,), blocks(count), BLOCK_THREADS, *arguments)


def gradient_strided():
    """-scale upstream at the target and 0 elsewhere, for strided classes: one thread per position, so that stores are coalesced."""

    def kernel(target, mask, scale, upstream, upstream_stride, out, classes, inner, count):
        p = thread_position()
        if p < count:
            s = get(scale, p)
            zero = s - s  # 0 in the computed type
            y = np.int64(-1)
            value = zero
            if s != 0:
                y = integer(target, p) & mask
                value = -(s * get(upstream, p * upstream_stride))
            base = position_offset(p, classes, inner)
            for c in range(classes):
                put(out, base + c * inner, value if c == y else zero)

    return kernel


def gradient_in_row(lanes):
    """The same for contiguous classes: ``lanes`` lanes of a warp per row, each with every lanes-th class."""

    def kernel(target, mask, scale, upstream, upstream_stride, out, classes, count):
        p = thread_position() // lanes
        if p < count:
            s = get(scale, p)
            zero = s - s  # 0 in the computed type
            y = np.int64(-1)
            value = zero
            if s != 0:
                y = integer(target, p) & mask
                value = -(s * get(upstream, p * upstream_stride))
            c = np.int64(cuda.threadIdx.x % lanes)
            while c < classes:
                put(out, p * classes + c, value if c == y else zero)
                c += lanes

    return kernel


def _lanes(classes, inner):
    """How many lanes of a warp share a row of contiguous classes; 0 for strided classes."""
    return min(WARP_THREADS, 1 << (classes - 1).bit_length()) if inner == 1 else 0


def nll_backward(kernels, target, mask, scale, upstream, out):
    _, classes, inner = out.shape
    count = scale.size
    if count == 0:
        return
    arguments = target, int(mask), scale, upstream, upstream_stride(upstream), out, classes
    lanes = _lanes(classes, inner)
    if lanes:
        launch.run(kernels, gradient_in_row, (lanes,), blocks(lanes * count), BLOCK_THREADS, *arguments, count)
    else:
        launch.run(kernels, gradient_strided, (), blocks(count), BLOCK_THREADS, *arguments, inner, count)


@device
def soft_target_sum(logp, y, w, base, first, step, inner, classes):
    """The sum of w y logp over classes first, first + step, ..., in float64. A class with w y = 0 adds 0, even at -inf."""
    total = 0.0
    c = first
    while c < classes:
        q = get(y, base + c * inner) * get(w, c)
        if q != 0:
            total += np.float64(q) * np.float64(get(logp, base + c * inner))
        c += step
    return total


def soft_loss_kernel(lanes):
    """loss = -sum of w y logp: ``lanes`` lanes of a warp per row of contiguous classes, or with 0 a thread per position."""

    def kernel(logp, y, w, loss, classes, inner, count):
        if lanes:
            p = thread_position() // lanes
            lane = np.int64(cuda.threadIdx.x % lanes)
            total = 0.0
            if p < count:
                total = soft_target_sum(logp, y, w, p * classes, lane, lanes, 1, classes)
            distance = lanes // 2
            while distance > 0:  # a shuffle needs all lanes of a warp, also those without a row
                total += shuffle_xor(total, distance)
                distance //= 2
            if p < count and lane == 0:
                put(loss, p, -total)
        else:
            p = thread_position()
            if p < count:
                put(loss, p, -soft_target_sum(logp, y, w, position_offset(p, classes, inner), np.int64(0), 1, inner, classes))

    return kernel


def nll_soft(kernels, logp, y, w, loss):
    _, classes, inner = logp.shape
    count = loss.size
    if count == 0:
        return
    logp, y = c_ordered(kernels, logp), c_ordered(kernels, y)
    lanes = _lanes(classes, inner)
    launch.run(kernels, soft_loss_kernel, (lanes,), blocks((lanes or 1) * count), BLOCK_THREADS, logp, y, w, loss, classes, inner, count)


def soft_gradient_kernel(lanes):
    """out = -w y upstream, and 0 where upstream is 0, also of probabilities that are nan."""
    step = lanes or 1

    def kernel(y, w, upstream, upstream_stride, out, classes, inner, count):
        p = thread_position() // step
        if p < count:
            g = get(upstream, p * upstream_stride)
            base = p * classes if lanes else position_offset(p, classes, inner)
            c = np.int64(cuda.threadIdx.x % step)
            while c < classes:
                offset = base + c * inner
                put(out, offset, -(get(y, offset) * get(w, c) * g) if g != 0 else g)
                c += step

    return kernel


def nll_soft_backward(kernels, y, w, upstream, out):
    _, classes, inner = out.shape
    count = out.shape[0] * inner
    if count == 0:
        return
    y = c_ordered(kernels, y)
    lanes = _lanes(classes, inner)
    arguments = y, w, upstream, upstream_stride(upstream), out, classes, inner, count
    launch.run(kernels, soft_gradient_kernel, (lanes,), blocks((lanes or 1) * count), BLOCK_THREADS, *arguments)
