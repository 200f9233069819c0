"""The place of calls that run on the CPU. ``nbloss._cuda`` is its twin: the same names, the same parameters.

A place turns the caller's arrays into what its kernels walk, has room for results, and hands these over as the caller wants them.
"""

from functools import cached_property
from importlib import import_module

import numpy as np

from nbloss import _fork_safety
from nbloss.kernels.math.rowmath import mean


def _kernel_set():
    """The compiled kernels; under ``NUMBA_DISABLE_JIT=1`` their equals in plain NumPy."""
    from numba import config

    return import_module("nbloss.kernels.reference" if config.DISABLE_JIT else "nbloss.kernels.cpu.kernel_set")


class CpuBackend:
    """NumPy arrays, computed where they are."""

    @cached_property
    def kernels(self):
        return _fork_safety.shielded(_kernel_set)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def device_array(self, value):
        """The array that ``value`` is on this place's device; None for what NumPy has to look at."""
        return None

    # -------------------- arguments --------------------

    def cast(self, array, dtype):
        return array.astype(dtype, copy=False)

    def canonical(self, array, shape):
        """``array`` in the kernels' dtype and (outer, C, inner) ``shape``; a copy only where no strides can say it."""
        if any(s % array.itemsize for s in array.strides):
            array = np.ascontiguousarray(array)
        return array.reshape(shape)

    def flat(self, array):
        """The elements side by side."""
        return np.require(array, requirements="CA").reshape(-1)

    def broadcast(self, number, shape):
        """A 0-d array standing for one of ``shape``."""
        return np.broadcast_to(number, shape)

    def ones(self, count, dtype):
        return np.ones(count, dtype)

    # -------------------- results --------------------

    output_kind = "a NumPy array"

    def as_output(self, out):
        """The caller's ``out``, if this place can write it."""
        return out if isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray) else None

    def scratch(self, count, dtype):
        """Scratch for one number per position."""
        return np.empty(count, dtype)

    def new_output(self, shape, dtype, out=None):
        """What the caller will get: ``out``, or a new array."""
        return np.empty(shape, dtype) if out is None else out

    def kernel_view(self, output):
        """An output as kernels write it: as NumPy's own kind of array (a matrix takes no third axis)."""
        return np.asarray(output)

    def deliver(self, output):
        """An output as the caller gets it."""
        return output

    # -------------------- steps of a loss --------------------

    def row_scale(self, problem, *arguments):
        """Judge the targets: (scale, the divisor of the mean). A bad one is an IndexError before anything is written."""
        *given, spread = arguments
        count = problem.positions
        alike = count > 1 and problem.weight is None and spread is None  # if no row is ignored
        scale = self.scratch(1 if alike else count, problem.dtype)
        divisor, wrong, first = self.kernels.row_scale(*given, scale, spread)
        if wrong:
            raise problem.out_of_range(wrong, first, problem.target_array[np.unravel_index(first, problem.shape)])
        if alike and divisor < count:
            scale = self.scratch(count, problem.dtype)
            self.kernels.row_scale(*given, scale, spread)
        return scale, divisor

    def upstream(self, g, problem):
        """What every position's gradient is multiplied by, as one number of the type that is computed in."""
        g = float(g)
        return np.array([mean(g, problem.divisor) if problem.divides else g]).astype(problem.dtype)

    def reduced(self, losses, problem):
        total = self.kernels.row_sum(losses)
        return problem.dtype.type(mean(total, problem.divisor) if problem.divides else total)


CPU = CpuBackend()
