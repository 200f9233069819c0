"""The backend for calls on the CPU. ``nbloss.backends.cuda`` has the same methods with the same parameters.

A backend converts the caller's arrays to what its kernels take, allocates results, and converts them to what the caller gets.
"""

from functools import cached_property
from importlib import import_module

import numpy as np

from nbloss import _fork_safety
from nbloss.kernels import layouts
from nbloss.kernels.math import rowmath


def _kernel_set():
    """The module of the kernels: the compiled ones, or the NumPy reference if ``NUMBA_DISABLE_JIT`` is set."""
    from numba import config

    return import_module("nbloss.kernels.reference" if config.DISABLE_JIT else "nbloss.kernels.cpu.kernel_set")


class CpuBackend:
    """Computes NumPy arrays on the CPU."""

    @cached_property
    def kernels(self):
        return _fork_safety.shielded(_kernel_set)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def device_array(self, value):
        """``value`` as an array on this backend's GPU; None if NumPy must convert it."""
        return None

    # -------------------- arguments --------------------

    def cast(self, array, dtype):
        return array.astype(dtype, copy=False)

    def pieces(self, axis, inputs, out, any_order=False):
        """The pieces of a call on arrays in the kernels' dtypes (``nbloss.kernels.layouts``)."""
        return layouts.pieces(axis, inputs, out, any_order)

    def flat(self, array):
        """The elements as a contiguous 1-d array."""
        return np.require(array, requirements="CA").reshape(-1)

    def broadcast(self, number, shape):
        """A 0-d array, broadcast to ``shape``."""
        return np.broadcast_to(number, shape)

    def class_weights(self, weight, classes, dtype):
        """The weights of all classes for soft targets; None: the caller gave none."""
        return weight

    # -------------------- results --------------------

    output_kind = "a NumPy array"
    writes_any_strides = True
    reads_any_float = True  # probabilities of a dtype that the logits do not have
    reads_results = True  # without waiting for a device

    def as_output(self, out):
        """The caller's ``out``; None if this backend cannot write it."""
        if type(out) is np.ndarray or (isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray)):
            return out
        return None

    def scratch(self, count, dtype):
        """A temporary array of one number per position."""
        return np.empty(count, dtype)

    def new_output(self, shape, dtype, out=None, like=None):
        """The array of a result: ``out``, or a new array, whose axes have the order in memory that those of ``like`` have."""
        if out is not None:
            return out
        if like is None or 0 in like.strides:
            return np.empty(shape, dtype)
        return np.empty_like(like, dtype, subok=False)

    def kernel_view(self, output):
        """An output as the kernels write it. It is a plain ndarray, because np.matrix cannot have a third axis."""
        return np.asarray(output)

    def store(self, array, out, dtype):
        """Round an array to an output of this dtype, which ``out`` shows as the kernels write it."""
        with np.errstate(all="ignore"):
            out.view(dtype)[...] = array

    def deliver(self, output):
        """What the caller gets for an output."""
        return output

    # -------------------- steps of a loss --------------------

    def row_scale(self, problem, *arguments):
        """Check the targets: ``(scale, the divisor of the mean)``. Raises if one is out of range, before anything is written."""
        *given, spread = arguments
        count, sampled = problem.positions, problem.sample_weight is not None
        one = count > 1 and problem.weight is None and not sampled and spread is None  # one scale is enough, unless a row is ignored
        scale = self.scratch(1 if one else count, problem.dtype)
        weights, wrong, first = self.kernels.row_scale(*given, scale, spread)
        if wrong:
            raise problem.out_of_range(wrong, first, problem.target_array[np.unravel_index(first, problem.shape)])
        if one and weights < count:
            scale = self.scratch(count, problem.dtype)
            self.kernels.row_scale(*given, scale, spread)
        return scale, rowmath.divisor(weights, problem.over, sampled)

    def divisor_of_rows(self, problem):
        """The divisor of the mean of soft targets."""
        if problem.sample_weight is None:
            return rowmath.divisor(problem.positions, problem.over, False)
        return rowmath.divisor(self.kernels.row_sum(problem.sample_weight), problem.over, True)

    def upstream(self, g, problem):
        """The upstream gradient of every position, the division of a mean included, as an array of one number."""
        g = float(g)
        return np.array([rowmath.mean(g, problem.divisor, problem.empty) if problem.divides else g]).astype(problem.dtype)

    def reduced(self, losses, problem):
        """The sum or the mean of the losses."""
        total = self.kernels.row_sum(losses)
        return problem.dtype.type(rowmath.mean(total, problem.divisor, problem.empty) if problem.divides else total)


CPU = CpuBackend()
