"""Launches for strided classes, as in (N, C, H, W): one thread per position, and neighbouring threads access neighbouring addresses.
A thread of a kernel that holds its classes in registers may take several neighbouring positions (``positions``).

Up to REGISTER_MAX_CLASSES classes stay in the registers of a thread (``registers``): the logits are read once, and the result is written
once. A kernel is compiled for each such number of classes. More classes take the online softmax (``online_softmax``).

Kernels take C-ordered arrays. Their last arguments are inner, which is the stride of the classes, and count, the number of positions. In
front of them the online softmax takes the number of classes. The other arguments are those of ``rows.launches``.
"""

from nbloss.kernels.cuda.channels_first import distillation as divergences
from nbloss.kernels.cuda.channels_first import online_softmax, positions, registers, second_order
from nbloss.kernels.cuda.indexing import blocks
from nbloss.kernels.cuda.runtime import launch
from nbloss.kernels.cuda.runtime.arguments import (
    c_ordered,
    gradient_arguments,
    hessian_arguments,
    row_option,
    stats_arguments,
)
from nbloss.kernels.cuda.sums import sum_arguments
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, REGISTER_MAX_CLASSES, THREADS_WITH_128_REGISTERS


def _width(x, out):
    """How many positions of ``x`` a thread takes."""
    return positions.per_thread(*x.shape[1:], [x] if out is None else [x, out])


def _run(kernels, in_registers, online, x, constants, arguments, width=None):
    """Launch one of two kernels. ``width`` is how many positions a thread of the first takes; None if it always takes one."""
    outer, classes, inner = x.shape
    count = outer * inner
    kind = "half" if x.itemsize == 2 else x.dtype.name
    if classes <= REGISTER_MAX_CLASSES:
        known = (classes, kind, kernels.sm80) if width is None else (classes, kind, kernels.sm80, width)
        width = width or 1
        min_blocks = THREADS_WITH_128_REGISTERS // BLOCK_THREADS if width > 1 else 1
        grid = blocks(count // width)
        launch.run(kernels, in_registers, (*known, *constants), grid, BLOCK_THREADS, *arguments, inner, count, min_blocks=min_blocks)
    else:
        launch.run(kernels, online, (kind, kernels.sm80, *constants), blocks(count), BLOCK_THREADS, *arguments, classes, inner, count)


def log_softmax(kernels, x, out):
    x = c_ordered(kernels, x)
    _run(kernels, registers.log_softmax, online_softmax.log_softmax, x, (False,), (x, out), _width(x, out))


def log_softmax_backward(kernels, g, y, out):
    g, y = c_ordered(kernels, g), c_ordered(kernels, y)
    _run(kernels, registers.log_softmax_backward, online_softmax.log_softmax_backward, y, (), (g, y, out))


def softmax(kernels, x, out):
    x = c_ordered(kernels, x)
    _run(kernels, registers.log_softmax, online_softmax.log_softmax, x, (True,), (x, out), _width(x, out))


def softmax_backward(kernels, g, y, out):
    g, y = c_ordered(kernels, g), c_ordered(kernels, y)
    _run(kernels, registers.softmax_backward, online_softmax.softmax_backward, y, (), (g, y, out))


def cross_entropy(kernels, x, target, mask, scale, options, upstream, loss, out):
    x = c_ordered(kernels, x)
    width = _width(x, out)
    summed, total = sum_arguments(kernels, x, loss, blocks(loss.size // width))
    optioned, option = row_option(options, loss.dtype.type)
    constants = out is not None, optioned, summed
    arguments = x, target, int(mask), scale, option, *gradient_arguments(upstream, loss, out), *total
    _run(kernels, registers.cross_entropy, online_softmax.cross_entropy, x, constants, arguments, width)


def cross_entropy_soft(kernels, x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out):
    """A kernel for probabilities reads no target, and one for class numbers no y: other arrays fill those arguments."""
    soft, real = y is not None, loss.dtype.type
    x, y = c_ordered(kernels, x), c_ordered(kernels, y)
    classes = (loss, 0, loss, loss) if soft else (target, int(mask), scale, spread)
    optioned, option = row_option(options, real)
    summed, total = sum_arguments(kernels, x, loss, blocks(loss.size))
    arguments = x, y if soft else w, w, real(a), real(b), *classes, option, *gradient_arguments(upstream, loss, out), *total
    _run(kernels, registers.soft_targets, online_softmax.soft_targets, x, (out is not None, soft, optioned, summed), arguments)


def cross_entropy_stats(kernels, x, *given):
    x = c_ordered(kernels, x)
    targeted, arguments = stats_arguments(*given)
    _run(kernels, registers.cross_entropy_stats, online_softmax.cross_entropy_stats, x, (targeted,), (x, *arguments))


def distillation(kernels, x, y, beta, upstream, loss, out):
    x, y, real = c_ordered(kernels, x), c_ordered(kernels, y), loss.dtype.type
    outer, classes, inner = x.shape
    count, kind = outer * inner, "half" if x.itemsize == 2 else x.dtype.name
    arguments = x, y, real(beta), real(1.0 / (beta * beta)), *gradient_arguments(upstream, loss, out), classes, inner, count
    constants = kind, kernels.sm80, out is not None
    launch.run(kernels, divergences.distillation, constants, blocks(count), BLOCK_THREADS, *arguments)


def hessian(kernels, x, v, coef, options, out):
    outer, classes, inner = x.shape
    constants, arguments = hessian_arguments(kernels, x, v, coef, options, out)
    count = outer * inner
    launch.run(kernels, second_order.hessian, constants, blocks(count), BLOCK_THREADS, *arguments, classes, inner, count)


def row_mass(kernels, y, w, a, b, mass):
    outer, classes, inner = y.shape
    y, real, count = c_ordered(kernels, y), mass.dtype.type, outer * inner
    launch.run(kernels, second_order.row_mass, (), blocks(count), BLOCK_THREADS, y, w, real(a), real(b), mass, classes, inner, count)
