"""The contract of ``nbloss.kernels`` on DeviceArrays. Every launch is asynchronous; nothing is read back.

Differences from the CPU: ``row_scale`` leaves its findings in ``report``, ``ratio`` and ``reduced`` read them on the device, and ``copy``
brings any array into C order. ``mean`` has no twin: its purpose is to save calls that here cost nothing while the device works.
"""

from functools import cache, partialmethod

from nbloss.kernels.cuda import copies, memory, pixels, rows, sums, targets
from nbloss.kernels.cuda.prims import SIMULATED


@cache
def _unit(device):
    """``(compute capability, multiprocessors)``; the simulator stands for the newest kind."""
    if SIMULATED:
        return (9, 0), 2
    from cuda.core import Device

    unit = Device(device)
    return tuple(unit.compute_capability), unit.properties.multiprocessor_count


def _contiguous(twin, array):
    return array if array.contiguous else twin.packed(array)


class Twin:
    """The kernels on one device and stream."""

    def __init__(self, device, stream):
        self.device, self.stream = device, stream
        self.capability, self.multiprocessors = _unit(device)
        self.modern = self.capability >= (8, 0)

    def packed(self, array):
        """A C-ordered copy."""
        copy = memory.empty(array.shape, array.dtype, self.device, self.stream)
        copies.copy(self, array, copy)
        return copy

    def _walk(self, name, *arguments, inputs):
        """Rows where the classes lie side by side, else pixels; nothing where there is nothing."""
        x = arguments[0]
        if x.size == 0:
            return
        if x.shape[2] == 1:
            getattr(rows, name)(self, *arguments)
        else:
            packed = [_contiguous(self, array) for array in arguments[:inputs]]
            getattr(pixels, name)(self, *packed, *arguments[inputs:])

    log_softmax = partialmethod(_walk, "log_softmax", inputs=1)
    log_softmax_backward = partialmethod(_walk, "log_softmax_backward", inputs=2)
    cross_entropy = partialmethod(_walk, "cross_entropy", inputs=1)
    cross_entropy_smooth = partialmethod(_walk, "cross_entropy_smooth", inputs=1)
    cross_entropy_soft = partialmethod(_walk, "cross_entropy_soft", inputs=2)

    row_scale = targets.row_scale
    nll = targets.nll
    nll_backward = targets.nll_backward
    nll_soft = targets.nll_soft
    nll_soft_backward = targets.nll_soft_backward
    ratio = sums.ratio
    reduced = sums.reduced
    copy = copies.copy
