"""The fast path: common calls run as one kernel, after a few checks.

It takes losses of class numbers in C order without row options, and log_softmax along the last axis. All other calls, and all errors, take
the general path through ``nbloss._problem``. For 32 x 10 logits the checks of the general path would take several times as long as the
arithmetic. Next to large logits they run with cold caches, because the logits have replaced the interpreter's data in them.
"""

import numpy as np
from numpy import ndarray

from nbloss._arguments import float_kind
from nbloss._options import REDUCTIONS
from nbloss._problem import output_array, signed_view
from nbloss.backends import select
from nbloss.backends.cpu import CPU
from nbloss.kernels.cpu.choose import SUMS_MAX_CLASSES
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS, TILE_MAX_CLASSES

C_ALIGNED = 0x0101  # the bits of `flags.num` for C order and alignment

_known: dict = {}  # (dtype of logits, dtype of targets) -> what `_describe` returns


def _describe(logits, target):
    """What the kernels need to know about two dtypes; None if the fast path does not take them.

    ``(view of the logits, an empty weight array, view of the targets, their mask, whether they are uint64)``, as in ``nbloss._problem``.
    """
    known, seen = None, float_kind(logits)
    if seen and logits.isnative and target.kind in "iub" and target.isnative:
        known = seen[0], np.empty(0, seen[1]), *signed_view(target)
    _known[logits, target] = known
    return known


def _strides_in_elements(array):
    """Whether every stride is a multiple of the element size."""
    return not any(stride % array.itemsize for stride in array.strides)


def log_softmax(operation, inputs, dim, out):
    """The result of "log_softmax" or "log_softmax_backward" along the last axis; None if the general path must take the call.

    ``inputs`` are the arrays as ``(name, array)``; the result has the shape and dtype of the first one.
    """
    like = inputs[0][1]
    if type(like) is not ndarray or type(dim) is not int or not select.cpu_is_default():
        return None
    shape, dtype = like.shape, like.dtype
    seen = float_kind(dtype)
    if not seen or not shape or not like.size or dim not in (-1, len(shape) - 1) or not (like.flags.c_contiguous and dtype.isnative):
        return None
    for _, array in inputs[1:]:
        if type(array) is not ndarray or array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            return None
    if out is not None and type(out) is not ndarray:
        return None
    result = output_array(CPU, out, shape, dtype, inputs)
    arrays, rows = [], (-1, shape[-1], 1)
    for array in (*[array for _, array in inputs], result):
        arrays.append((array if seen[0] is None else array.view(seen[0])).reshape(rows))
    getattr(CPU.kernels, operation)(*arrays)
    return result


def loss(operation, input, target, weight, ignore_index, reduction, device, row_options=(), g=None, out=None, with_loss=True):
    """``(loss, gradient)`` of "cross_entropy" or "nll"; None if the general path must take the call.

    The gradient is that of g times the loss, or None without g. The loss is None without ``with_loss``; only "nll" is faster for it.
    """
    if type(input) is not ndarray or type(target) is not ndarray or type(ignore_index) is not int:
        return None
    if device is not None or not select.cpu_is_default():
        return None
    for option in row_options:
        if type(option) is not float or option:
            return None
    shape = input.shape
    rows = len(shape) == 2
    if (
        target.shape != (shape[:1] if rows else shape[:1] + shape[2:])
        or len(shape) < 2
        or type(reduction) is not str
        or reduction not in REDUCTIONS
    ):
        return None
    sums, divides = REDUCTIONS[reduction]
    only_sum = sums and g is None and shape[1] <= SUMS_MAX_CLASSES[operation]  # it needs no array of losses, so any number of rows will do
    count = target.size
    if not (0 < count <= FUSED_MAX_ROWS or (only_sum and count)) or not shape[1] or not -(2**63) <= ignore_index < 2**63:
        return None
    strided = only_sum and rows and operation == "nll"
    if target.flags.num & C_ALIGNED != C_ALIGNED or not (input.flags.c_contiguous or (strided and _strides_in_elements(input))):
        return None
    pair = input.dtype, target.dtype
    known = _known.get(pair) or _describe(*pair)
    if known is None:
        return None
    as_stored, no_weights, as_signed, mask, wide = known
    computed = no_weights.dtype
    if weight is None:
        w = no_weights
    elif type(weight) is ndarray and weight.dtype == computed and weight.shape == shape[1:2] and weight.flags.num & C_ALIGNED == C_ALIGNED:
        w = weight
    else:
        return None
    x, y, into, result = input, target, None, None
    if g is not None:
        if out is not None and type(out) is not ndarray:
            return None
        into = result = output_array(CPU, out, shape, pair[0])  # the kernel checks for overlaps
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_signed is not None:
        y = y.view(as_signed)
    if rows:
        x, into = x[:, :, None], None if into is None else into[:, :, None]
    elif shape[1] <= TILE_MAX_CLASSES:
        canonical = shape[0], shape[1], -1
        x, y, into = x.reshape(canonical), y.reshape(-1), None if into is None else into.reshape(canonical)
    else:
        return None
    losses = np.empty(1 if only_sum else count, computed) if with_loss else None
    if not CPU.kernels.fused_loss(operation, x, y, mask, wide, w, ignore_index, sums, divides, g or 0.0, losses, into):
        return None
    if not with_loss:
        return None, result
    return losses[0] if sums else losses.reshape(target.shape), result
