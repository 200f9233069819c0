"""The fast path: common calls run as one kernel, after a few checks.

It takes losses of class numbers and of probabilities, and functions along an axis, of arrays whose strides the kernels can walk. All other
calls, and all errors, take the general path through ``nbloss._problem``. For 32 x 10 logits the checks of the general path would take
several times as long as the arithmetic. Next to large logits they run with cold caches, because the logits have replaced the interpreter's
data in them.

A small call that has passed all checks leaves its kernel in `jit.ready`, under all that the checks depend on. The same call then skips
them.
"""

import numpy as np
from numpy import ndarray

from nbloss._arguments import float_kind
from nbloss._fast_arguments import (
    C_ALIGNED,
    describe,
    fits_classes,
    fits_rows,
    is_in_order,
    is_writable,
    known_dtypes,
    plain_divisor,
    plain_upstream,
    row_weights,
)
from nbloss._options import EMPTY, REDUCTIONS, checked_row_options
from nbloss._warnings import warn_of_positive
from nbloss.backends import select
from nbloss.backends.cpu import CPU
from nbloss.kernels import contract, layouts
from nbloss.kernels.contract import DONE
from nbloss.kernels.cpu.choose import TRANSPOSED, adds
from nbloss.kernels.cpu.compile import jit
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS

NO_GRADIENT = object()  # in place of an upstream gradient, which may be None by mistake

# ------------------------------ log-softmax and its kind ------------------------------


def along_axis(operation, inputs, dim, out):
    """The result of an operation along an axis, such as "log_softmax"; None if the general path must take the call.

    The result has the shape and dtype of the last of the ``inputs``; the first one may be a number.
    """
    like = inputs[-1]
    if type(like) is not ndarray or type(dim) is not int or not select.cpu_is_default:
        return None
    shape, dtype = like.shape, like.dtype
    seen, axes = float_kind(dtype), len(shape)
    if not seen or not dtype.isnative or not like.size or not -axes <= dim < axes:
        return None
    in_order = like.flags.c_contiguous and (dim == -1 or dim == axes - 1)
    first = inputs[0]
    if first is not like:
        if type(first) is float:
            inputs = np.broadcast_to(np.asarray(first, dtype), shape), like
            in_order = False
        elif type(first) is not ndarray or first.shape != shape or first.dtype != dtype:
            return None
        elif not first.flags.c_contiguous:
            in_order = False
    if out is None:
        result = np.empty(shape, dtype) if like.flags.c_contiguous else CPU.new_output(shape, dtype, like=like)
    elif is_writable(out, shape, dtype) and not any(array is not out and np.may_share_memory(array, out) for array in inputs):
        result = out
        in_order = in_order and out.flags.c_contiguous
    else:
        return None
    arrays = *inputs, result
    if seen[0] is not None:
        arrays = [array.view(seen[0]) for array in arrays]
    if in_order:
        if axes != 2:
            arrays = [array.reshape(-1, shape[-1]) for array in arrays]
        CPU.kernels.rows(operation, *arrays)
        return result
    views = layouts.whole(*layouts.in_memory_order(dim % axes, arrays, arrays[-2]))
    if views is None:
        return None
    getattr(CPU.kernels, operation)(*views)
    return result


# ------------------------------ losses ------------------------------


def loss(
    operation, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
    smoothing=0.0, row_options=(), g=NO_GRADIENT, out=None, with_loss=True,
):  # fmt: skip
    """``(loss, gradient)`` of "cross_entropy", "focal" or "nll"; None if the general path must take the call.

    ``row_options`` are the values that `checked_row_options` checks.
    The gradient is that of g times the loss, or None with NO_GRADIENT. The loss is None without ``with_loss``; only "nll" is faster for it.
    """
    if type(input) is not ndarray or type(ignore_index) is not int or not select.cpu_is_default:
        return None
    if type(target) is not ndarray:
        options = ignore_index, reduction, sample_weight, divisor, empty, device, smoothing, row_options
        return _listed_loss(operation, input, target, weight, options, g, out, with_loss)
    shape, dtype = input.shape, input.dtype  # an attribute of an array is slow: each makes an object
    key = (
        operation, shape, dtype, target.shape, target.dtype, ignore_index, reduction, empty, smoothing, row_options, device,
        weight is None, sample_weight is None, type(g), with_loss,
    )  # fmt: skip
    try:
        ready = jit.ready.get(key)
    except TypeError:  # an option that is not of its type
        return None
    in_order = input.flags.num & target.flags.num & C_ALIGNED == C_ALIGNED
    if not in_order:
        key = *key, input.strides, None if type(out) is not ndarray else out.strides
        ready = jit.ready.get(key)
    if ready is None:
        return _checked_loss(key, input, target, weight, sample_weight, divisor, g, out)
    kernel, count, losses, real, no_weights, hit, share, as_stored, as_seen, mask, wide, view, sums, over = ready
    if weight is None:
        w = no_weights
    elif fits_classes(weight, shape[1], real):
        w = weight
    else:
        return _checked_loss(key, input, target, weight, sample_weight, divisor, g, out)
    rows = no_weights
    if sample_weight is not None:
        rows = row_weights(sample_weight, target.shape, real, out)
        if rows is None:
            return None
    if divisor is not None:
        over = plain_divisor(divisor, over)
        if over is None:
            return None
    x, y, into, result = input, target, None, None
    if g is NO_GRADIENT:
        g = 0.0
    else:
        if out is None:
            into = result = np.empty(shape, dtype) if in_order else CPU.new_output(shape, dtype, like=input)
        elif is_in_order(out, shape, dtype) or (not in_order and is_writable(out, shape, dtype)):
            into = result = out
        else:
            return _checked_loss(key, input, target, weight, sample_weight, divisor, g, out)
        if type(g) is ndarray:
            if not fits_rows(g, target.shape, real):
                return _checked_loss(key, input, target, weight, sample_weight, divisor, g, out)
            g = g.reshape(-1)
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_seen is not None:
        y = y.view(as_seen)
    if view is not None:
        if view == TRANSPOSED:
            x, into = x.T[None], None if into is None else into.T[None]
        else:
            x, into, y = x.reshape(view), None if into is None else into.reshape(view), y.reshape(-1)
    if losses:
        losses = np.empty(losses, real)
    done = kernel(
        x, y, mask, wide, w, rows, ignore_index, hit, share, weight if smoothing else None, None, sums, over, g, losses, into,
        count, count, 1, 0,
    )  # fmt: skip
    if done != DONE and not _finished(done, losses, empty):
        return None
    if not with_loss:
        return None, result
    return losses[0] if sums else losses.reshape(target.shape), result


def _finished(done, losses, empty):
    """Whether a kernel has done its work, as its answer says. Warns of log-probabilities above 0, and writes the mean of no rows."""
    if done == contract.POSITIVE:
        warn_of_positive()
    elif done == contract.EMPTY:
        losses[0] = EMPTY[empty]
    return done


def _listed_loss(operation, input, target, weight, options, g, out, with_loss):
    """`loss` of a list of class numbers, or of one: a row of classes becomes a batch of one row."""
    if not isinstance(target, (list, int, np.integer)):
        return None
    try:
        y = np.asarray(target)
    except (TypeError, ValueError, OverflowError):
        return None
    if y.dtype.kind not in "iu" or y.ndim != max(input.ndim - 1, 0) or (out is not None and type(out) is not ndarray):
        return None
    if y.ndim:
        return loss(operation, input, y, weight, *options, g, out, with_loss)
    batch_of_out = out if out is None or out.ndim != 1 else out[None]
    done = loss(operation, input[None], y[None], weight, *options, g, batch_of_out, with_loss)
    if done is None:
        return None
    value, gradient = done
    value = value[0] if isinstance(value, ndarray) else value
    return value, gradient if gradient is None else gradient[0] if out is None else out


def _checked_loss(key, input, target, weight, sample_weight, divisor, g, out):
    """`loss` with all checks. It keeps what a small call needs to run again with fewer."""
    operation, shape, dtype, _, _, ignore_index, reduction, empty, smoothing, row_options, device, _, _, _, with_loss, *strides = key
    if type(reduction) is not str or type(smoothing) is not float or (device is not None and device != "cpu"):
        return None
    try:
        options = checked_row_options(operation, row_options)
    except (TypeError, ValueError):
        return None
    known = known_dtypes.get((dtype, target.dtype)) or describe(dtype, target.dtype)
    axes = len(shape)
    if known is None or reduction not in REDUCTIONS or axes < 2 or not 0.0 <= smoothing <= 1.0:
        return None
    as_stored, no_weights, soft, as_seen, mask, wide = known
    sums, divides = REDUCTIONS[reduction]
    default = over = 0.0 if divides else 1.0
    if divisor is not None:
        over = plain_divisor(divisor, over)
    if over is None or type(empty) is not str or empty not in EMPTY:
        return None
    classes = shape[1]
    loss_shape = shape[:1] if axes == 2 else shape[:1] + shape[2:]
    count = input.size // (classes or 1)
    # it needs no array of losses: any number of rows
    form = "nll" if operation == "nll" else "cross_entropy"
    only_sum = not soft and adds(form, classes, sums and g is NO_GRADIENT, sample_weight is not None)
    if not count or not classes or (count > FUSED_MAX_ROWS and not only_sum):
        return None
    y, w, into, result = target, weight, None, None
    copied = not soft and target.flags.num & C_ALIGNED != C_ALIGNED
    if soft:
        if target.shape != shape or ignore_index >= 0 or operation != "cross_entropy":
            return None
    elif target.shape != loss_shape or not -(2**63) <= ignore_index < 2**63:
        return None
    elif copied:
        y = np.ascontiguousarray(target)
    if weight is not None and not fits_classes(weight, classes, no_weights.dtype):
        if type(weight) is not ndarray or weight.shape != (classes,) or weight.dtype.kind not in "iuf" or not weight.dtype.isnative:
            return None
        w = np.ascontiguousarray(weight, no_weights.dtype)
    rows = no_weights
    if sample_weight is not None:
        rows = row_weights(sample_weight, loss_shape, no_weights.dtype, out)
        if rows is None:
            return None
    if g is not NO_GRADIENT:
        g = plain_upstream(g, None if sums else loss_shape, no_weights.dtype)
        if g is None:
            return None
        if out is None:
            result = CPU.new_output(shape, dtype, like=input)
        elif is_writable(out, shape, dtype):
            result = out  # the kernel checks for overlaps with what it gets
            if (copied and np.may_share_memory(out, target)) or (w is not weight and np.may_share_memory(out, weight)):
                return None
        else:
            return None
        into = result
    x = input
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_seen is not None:
        y = y.view(as_seen)
    view = None
    ordered = x.flags.c_contiguous and (into is None or into.flags.c_contiguous) and (not soft or y.flags.c_contiguous)
    if axes > 2 or not ordered:
        views = layouts.whole(1, [x, into, y if soft else None])
        if views is None:
            return None
        x, into, y = views[0], views[1], views[2] if soft else y
        view = x.shape
    y = y if soft else y.reshape(-1)
    losses = np.empty(1 if only_sum else count, no_weights.dtype) if with_loss or operation != "nll" else None
    kernels, g = CPU.kernels, 0.0 if g is NO_GRADIENT else g
    if soft:
        done = kernels.fused_soft_loss(x, y, w, 1.0 - smoothing, smoothing / classes, rows, options, sums, over, g, losses, into)
    else:
        done, kernel, asked = kernels.fused_loss(
            form, x, y, mask, wide, no_weights if w is None else w, rows, ignore_index, smoothing, options, sums, over, g, losses,
            into,
        )  # fmt: skip
        fits_key = axes == 2 if strides or asked == TRANSPOSED else ordered  # a call in C order may have written an ``out`` that is not
        if kernel is not None and not copied and not options and fits_key:
            size = losses if losses is None else losses.size
            view = asked if asked == TRANSPOSED else view if axes > 2 else None
            real, hit, share = no_weights.dtype, 1.0 - smoothing, smoothing / classes if smoothing else None
            jit.keep(key, (kernel, count, size, real, no_weights, hit, share, as_stored, as_seen, mask, wide, view, sums, default))
    if done != DONE and not _finished(done, losses, empty):
        return None
    if not with_loss:
        return None, result
    return losses[0] if sums else losses.reshape(loss_shape), result
