"""Launches of the kernels of contiguous rows. A group of threads works on each row: lanes of a warp, a block, or a cluster of blocks.

A kernel passes over a row three times: for the maximum, for the sum of exponentials, and to write the output. If the registers of the group
hold the row (``resident``), memory is read once and written once. A longer row is read again chunk by chunk, mostly from the L2 cache.

For log_softmax and class numbers, a thread works on each row of few classes instead (`row_per_thread`).

The kernels take these arguments; those of the contract have the names that it gives them.

====================  ================================================================================================
name                  meaning
====================  ================================================================================================
option                the row option, which ``optioned`` names; 0 for a kernel without
upstream_stride       0 where one upstream number applies to all positions, otherwise 1
report, ..., total    what `sums.sum_by_last_block` takes, for a kernel that adds its losses
rows, classes         shape of the logits
stride, stride_y      elements from one row to the next, of the first and the second input; outputs are C-ordered
offset                address of the first input in elements, modulo the elements of a vector
====================  ================================================================================================
"""

from nbloss.kernels.cuda.indexing import blocks
from nbloss.kernels.cuda.rows import distillation as divergences
from nbloss.kernels.cuda.rows import row_per_thread, second_order
from nbloss.kernels.cuda.rows.cross_entropy import cross_entropy_rows
from nbloss.kernels.cuda.rows.cross_entropy_stats import cross_entropy_stats_rows
from nbloss.kernels.cuda.rows.log_softmax import log_softmax_backward_rows, log_softmax_rows
from nbloss.kernels.cuda.rows.soft_targets import soft_target_rows
from nbloss.kernels.cuda.rows.softmax import softmax_backward_rows
from nbloss.kernels.cuda.runtime import launch, plan
from nbloss.kernels.cuda.runtime.arguments import (
    c_ordered,
    gradient_arguments,
    hessian_arguments,
    row_option,
    stats_arguments,
)
from nbloss.kernels.cuda.sums import sum_arguments
from nbloss.kernels.cuda.tuning import BLOCK_THREADS

_NAMES = {"f": "float32", "d": "float64", "H": "uint16", "h": "int16"}  # NumPy takes microseconds to name a dtype


def _contiguous_rows(kernels, array):
    """The array itself if the elements of each row are adjacent and the row stride is not negative, otherwise a C-ordered copy."""
    if array.contiguous or ((array.strides[1] == array.itemsize or array.shape[1] == 1) and array.strides[0] >= 0):
        return array
    return kernels.packed(array)


def _row_stride(array):
    return array.shape[1] if array.contiguous else array.strides[0] // array.itemsize


def _aligned_alike(arrays):
    """Whether row r of every array has the same offset from a multiple of 16 bytes, for every r: then all are read in the same vectors."""
    first, stride = arrays[0].address // arrays[0].itemsize, _row_stride(arrays[0])
    for array in arrays[1:]:
        width = 16 // array.itemsize
        if (array.address // array.itemsize - first) % width or (_row_stride(array) - stride) % width:
            return False
    return True


def _run(kernels, make, constants, inputs, result, arguments, heavy=False, losses=None):
    """Launch a kernel over the rows of ``inputs``: ``arguments``, then number of rows, classes, strides and offset.

    A kernel of ``losses`` also takes whether it adds them, and what it then needs (`sums.sum_arguments`).
    """
    x = inputs[0]
    count, classes, _ = x.shape
    stored = _NAMES[x.dtype.char]
    aligned = _aligned_alike(inputs if result is None else [*inputs, result])
    p = plan.rows(stored, count, classes, aligned, kernels.capability, kernels.multiprocessors, heavy)
    if losses is not None:
        summed, total = sum_arguments(kernels, x, losses, p.grid // p.cluster)
        constants, arguments = (*constants, summed), (*arguments, *total)
    launch.run(
        kernels,
        make,
        (stored, p.width, p.group, p.vectors, p.resident, kernels.sm80, *constants),
        p.grid,
        p.threads,
        *arguments,
        count,
        classes,
        *map(_row_stride, inputs),
        x.address // x.itemsize % (16 // x.itemsize),
        cluster=p.cluster,
        min_blocks=p.min_blocks,
    )


def _run_row_per_thread(kernels, make, constants, x, out, arguments, losses=None):
    """Launch a kernel of `row_per_thread` over adjacent rows, if the plan has one: ``arguments``, then the number of rows."""
    count, classes, _ = x.shape
    stored = _NAMES[x.dtype.char]
    aligned = x.address % 16 == 0 and (out is None or out.address % 16 == 0)
    width = plan.width_of_row_per_thread(stored, classes, _row_stride(x) == classes, aligned)
    if width == 0:
        return False
    if losses is not None:
        summed, total = sum_arguments(kernels, x, losses, blocks(count))
        constants, arguments = (*constants, summed), (*arguments, *total)
    constants = stored, classes, width, kernels.sm80, *constants
    launch.run(kernels, make, constants, blocks(count), BLOCK_THREADS, *arguments, count)
    return True


def _log_softmax(kernels, x, out, probabilities):
    x = _contiguous_rows(kernels, x)
    if not _run_row_per_thread(kernels, row_per_thread.log_softmax, (probabilities,), x, out, (x, out)):
        _run(kernels, log_softmax_rows, (probabilities,), [x], out, (x, out))


def log_softmax(kernels, x, out):
    _log_softmax(kernels, x, out, False)


def log_softmax_backward(kernels, g, y, out):
    g, y = _contiguous_rows(kernels, g), _contiguous_rows(kernels, y)
    _run(kernels, log_softmax_backward_rows, (), [g, y], out, (g, y, out))


def softmax(kernels, x, out):
    _log_softmax(kernels, x, out, True)


def softmax_backward(kernels, g, y, out):
    g, y = _contiguous_rows(kernels, g), _contiguous_rows(kernels, y)
    _run(kernels, softmax_backward_rows, (), [g, y], out, (g, y, out))


def cross_entropy(kernels, x, target, mask, scale, options, upstream, loss, out):
    x = _contiguous_rows(kernels, x)
    optioned, option = row_option(options, loss.dtype.type)
    constants = out is not None, optioned
    arguments = x, target, int(mask), scale, option, *gradient_arguments(upstream, loss, out)
    if not _run_row_per_thread(kernels, row_per_thread.cross_entropy, constants, x, out, arguments, loss):
        _run(kernels, cross_entropy_rows, constants, [x], out, arguments, losses=loss)


def cross_entropy_soft(kernels, x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out):
    """A kernel for probabilities reads no target, and one for class numbers no y: other arrays fill those arguments."""
    soft, real = y is not None, loss.dtype.type
    x = _contiguous_rows(kernels, x)
    y = _contiguous_rows(kernels, y) if soft else x
    classes = (loss, 0, loss, loss) if soft else (target, int(mask), scale, spread)
    optioned, option = row_option(options, real)
    arguments = x, y, w, real(a), real(b), *classes, option, *gradient_arguments(upstream, loss, out)
    constants = out is not None, soft, optioned
    _run(kernels, soft_target_rows, constants, [x, y], out, arguments, heavy=True, losses=loss)


def cross_entropy_stats(kernels, x, *given):
    x = _contiguous_rows(kernels, x)
    targeted, arguments = stats_arguments(*given)
    _run(kernels, cross_entropy_stats_rows, (targeted,), [x], None, (x, *arguments), heavy=True)


def distillation(kernels, x, y, beta, upstream, loss, out):
    x, y, real = c_ordered(kernels, x), c_ordered(kernels, y), loss.dtype.type
    rows, classes, _ = x.shape
    arguments = x, y, real(beta), real(1.0 / (beta * beta)), *gradient_arguments(upstream, loss, out), classes
    constants = "half" if x.itemsize == 2 else x.dtype.name, kernels.sm80, out is not None
    launch.run(kernels, divergences.distillation, constants, rows, BLOCK_THREADS, *arguments)


def hessian(kernels, x, v, coef, options, out):
    constants, arguments = hessian_arguments(kernels, x, v, coef, options, out)
    launch.run(kernels, second_order.hessian, constants, x.shape[0], BLOCK_THREADS, *arguments, x.shape[1])


def row_mass(kernels, y, w, a, b, mass):
    y, real = c_ordered(kernels, y), mass.dtype.type
    launch.run(kernels, second_order.row_mass, (), y.shape[0], BLOCK_THREADS, y, w, real(a), real(b), mass, y.shape[1])
