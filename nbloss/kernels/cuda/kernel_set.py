"""The contract (``nbloss.kernels.contract``) on DeviceArrays. Every launch is asynchronous; nothing is read back.

Differences from the CPU: ``row_scale`` leaves its findings in ``report``, ``ratio`` and ``reduced`` read them on the device, and ``copy``
copies any array into C order. There is no ``fused_loss``: it saves calls on the CPU, which cost nothing while the device works.
"""

from functools import cache, partialmethod

from nbloss.kernels.cuda.channels_first import launches as channel_launches
from nbloss.kernels.cuda.per_target import nll, strided_copy, sums, targets
from nbloss.kernels.cuda.prims.api import SIMULATED
from nbloss.kernels.cuda.rows import launches as row_launches
from nbloss.kernels.cuda.runtime import memory


@cache
def _device_facts(device):
    """``(compute capability, multiprocessors)``; the simulator stands for the newest kind."""
    if SIMULATED:
        return (9, 0), 2
    from cuda.core import Device

    unit = Device(device)
    return tuple(unit.compute_capability), unit.properties.multiprocessor_count


def _contiguous(kernels, array):
    return array if array.contiguous else kernels.packed(array)


class KernelSet:
    """The kernels on one device and stream."""

    def __init__(self, device, stream):
        self.device, self.stream = device, stream
        self.capability, self.multiprocessors = _device_facts(device)
        self.sm80 = self.capability >= (8, 0)

    def packed(self, array):
        """A C-ordered copy."""
        copy = memory.empty(array.shape, array.dtype, self.device, self.stream)
        strided_copy.copy(self, array, copy)
        return copy

    def _launch(self, name, *arguments, inputs):
        """Rows where the classes are contiguous, else channels first; nothing for empty arrays."""
        x = arguments[0]
        if x.size == 0:
            return
        if x.shape[2] == 1:
            getattr(row_launches, name)(self, *arguments)
        else:
            packed = [_contiguous(self, array) for array in arguments[:inputs]]
            getattr(channel_launches, name)(self, *packed, *arguments[inputs:])

    log_softmax = partialmethod(_launch, "log_softmax", inputs=1)
    log_softmax_backward = partialmethod(_launch, "log_softmax_backward", inputs=2)
    cross_entropy = partialmethod(_launch, "cross_entropy", inputs=1)
    cross_entropy_smooth = partialmethod(_launch, "cross_entropy_smooth", inputs=1)
    cross_entropy_soft = partialmethod(_launch, "cross_entropy_soft", inputs=2)

    row_scale = targets.row_scale
    nll = nll.nll
    nll_backward = nll.nll_backward
    nll_soft = nll.nll_soft
    nll_soft_backward = nll.nll_soft_backward
    ratio = sums.ratio
    reduced = sums.reduced
    copy = strided_copy.copy
