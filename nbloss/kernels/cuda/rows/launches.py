"""Rows whose classes lie side by side. A group of threads per row: lanes of a warp, a block, or a cluster of blocks.

Three passes over a row: its maximum, the sum of exponentials, the output. Where the group's registers hold the row (``resident``) memory
is read once and written once; a longer row is read again, chunk by chunk, mostly from the second cache.
"""

from nbloss.kernels.cuda.rows.cross_entropy import cross_entropy_rows
from nbloss.kernels.cuda.rows.log_softmax import log_softmax_backward_rows, log_softmax_rows
from nbloss.kernels.cuda.rows.soft_targets import soft_target_rows
from nbloss.kernels.cuda.runtime import launch, plan

_NAMES = {"f": "float32", "d": "float64", "H": "uint16", "h": "int16"}  # NumPy takes microseconds to name a dtype


def _packed(kernels, array):
    """The array itself where a kernel can walk its rows, else a copy."""
    if array.contiguous or ((array.strides[1] == array.itemsize or array.shape[1] == 1) and array.strides[0] >= 0):
        return array
    return kernels.packed(array)


def _stride(array):
    return array.shape[1] if array.contiguous else array.strides[0] // array.itemsize


def _aligned(arrays):
    """Whether every row of every array begins as many numbers behind a multiple of 16 bytes, as far as vectors are concerned."""
    first, apart = arrays[0].address // arrays[0].itemsize, _stride(arrays[0])
    for array in arrays[1:]:
        width = 16 // array.itemsize
        if (array.address // array.itemsize - first) % width or (_stride(array) - apart) % width:
            return False
    return True


def _run(kernels, make, constants, inputs, result, before, heavy=False):
    """Launch a kernel over the rows of ``inputs``: arguments ``before``, count of rows, classes, strides, alignment."""
    x = inputs[0]
    count, classes, _ = x.shape
    stored = _NAMES[x.dtype.char]
    aligned = _aligned(inputs if result is None else [*inputs, result])
    p = plan.rows(stored, count, classes, aligned, kernels.capability, kernels.multiprocessors, heavy)
    launch.run(
        kernels,
        make,
        (stored, p.width, p.group, p.vectors, p.resident, kernels.sm80, *constants),
        p.grid,
        p.threads,
        *before,
        count,
        classes,
        *map(_stride, inputs),
        x.address // x.itemsize % (16 // x.itemsize),
        cluster=p.cluster,
        at_once=p.at_once,
    )


def log_softmax(kernels, x, out):
    x = _packed(kernels, x)
    _run(kernels, log_softmax_rows, (), [x], out, (x, out), heavy=x.itemsize == 2)


def log_softmax_backward(kernels, g, y, out):
    g, y = _packed(kernels, g), _packed(kernels, y)
    _run(kernels, log_softmax_backward_rows, (), [g, y], out, (g, y, out))


def _gradient(loss, upstream, out):
    """What stands for upstream and out in a launch, and how far apart upstream's numbers are."""
    return (loss, 0, loss) if out is None else (upstream, int(upstream.size > 1), out)


def cross_entropy(kernels, x, target, mask, scale, upstream, loss, out):
    x = _packed(kernels, x)
    upstream, step, result = _gradient(loss, upstream, out)
    _run(kernels, cross_entropy_rows, (out is not None,), [x], out, (x, target, int(mask), scale, upstream, step, loss, result))


def cross_entropy_smooth(kernels, x, target, mask, scale, spread, w, upstream, loss, out):
    x = _packed(kernels, x)
    upstream, step, result = _gradient(loss, upstream, out)
    zero = loss.dtype.type(0)
    given = x, x, w, zero, zero, target, int(mask), scale, spread, upstream, step, loss, result
    _run(kernels, soft_target_rows, (out is not None, False), [x, x], out, given, heavy=True)


def cross_entropy_soft(kernels, x, y, w, a, b, upstream, loss, out):
    x, y = _packed(kernels, x), _packed(kernels, y)
    upstream, step, result = _gradient(loss, upstream, out)
    real = loss.dtype.type
    given = x, y, w, real(a), real(b), loss, 0, loss, loss, upstream, step, loss, result
    _run(kernels, soft_target_rows, (out is not None, True), [x, y], out, given, heavy=True)
