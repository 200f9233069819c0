"""Calls of the CUDA kernels with NumPy arrays. In the simulator the memory of the device is that of the host."""

import numpy as np
from problems import work

from nbloss.kernels.cuda.kernel_set import KernelSet
from nbloss.kernels.cuda.runtime import memory

STORED = {"float16": np.uint16, "bfloat16": np.int16}


def stored(array):
    """The same memory with the dtype that kernels know."""
    return array.view(STORED.get(array.dtype.name, array.dtype))


def on_device(value):
    if not isinstance(value, np.ndarray):
        return value
    return memory.DeviceArray(value, value.__array_interface__["data"][0], 0, value)


class HostKernelSet:
    """A KernelSet whose methods take NumPy arrays and write into them."""

    def __init__(self):
        self.kernel_set = KernelSet(0, None)

    def __getattr__(self, name):
        method = getattr(self.kernel_set, name)
        return lambda *arguments: method(*map(on_device, arguments))


kernels = HostKernelSet()


def with_offset(array, offset):
    """A copy whose address is ``offset`` elements after a multiple of 64 bytes."""
    buffer = np.empty(array.nbytes + (offset + 1) * array.itemsize + 64, np.uint8)
    start = -buffer.ctypes.data % 64 + offset * array.itemsize
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def unwritten(shape, dtype):
    """An array for a result, filled with a number that no result is."""
    return np.full(shape, 77, dtype)


def signed(target):
    """``(target as kernels see it, mask, wide)``."""
    bits = 8 * target.itemsize
    if target.dtype.kind == "i":
        return target.reshape(-1), -1, False
    return target.view(f"i{target.itemsize}").reshape(-1), (1 << bits) - 1 if bits < 64 else -1, bits == 64


def row_scale(
    target, classes, dtype, weight=None, ignore_index=-100, label_smoothing=0.0, sticky=None, serial=1, upstream=(),
    sample_weight=None, over=0.0, empty=np.nan,
):  # fmt: skip
    """``(scale, spread or None, report)``. ``upstream``: the number, whether it is divided, and the array for the quotient."""
    view, mask, wide = signed(target)
    scale = unwritten(target.size, work(dtype))
    spread = unwritten(target.size, work(dtype)) if label_smoothing else None
    report = unwritten(6, np.int64)
    sticky = np.zeros(6, np.int64) if sticky is None else sticky
    hit, share = 1 - label_smoothing, label_smoothing / classes
    given, ends = (view, mask, wide, weight, sample_weight, classes, ignore_index, hit, share), (over, empty, report, sticky, serial)
    kernels.row_scale(*given, scale, spread, *ends, *upstream)
    return scale, spread, report


def reduced(losses, report, reduction, divisor=1.0, empty=np.nan):
    out = unwritten((1,), losses.dtype)
    kernels.reduced(losses, report, reduction == "mean", divisor, empty, out)
    return out[0]


def upstream(g, report, reduction, dtype):
    """One number for all positions, as kernels take it."""
    out = unwritten(1, work(dtype))
    kernels.ratio(g, report if reduction == "mean" else None, 1.0, out)
    return out


def log_softmax(x, out=None):
    out = unwritten(x.shape, x.dtype) if out is None else out
    kernels.log_softmax(stored(x), stored(out))
    return out


def log_softmax_backward(g, y):
    out = unwritten(y.shape, y.dtype)
    kernels.log_softmax_backward(stored(g), stored(y), stored(out))
    return out


def softmax(x, out=None):
    out = unwritten(x.shape, x.dtype) if out is None else out
    kernels.softmax(stored(x), stored(out))
    return out


def softmax_backward(g, y, out=None):
    out = unwritten(y.shape, y.dtype) if out is None else out
    kernels.softmax_backward(stored(g), stored(y), stored(out))
    return out


def cross_entropy(
    x, target, weight=None, *, ignore_index=-100, label_smoothing=0.0, reduction="none", row_options=None, g=1.0, gradient=True, out=None
):
    """``(loss, gradient or None)`` of (outer, C, inner) logits. ``g`` is a number, or an array with a number per position."""
    outer, classes, inner = x.shape
    real = work(x.dtype)
    soft = target.shape == x.shape
    losses = unwritten(outer * inner, real)
    out = (unwritten(x.shape, x.dtype) if out is None else out) if gradient else None
    report = None
    if not soft:
        scale, spread, report = row_scale(target, classes, x.dtype, weight, ignore_index, label_smoothing)
    given = None
    if gradient:
        if np.ndim(g):
            given = g.astype(real).reshape(-1)
        else:
            given = upstream(g / (outer * inner) if soft and reduction == "mean" else g, None if soft else report, reduction, x.dtype)
    results = row_options, given, losses, None if out is None else stored(out)
    w = np.ones(classes, real) if weight is None else weight
    if soft:
        share = label_smoothing / classes
        kernels.cross_entropy_soft(stored(x), target, w, 1 - label_smoothing, share, None, 0, None, None, *results)
    elif label_smoothing:
        kernels.cross_entropy_soft(stored(x), None, w, 0.0, 0.0, *signed(target)[:2], scale, spread, *results)
    else:
        kernels.cross_entropy(stored(x), *signed(target)[:2], scale, *results)
    if reduction == "none":
        return losses.reshape(outer, inner), out
    return reduced(losses, report, reduction, float(outer * inner)), out
