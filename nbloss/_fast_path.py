"""The short way for calls that need no judging: losses of class numbers, and log_softmax of rows, in one kernel each.

Whatever is unusual (and every error) goes the long way, through ``_problem``. On 32 x 10 logits the long way's checks would cost several
times the arithmetic; around large ones the interpreter runs them from cold caches, as the logits have thrown its data out.
"""

import numpy as np
from numpy import ndarray

from nbloss._problem import REDUCTIONS, float_kind, output_array, signed_view
from nbloss.backends import select
from nbloss.backends.cpu import CPU
from nbloss.kernels.cpu.choose import sums_without_array
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS, TILE_MAX_CLASSES

PLAIN = 0x0101  # of `flags.num`: in C order, and aligned

_known: dict = {}


def _describe(logits, target):
    """What a pair of dtypes means to the kernel: view of the logits, no weights, view, mask and width of the targets; or None."""
    known, seen = None, float_kind(logits)
    if seen and logits.isnative and target.kind in "iub" and target.isnative:
        known = seen[0], np.empty(0, seen[1]), *signed_view(target)
    _known[logits, target] = known
    return known


def _by_numbers(array):
    """Whether neighbours along every axis lie whole numbers apart."""
    return not any(stride % array.itemsize for stride in array.strides)


def log_softmax(operation, inputs, dim, out):
    """The result of "log_softmax" or "log_softmax_backward" of named arrays, classes last; None where the long way has to look."""
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
    result = output_array(CPU, out, shape, dtype, inputs, [])
    arrays, rows = [], (-1, shape[-1], 1)
    for array in (*[array for _, array in inputs], result):
        arrays.append((array if seen[0] is None else array.view(seen[0])).reshape(rows))
    getattr(CPU.kernels, operation)(*arrays)
    return result


def loss(operation, input, target, weight, ignore_index, reduction, device, label_smoothing=0.0, g=None, out=None, valued=True):
    """``(loss, gradient)`` of "cross_entropy" or "nll"; None where the long way has to look.

    The gradient of g times the loss, None without g; the loss None where it is not to be ``valued`` (only "nll" is faster without).
    """
    if type(input) is not ndarray or type(target) is not ndarray or type(ignore_index) is not int:
        return None
    if device is not None or type(label_smoothing) is not float or label_smoothing != 0.0 or not select.cpu_is_default():
        return None
    shape = input.shape
    if len(shape) < 2 or target.shape != shape[:1] + shape[2:] or type(reduction) is not str or reduction not in REDUCTIONS:
        return None
    sums, divides = REDUCTIONS[reduction]
    alone = sums and g is None and sums_without_array(operation, shape[1])  # a sum that needs no array, whatever its size
    count = target.size
    if not (0 < count <= FUSED_MAX_ROWS or (alone and count)) or not shape[1] or not -(2**63) <= ignore_index < 2**63:
        return None
    strided = alone and operation == "nll" and len(shape) == 2
    if target.flags.num & PLAIN != PLAIN or not (input.flags.c_contiguous or (strided and _by_numbers(input))):
        return None
    pair = input.dtype, target.dtype
    known = _known.get(pair) or _describe(*pair)
    if known is None:
        return None
    as_stored, no_weights, as_signed, mask, wide = known
    number = no_weights.dtype
    if weight is None:
        w = no_weights
    elif type(weight) is ndarray and weight.dtype == number and weight.shape == shape[1:2] and weight.flags.num & PLAIN == PLAIN:
        w = weight
    else:
        return None
    x, y, into, result = input, target, None, None
    if g is not None:
        if out is not None and type(out) is not ndarray:
            return None
        into = result = output_array(CPU, out, shape, pair[0], [], [])  # the kernel looks for overlaps
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_signed is not None:
        y = y.view(as_signed)
    if len(shape) == 2:
        x, into = x[:, :, None], None if into is None else into[:, :, None]
    elif shape[1] <= TILE_MAX_CLASSES:
        canonical = shape[0], shape[1], -1
        x, y, into = x.reshape(canonical), y.reshape(-1), None if into is None else into.reshape(canonical)
    else:
        return None
    losses = np.empty(1 if alone else count, number) if valued else None
    if not CPU.kernels.fused_loss(operation, x, y, mask, wide, w, ignore_index, sums, divides, g or 0.0, losses, into):
        return None
    if not valued:
        return None, result
    return losses[0] if sums else losses.reshape(target.shape), result
