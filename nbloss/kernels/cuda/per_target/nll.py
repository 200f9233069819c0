"""Everything that costs a pass over the positions but not over the logits: the targets, and the NLL loss."""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.indexing import THREADS, blocks, position_offset, quotient, thread_position
from nbloss.kernels.cuda.per_target.strided_copy import from_lowest
from nbloss.kernels.cuda.prims.api import device, get, integer, put, shuffle_xor
from nbloss.kernels.cuda.runtime import launch


def loss_at_target():
    """loss = -scale * logp[y]; one thread per position. (o, c, i) lies at first + o far + c apart + i near."""

    def kernel(logp, first, far, apart, near, inner, target, mask, scale, loss, count):
        p = thread_position()
        if p < count:
            s = get(scale, p)
            value = s  # 0
            if s != 0:
                y = integer(target, p) & mask
                o = quotient(p, inner)
                value = -(s * get(logp, first + o * far + y * apart + (p - o * inner) * near))
            put(loss, p, value)

    return kernel


def nll(kernels, logp, target, mask, scale, loss):
    """``logp`` may have any strides: of each position one number is read, which is no reason to copy it."""
    count = scale.size
    if count:
        lowest, first = from_lowest(logp)
        steps = (stride // logp.itemsize for stride in logp.strides)
        arguments = lowest, first, *steps, logp.shape[2], target, int(mask), scale, loss, count
        launch.run(kernels, loss_at_target, (), blocks(count), THREADS, *arguments)


def gradient_strided():
    """-scale * upstream at y and 0 elsewhere, for classes that lie apart: one thread per position, neighbours beside each other."""

    def kernel(target, mask, scale, upstream, step, out, classes, inner, count):
        p = thread_position()
        if p < count:
            s = get(scale, p)
            nothing = s - s
            y = np.int64(-1)
            value = nothing
            if s != 0:
                y = integer(target, p) & mask
                value = -(s * get(upstream, p * step))
            base = position_offset(p, classes, inner)
            for c in range(classes):
                put(out, base + c * inner, value if c == y else nothing)

    return kernel


def gradient_in_row(lanes):
    """The same for classes that lie side by side: so many lanes of a warp per row, a lane per class."""

    def kernel(target, mask, scale, upstream, step, out, classes, count):
        p = thread_position() // lanes
        if p < count:
            s = get(scale, p)
            nothing = s - s
            y = np.int64(-1)
            value = nothing
            if s != 0:
                y = integer(target, p) & mask
                value = -(s * get(upstream, p * step))
            c = np.int64(cuda.threadIdx.x % lanes)
            while c < classes:
                put(out, p * classes + c, value if c == y else nothing)
                c += lanes

    return kernel


def _packed(kernels, array):
    return array if array.contiguous else kernels.packed(array)


def _lanes(classes, inner):
    """How many lanes of a warp share a row of classes that lie side by side; 0 for classes that lie apart."""
    return 1 << min(5, (classes - 1).bit_length()) if inner == 1 else 0


def _step(upstream):
    """How far apart the upstream numbers of two positions are."""
    return int(upstream.size > 1)


def nll_backward(kernels, target, mask, scale, upstream, out):
    _, classes, inner = out.shape
    count = scale.size
    if count == 0:
        return
    given = target, int(mask), scale, upstream, _step(upstream), out, classes
    lanes = _lanes(classes, inner)
    if lanes:
        launch.run(kernels, gradient_in_row, (lanes,), blocks(lanes * count), THREADS, *given, count)
    else:
        launch.run(kernels, gradient_strided, (), blocks(count), THREADS, *given, inner, count)


@device
def soft_target_sum(logp, y, w, base, first, apart, inner, classes):
    """sum of w y logp over classes first, first + apart, ..., in float64; a class without mass adds 0 even at -inf."""
    total = 0.0
    c = first
    while c < classes:
        q = get(y, base + c * inner) * get(w, c)
        if q != 0:
            total += np.float64(q) * np.float64(get(logp, base + c * inner))
        c += apart
    return total


def soft_loss_kernel(lanes):
    """loss = -sum of w y logp: so many lanes of a warp per row if the classes lie side by side, else (0) a thread per position."""

    def kernel(logp, y, w, loss, classes, inner, count):
        if lanes:
            p = thread_position() // lanes
            lane = np.int64(cuda.threadIdx.x % lanes)
            total = 0.0
            if p < count:
                total = soft_target_sum(logp, y, w, p * classes, lane, lanes, 1, classes)
            step = lanes // 2
            while step > 0:  # with the lanes that have no row: all of a warp take part
                total += shuffle_xor(total, step)
                step //= 2
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
    logp, y = _packed(kernels, logp), _packed(kernels, y)
    lanes = _lanes(classes, inner)
    launch.run(kernels, soft_loss_kernel, (lanes,), blocks((lanes or 1) * count), THREADS, logp, y, w, loss, classes, inner, count)


def soft_gradient_kernel(lanes):
    """out = -w y upstream."""
    every = lanes or 1

    def kernel(y, w, upstream, step, out, classes, inner, count):
        p = thread_position() // every
        if p < count:
            g = get(upstream, p * step)
            base = p * classes if lanes else position_offset(p, classes, inner)
            c = np.int64(cuda.threadIdx.x % every)
            while c < classes:
                place = base + c * inner
                put(out, place, -(get(y, place) * get(w, c) * g))
                c += every

    return kernel


def nll_soft_backward(kernels, y, w, upstream, out):
    _, classes, inner = out.shape
    count = out.shape[0] * inner
    if count == 0:
        return
    y = _packed(kernels, y)
    lanes = _lanes(classes, inner)
    arguments = y, w, upstream, _step(upstream), out, classes, inner, count
    launch.run(kernels, soft_gradient_kernel, (lanes,), blocks((lanes or 1) * count), THREADS, *arguments)
