"""The CUDA twin on NumPy arrays: in the simulator the device's memory is the host's. Calls as floor 3 makes them, in canonical form."""

import numpy as np
from problems import work

from nbloss.kernels.cuda.kernel_set import KernelSet
from nbloss.kernels.cuda.runtime import memory

STORED = {"float16": np.uint16, "bfloat16": np.int16}


def stored(array):
    """The same memory as the kernels know it."""
    return array.view(STORED.get(array.dtype.name, array.dtype))


def on_device(value):
    if not isinstance(value, np.ndarray):
        return value
    return memory.DeviceArray(value, value.__array_interface__["data"][0], 0, value)


class OnHost:
    """A KernelSet whose methods take NumPy arrays, and write into them."""

    def __init__(self):
        self.kernel_set = KernelSet(0, None)

    def __getattr__(self, name):
        method = getattr(self.kernel_set, name)
        return lambda *arguments: method(*map(on_device, arguments))


kernels = OnHost()


def placed(array, offset):
    """The same values, so many numbers after an address that is a multiple of 64."""
    room = np.empty(array.nbytes + (offset + 1) * array.itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64 + offset * array.itemsize
    moved = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def unwritten(shape, dtype):
    """Room for a result, full of what no result is."""
    return np.full(shape, 77, dtype)


def signed(target):
    """``(target as kernels see it, mask, wide)``."""
    bits = 8 * target.itemsize
    if target.dtype.kind == "i":
        return target.reshape(-1), -1, False
    return target.view(f"i{target.itemsize}").reshape(-1), (1 << bits) - 1 if bits < 64 else -1, bits == 64


def row_scale(target, classes, dtype, weight=None, ignore_index=-100, label_smoothing=0.0, sticky=None, serial=1):
    """``(scale, spread or None, report)``."""
    seen, mask, wide = signed(target)
    scale = unwritten(target.size, work(dtype))
    spread = unwritten(target.size, work(dtype)) if label_smoothing else None
    report = unwritten(4, np.int64)
    sticky = np.zeros(5, np.int64) if sticky is None else sticky
    hit, share = 1 - label_smoothing, label_smoothing / classes
    kernels.row_scale(seen, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, report, sticky, serial)
    return scale, spread, report


def reduced(losses, report, reduction, divisor=1.0):
    out = unwritten((1,), losses.dtype)
    kernels.reduced(losses, report, reduction == "mean", divisor, out)
    return out[0]


def upstream(g, report, reduction, dtype):
    """One number for all positions, as a kernel takes it."""
    out = unwritten(1, work(dtype))
    kernels.ratio(g, report if reduction == "mean" else None, out)
    return out


def log_softmax(x, out=None):
    out = unwritten(x.shape, x.dtype) if out is None else out
    kernels.log_softmax(stored(x), stored(out))
    return out


def log_softmax_backward(g, y):
    out = unwritten(y.shape, y.dtype)
    kernels.log_softmax_backward(stored(g), stored(y), stored(out))
    return out


def cross_entropy(x, target, weight=None, *, ignore_index=-100, label_smoothing=0.0, reduction="none", g=1.0, gradient=True, out=None):
    """``(loss, gradient or None)`` of (outer, C, inner) logits; ``g`` is a number, or an array of a number per position."""
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
    seen = stored(x), *([] if soft else signed(target)[:2])
    ends = given, losses, None if out is None else stored(out)
    w = np.ones(classes, real) if weight is None else weight
    if soft:
        kernels.cross_entropy_soft(*seen, target, w, 1 - label_smoothing, label_smoothing / classes, *ends)
    elif label_smoothing:
        kernels.cross_entropy_smooth(*seen, scale, spread, w, *ends)
    else:
        kernels.cross_entropy(*seen, scale, *ends)
    if reduction == "none":
        return losses.reshape(outer, inner), out
    return reduced(losses, report, reduction, float(outer * inner)), out
