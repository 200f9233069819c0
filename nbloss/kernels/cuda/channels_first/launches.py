"""Classes that lie apart, as in (N, C, H, W): one thread per position, neighbours beside each other in memory.

Up to HELD classes stay in a thread's registers: one read of the logits, one write of the result. A kernel is compiled for each such number
of classes. Longer columns go by chunks (``columns``).

A row is (m, rest): its maximum, and the sum of the exponentials without one of the maximum's own, which keeps a confident row's digits.
"""

import numpy as np

from nbloss.kernels.cuda.channels_first import online_softmax, registers
from nbloss.kernels.cuda.channels_first.registers import HELD
from nbloss.kernels.cuda.indexing import THREADS, blocks
from nbloss.kernels.cuda.runtime import launch


def _run(kernels, held, column, x, constants, arguments):
    """One thread per position of ``x``; ``arguments`` end with inner and count."""
    outer, classes, inner = x.shape
    count = outer * inner
    kind = "half" if x.itemsize == 2 else x.dtype.name
    if classes <= HELD:
        launch.run(kernels, held, (classes, kind, kernels.sm80, *constants), blocks(count), THREADS, *arguments, inner, count)
    else:
        launch.run(kernels, column, (kind, kernels.sm80, *constants), blocks(count), THREADS, *arguments, classes, inner, count)


def log_softmax(kernels, x, out):
    _run(kernels, registers.log_softmax, online_softmax.log_softmax, x, (), (x, out))


def log_softmax_backward(kernels, g, y, out):
    _run(kernels, registers.log_softmax_backward, online_softmax.log_softmax_backward, y, (), (g, y, out))


def _gradient(loss, upstream, out):
    """What stands for upstream and out in a launch, and how far apart upstream's numbers are."""
    return (loss, 0, loss) if out is None else (upstream, int(upstream.size > 1), out)


def cross_entropy(kernels, x, target, mask, scale, upstream, loss, out):
    upstream, step, room = _gradient(loss, upstream, out)
    arguments = x, target, int(mask), scale, upstream, step, loss, room
    _run(kernels, registers.cross_entropy, online_softmax.cross_entropy, x, (out is not None,), arguments)


def _masses(kernels, x, masses, w, a, b, target, mask, scale, spread, upstream, loss, out, soft):
    real = float if x.dtype == np.float64 else np.float32
    upstream, step, room = _gradient(loss, upstream, out)
    arguments = x, masses, w, real(a), real(b), target, int(mask), scale, spread, upstream, step, loss, room
    _run(kernels, registers.soft_targets, online_softmax.soft_targets, x, (out is not None, soft), arguments)


def cross_entropy_smooth(kernels, x, target, mask, scale, spread, w, upstream, loss, out):
    _masses(kernels, x, w, w, 0.0, 0.0, target, mask, scale, spread, upstream, loss, out, False)


def cross_entropy_soft(kernels, x, y, w, a, b, upstream, loss, out):
    _masses(kernels, x, y, w, a, b, loss, 0, loss, loss, upstream, loss, out, True)
