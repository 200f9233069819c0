"""The contract (``nbloss.kernels.contract``) on DeviceArrays. Every launch is asynchronous, and nothing is read back.

Differences from the CPU: ``row_scale`` writes its results to ``report``, from which ``ratio`` and ``reduced`` read them on the device.
``weight_sum`` writes a report for soft targets with sample weights. ``copy`` copies any array into C order. There is no ``fused_loss``: it
saves the time of calls on the CPU, which here overlaps with the work of the device.
"""

from nbloss.kernels.cuda import sums
from nbloss.kernels.cuda.channels_first import launches as channel_launches
from nbloss.kernels.cuda.logit_map import Mapped, mapped_hessian
from nbloss.kernels.cuda.per_target import nll as nll_launches
from nbloss.kernels.cuda.per_target import strided_copy, targets
from nbloss.kernels.cuda.rows import launches as row_launches
from nbloss.kernels.cuda.runtime import devices, memory
from nbloss.kernels.cuda.tuning import WARP_THREADS


def _launches(x):
    """The launches for the layout of x: contiguous classes, or channels first."""
    return row_launches if x.shape[2] == 1 else channel_launches


def _block_launches(x):
    """The launches of kernels that give a contiguous row a block; for a short row these are too many threads."""
    return channel_launches if x.shape[1] <= WARP_THREADS else _launches(x)


class KernelSet:
    """The kernels on one device and stream."""

    def __init__(self, device, stream, call=None):
        """``call`` records the launches (``step``) and the scratch memory (``scratch``); None: nothing does."""
        self.device, self.stream, self.call = device, stream, call
        # (report, whether the sum is divided, array of the result): set before a kernel of losses is launched, which may add them.
        self.sum_into, self.summed = None, False
        self.capability, self.multiprocessors = devices.device_facts(device)
        self.sm80 = self.capability >= (8, 0)

    def scratch(self, shape, dtype):
        """Memory for this call."""
        array = memory.empty(shape, dtype, self.device, self.stream)
        if self.call is not None:
            self.call.scratch(array)
        return array

    def ones(self, count, dtype):
        """Ones of float32 or float64, without a copy from the host."""
        array = self.scratch(count, dtype)
        for offset, pitch, word in memory.words_of_ones(array.dtype):
            arguments = array, offset, pitch, word, count, memory.handle(self.stream)
            memory.fill(*arguments)
            if self.call is not None:
                self.call.step(memory.fill, *arguments)
        return array

    def packed(self, array):
        """A C-ordered copy."""
        copy = self.scratch(array.shape, array.dtype)
        strided_copy.copy(self, array, copy)
        return copy

    def log_softmax(self, x, out):
        if x.size:
            _launches(x).log_softmax(self, x, out)

    def log_softmax_backward(self, g, y, out):
        if g.size:
            _launches(g).log_softmax_backward(self, g, y, out)

    def softmax(self, x, out):
        if x.size:
            _launches(x).softmax(self, x, out)

    def softmax_backward(self, g, y, out):
        if g.size:
            _launches(g).softmax_backward(self, g, y, out)

    def cross_entropy(self, x, target, mask, scale, options, upstream, loss, out):
        if x.size:
            u = Mapped(self, x, options, loss.dtype, out)
            _launches(x).cross_entropy(self, u.x, target, mask, scale, u.options, upstream, loss, u.out)
            u.finish()

    def cross_entropy_soft(self, x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out):
        if x.size:
            u = Mapped(self, x, options, loss.dtype, out)
            _launches(x).cross_entropy_soft(self, u.x, y, w, a, b, target, mask, scale, spread, u.options, upstream, loss, u.out)
            u.finish()

    def cross_entropy_stats(self, x, target, mask, scale, lse, log_prob, argmax, correct, entropy):
        if x.size:
            _launches(x).cross_entropy_stats(self, x, target, mask, scale, lse, log_prob, argmax, correct, entropy)

    def distillation(self, x, y, beta, upstream, loss, out):
        if x.size:
            _block_launches(x).distillation(self, x, y, beta, upstream, loss, out)

    def cross_entropy_hvp(self, x, v, coef, options, out):
        if x.size:
            _block_launches(x).hessian(self, x, v, coef, options, out)

    def cross_entropy_hessian_diag(self, x, coef, options, out):
        if x.size:
            _block_launches(x).hessian(self, x, None, coef, options, out)

    def row_mass(self, y, w, a, b, classes, scale, spread, mass):
        if y is None:
            targets.smoothed_mass(self, w, classes, scale, spread, mass)
        elif y.size:
            _block_launches(y).row_mass(self, y, w, a, b, mass)

    mapped_hessian = mapped_hessian
    row_scale = targets.row_scale
    weight_sum = targets.weight_sum
    weigh = targets.weigh
    nll = nll_launches.nll
    nll_backward = nll_launches.nll_backward
    nll_soft = nll_launches.nll_soft
    nll_soft_backward = nll_launches.nll_soft_backward
    ratio = sums.ratio
    reduced = sums.reduced
    copy = strided_copy.copy
