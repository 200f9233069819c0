"""The fast path: common calls run as one kernel, after a few checks.

It takes losses of class numbers and of probabilities, and functions along the last axis, of arrays that the kernels take as they are. All
other calls, and all errors, take the general path through ``nbloss._problem``. For 32 x 10 logits the checks of the general path would take
several times as long as the arithmetic. Next to large logits they run with cold caches, because the logits have replaced the interpreter's
data in them.
"""

import numpy as np
from numpy import ndarray

from nbloss._arguments import float_kind
from nbloss._options import REDUCTIONS
from nbloss._problem import signed_view
from nbloss._warnings import warn_of_positive
from nbloss.backends import select
from nbloss.backends.cpu import CPU
from nbloss.kernels.contract import POSITIVE
from nbloss.kernels.cpu.choose import SUMS_MAX_CLASSES
from nbloss.kernels.cpu.compile import jit
from nbloss.kernels.cpu.tuning import CHANNELS_MIN_POSITIONS, FUSED_MAX_ROWS, LANES_MAX_CLASSES

C_ALIGNED, C_WRITEABLE = 0x0101, 0x0501  # bits of `flags.num`: C order and alignment; the same, and writeable

MAX_READY = 4096  # calls whose kernels are kept

_known: dict = {}  # (dtype of logits, dtype of targets) -> what `_describe` returns


def _describe(logits, target):
    """What the kernels need to know about two dtypes; None if the fast path does not take them.

    ``(view of the logits, an empty weight array, whether targets are probabilities, view of the targets, their mask, whether they are
    uint64)``, as in ``nbloss._problem``.
    """
    known, seen, soft = None, float_kind(logits), float_kind(target)
    if seen and logits.isnative and target.isnative:
        if soft:
            known = seen[0], np.empty(0, seen[1]), True, soft[0], -1, False
        elif target.kind in "iub":
            known = seen[0], np.empty(0, seen[1]), False, *signed_view(target)
    _known[logits, target] = known
    return known


def _walkable(array, classes):
    """Whether the fused kernels walk a 2-d array that is not in C order: its classes are few, or contiguous."""
    row, step = array.strides
    itemsize = array.itemsize
    return not row % itemsize and not step % itemsize and (classes <= LANES_MAX_CLASSES or step == itemsize)


def _writable(out, shape, dtype):
    """Whether the fused kernels write ``out``: of this shape and dtype, each element in a place of its own."""
    if _in_order(out, shape, dtype):
        return True
    if type(out) is not ndarray or out.dtype != dtype or out.shape != shape:
        return False
    if len(shape) != 2 or not out.flags.writeable or not _walkable(out, shape[1]):
        return False
    row, step = (abs(s) for s in out.strides)
    return row >= step * shape[1] or (step >= row * shape[0] and row > 0)


def _in_order(out, shape, dtype):
    """Whether ``out`` is a writeable array of this shape and dtype in C order."""
    return type(out) is ndarray and out.shape == shape and out.dtype == dtype and out.flags.num & C_WRITEABLE == C_WRITEABLE


def _neighbours(x, out, count, classes):
    """Whether the positions of few classes are contiguous in 2-d arrays, and enough of them for the kernels of channels-first arrays."""
    contiguous = x.strides[0] == x.itemsize and (out is None or out.strides[0] == x.itemsize)
    return contiguous and classes <= LANES_MAX_CLASSES and count >= CHANNELS_MIN_POSITIONS


def log_softmax(operation, inputs, dim, out):
    """The result of log_softmax or softmax, or of a "..._backward", along the last axis; None if the general path must take the call.

    The result has the shape and dtype of the first of the ``inputs``.
    """
    like = inputs[0]
    if type(like) is not ndarray or type(dim) is not int or not select.cpu_is_default:
        return None
    dtype = like.dtype
    seen = float_kind(dtype)
    if not seen or not like.flags.c_contiguous or not dtype.isnative:
        return None
    shape = like.shape
    if not shape or (dim != -1 and dim != len(shape) - 1) or not like.size:
        return None
    for array in inputs[1:]:
        if type(array) is not ndarray or array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            return None
    if out is None:
        result = np.empty(shape, dtype)
    elif _in_order(out, shape, dtype) and not any(array is not out and np.may_share_memory(array, out) for array in inputs):
        result = out
    else:
        return None
    arrays = *inputs, result
    if seen[0] is not None:
        arrays = [array.view(seen[0]) for array in arrays]
    if len(shape) != 2:
        arrays = [array.reshape(-1, shape[-1]) for array in arrays]
    CPU.kernels.rows(operation, *arrays)
    return result


# ------------------------------ losses ------------------------------


def loss(
    operation, input, target, weight, ignore_index, reduction, device, smoothing=0.0, lse_square_scale=0.0, g=None, out=None, with_loss=True
):
    """``(loss, gradient)`` of "cross_entropy" or "nll"; None if the general path must take the call.

    The gradient is that of g times the loss, or None without g. The loss is None without ``with_loss``; only "nll" is faster for it.
    """
    if type(input) is not ndarray or type(target) is not ndarray or type(ignore_index) is not int or not select.cpu_is_default:
        return None
    key = (
        operation, input.shape, input.dtype, target.shape, target.dtype, ignore_index, reduction, smoothing, lse_square_scale, device,
        weight is None, g is None, with_loss,
    )  # fmt: skip
    try:
        ready = jit.ready.get(key)
    except TypeError:  # an option that is not of its type
        return None
    in_order = input.flags.num & target.flags.num & C_ALIGNED == C_ALIGNED
    if not in_order:
        key = *key, input.strides, None if type(out) is not ndarray else out.strides
        ready = jit.ready.get(key)
    if ready is None or not (g is None or type(g) is float):
        return _checked_loss(key, input, target, weight, g, out)
    kernel, count, losses, no_weights, as_stored, as_seen, mask, wide, axes, sums, divides = ready
    if weight is None:
        w = no_weights
    elif _fits_classes(weight, input.shape[1], no_weights.dtype):
        w = weight
    else:
        return None
    x, y, into, result = input, target, None, None
    if g is None:
        g = 0.0
    elif out is None:
        into = result = np.empty(input.shape, input.dtype) if in_order else np.empty_like(input)
    elif _in_order(out, input.shape, input.dtype) or (not in_order and _writable(out, input.shape, input.dtype)):
        into = result = out
    else:
        return _checked_loss(key, input, target, weight, g, out)
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_seen is not None:
        y = y.view(as_seen)
    if axes is not None:
        x, into, y = x.reshape(axes), None if into is None else into.reshape(axes), y.reshape(-1)
    if losses:
        losses = np.empty(losses, no_weights.dtype)
    share = smoothing / input.shape[1] if smoothing else None
    done = kernel(
        x, y, mask, wide, w, ignore_index, 1.0 - smoothing, share, weight if smoothing else None, sums, divides, g, losses, into,
        count, count, 1, 0,
    )  # fmt: skip
    if done != 1:
        if not done:
            return None
        warn_of_positive()
    if not with_loss:
        return None, result
    return losses[0] if sums else losses.reshape(target.shape), result


def _fits_classes(weight, classes, dtype):
    """Whether the kernels take class weights as they are."""
    return type(weight) is ndarray and weight.dtype == dtype and weight.shape == (classes,) and weight.flags.num & C_ALIGNED == C_ALIGNED


def _checked_loss(key, input, target, weight, g, out):
    """`loss` with all checks. It keeps what a small call needs to run again with fewer."""
    operation, shape, dtype, _, _, ignore_index, reduction, smoothing, lse_square_scale, device, _, _, with_loss, *strides = key
    if device is not None or type(reduction) is not str or type(smoothing) is not float or lse_square_scale != 0.0:
        return None
    known = _known.get((dtype, target.dtype)) or _describe(dtype, target.dtype)
    axes = len(shape)
    if known is None or reduction not in REDUCTIONS or axes < 2 or not 0.0 <= smoothing <= 1.0:
        return None
    as_stored, no_weights, soft, as_seen, mask, wide = known
    sums, divides = REDUCTIONS[reduction]
    classes, in_order = shape[1], input.flags.c_contiguous
    loss_shape = shape[:1] if axes == 2 else shape[:1] + shape[2:]
    if soft:
        if target.shape != shape or ignore_index >= 0 or operation == "nll":
            return None
        if not target.flags.c_contiguous and (axes > 2 or not _walkable(target, classes)):
            return None
    elif target.shape != loss_shape or not -(2**63) <= ignore_index < 2**63 or target.flags.num & C_ALIGNED != C_ALIGNED:
        return None
    count = input.size // (classes or 1)
    only_sum = sums and g is None and not soft and classes <= SUMS_MAX_CLASSES[operation]  # it needs no array of losses: any number of rows
    if not count or not classes or (count > FUSED_MAX_ROWS and not only_sum):
        return None
    if axes > 2:
        if not in_order or (classes > LANES_MAX_CLASSES and operation != "nll"):
            return None
    elif not in_order and not _walkable(input, 1 if operation == "nll" and only_sum else classes):
        return None
    if weight is not None and not _fits_classes(weight, classes, no_weights.dtype):
        return None
    into = result = None
    if g is not None:
        g = _upstream(g, None if sums else loss_shape, no_weights.dtype)
        if g is None:
            return None
        if out is None:
            result = np.empty(shape, dtype) if in_order else np.empty_like(input)
        elif _writable(out, shape, dtype):
            result = out  # the kernel checks for overlaps
        else:
            return None
        if operation == "nll" and not result.flags.c_contiguous:
            return None
        into = result
    x, y = input, target
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_seen is not None:
        y = y.view(as_seen)
    view = None
    if axes > 2:
        view = shape[0], classes, count // shape[0]
        x, into = x.reshape(view), None if into is None else into.reshape(view)
        y = y.reshape(view) if soft else y.reshape(-1)
    elif not in_order and _neighbours(x, into, count, classes):  # neighbouring positions become the inner axis
        x, into = x.T[None], None if into is None else into.T[None]
        y = y.T[None] if soft else y
    losses = np.empty(1 if only_sum else count, no_weights.dtype) if with_loss or operation != "nll" else None
    kernels, g = CPU.kernels, 0.0 if g is None else g
    if soft:
        done = kernels.fused_soft_loss(x, y, weight, 1.0 - smoothing, smoothing / classes, sums, divides, g, losses, into)
    else:
        w = no_weights if weight is None else weight
        done, kernel = kernels.fused_loss(operation, x, y, mask, wide, w, ignore_index, smoothing, sums, divides, g, losses, into)
        if kernel is not None and type(g) is float and x.ndim == len(view or shape) and in_order == (not strides):
            size = losses if losses is None else losses.size
            if len(jit.ready) > MAX_READY:
                jit.ready.clear()
            jit.ready[key] = kernel, count, size, no_weights, as_stored, as_seen, mask, wide, view, sums, divides
    if not done:
        return None
    if done == POSITIVE:
        warn_of_positive()
    if not with_loss:
        return None, result
    return losses[0] if sums else losses.reshape(loss_shape), result


def _upstream(g, shape, dtype):
    """An upstream gradient as a float, or as an array of one number per position; None if it is none of the usual types."""
    kind = type(g)
    if kind is ndarray and g.ndim:
        fits = g.shape == shape and g.dtype == dtype and g.flags.num & C_ALIGNED == C_ALIGNED
        return g.reshape(-1) if fits else None
    return g if kind is float else float(g) if kind is int or kind is np.float32 or kind is np.float64 else None
