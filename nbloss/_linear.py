"""The problem of `linear_cross_entropy`: its logits, input @ linear_weight.T + linear_bias, exist for one chunk of rows at a time.

Per chunk: the logits by NumPy's matrix product, the kernels of the cross entropy in place of them, and two more products for the gradients.
Chunks are of rows alone: with blocks of classes the logits would have to be computed twice.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from nbloss._arguments import float_array, real_array
from nbloss._linear_gradients import Gradients
from nbloss._options import checked_bytes
from nbloss._problem import Problem, output_array

MIN_ROWS, FULL_BYTES = 384, 8 << 20  # a chunk is not larger than both: fewer rows make the products slower, more do not make them faster
NAMES = "input", "linear_weight", "linear_bias"
# The statistics in the order of the kernel, and their dtypes; None: that of the loss.
STATS = {"lse": None, "log_prob": None, "argmax": np.dtype(np.int64), "correct": np.dtype(np.bool_), "entropy": None}


def checked_wrt(wrt):
    """The names of the gradients that are asked for."""
    names = [wrt] if isinstance(wrt, str) else list(wrt)
    for name in names:
        if name not in NAMES:
            raise ValueError(f"wrt should hold names from {', '.join(map(repr, NAMES))}; got {name!r}")
    return names


def for_products(array):
    """A matrix that BLAS takes as it is, in C or Fortran order; a copy of one with other strides."""
    sizes = array.itemsize * array.shape[1], array.itemsize * array.shape[0]
    for strides, size in zip((array.strides, array.strides[::-1]), sizes, strict=True):
        if array.flags.aligned and strides[1] == array.itemsize and strides[0] >= size and strides[0] % array.itemsize == 0:
            return array
    return np.ascontiguousarray(array)


class Chunk(NamedTuple):
    """Some rows: their numbers in the caller's arrays, and the slice of the numbers per position that belong to them."""

    rows: Any
    size: int
    positions: slice


class LinearProblem(Problem):
    """The features, the layer, the targets and the options of one loss. `Problem` sees logits of the right shape that hold nothing."""

    logits_name = "logits"

    def __init__(self, backend, features, layer, bias, target, weight, ignore_index, max_memory, *options):
        self.features = x = float_array(backend, "input", features)
        if x.ndim not in (1, 2):
            cure = f": reshape(-1, {x.shape[-1]}) it" if x.ndim else ""
            raise ValueError(f"input should have shape (D,) or (N, D); got {x.shape}{cure}")
        self.layer = w = float_array(backend, "linear_weight", layer)
        if w.ndim < 2 or w.shape[-1] != x.shape[-1]:
            raise ValueError(f"linear_weight should have shape (C, ..., {x.shape[-1]}), input's features last; got {w.shape}")
        if w.dtype != x.dtype:
            raise TypeError(f"linear_weight should have input's dtype {x.dtype}; got {w.dtype}")
        if x.ndim == 1 and w.ndim > 2:
            raise ValueError(f"input should have shape (N, D) where linear_weight has more than two axes; got {x.shape}")
        outputs = w.shape[:-1]
        self.width, self.rows = x.shape[-1], 1 if x.ndim == 1 else len(x)
        if not outputs[0] and self.rows * math.prod(outputs[1:]):
            raise ValueError(f"linear_weight should have at least one class; got shape {w.shape}")
        logits = np.broadcast_to(np.zeros((), x.dtype), (*x.shape[:-1], *outputs))
        reduction, sample_weight, divisor, empty, smoothing, row_options = options
        number = -100 if ignore_index is None else ignore_index
        super().__init__(backend, logits, target, weight, number, reduction, sample_weight, divisor, empty, smoothing, row_options)
        if self.soft and ignore_index is not None:
            raise ValueError(f"ignore_index should be None with a target of probabilities; got {ignore_index}")
        self.bias = None if bias is None else real_array(backend, "linear_bias", bias, self.dtype)
        if bias is not None and self.bias.shape != outputs:
            raise ValueError(f"linear_bias should have shape {outputs}, one per output; got {self.bias.shape}")
        self.max_memory = checked_bytes("max_memory", max_memory)
        self.inner, self.spread = math.prod(outputs[1:]), None
        self.outputs = self.classes * self.inner

    # -------------------- results --------------------

    def _arguments(self, grad_output):
        """The arrays that results may not overlap, with their names."""
        names = (*NAMES, "target", "weight", "sample_weight", "grad_output")
        upstream = grad_output if isinstance(grad_output, np.ndarray) else None
        arrays = self.features, self.layer, self.bias, self.target_array, self.weight, self.sample_weight_array, upstream
        return list(zip(names, arrays, strict=True))

    def outs(self, wrt, out, accumulate, grad_output):
        """The arrays of the gradients, for the caller: new ones, or those of ``out``; None for those that are not asked for."""
        given = (None, None, None) if out is None else out
        if not isinstance(given, (tuple, list)) or len(given) != len(NAMES):
            got = f"{len(given)}" if isinstance(given, (tuple, list)) else type(given).__name__
            raise ValueError(f"out should be a tuple of three, an array or None for each of {', '.join(NAMES)}; got {got}")
        others, results = self._arguments(grad_output), []
        for (name, like), array in zip(others[: len(NAMES)], given, strict=True):
            if name not in wrt or like is None:
                results.append(None)
                continue
            if accumulate and array is None:
                raise ValueError(f"out should have an array for each gradient that accumulate=True adds to; got None for {name}")
            before = [(f"the out of {n}", a) for n, a in zip(NAMES, results, strict=False)]
            results.append(self._output(array, like.shape, self.features.dtype, [*others, *before], f"out of {name}", f"{name}'s"))
        return results

    def _output(self, array, shape, dtype, others, name, of):
        return output_array(self.backend, array, np.broadcast_to(np.zeros((), dtype), shape), [], others, name, of)

    def check_stats(self, stats, outs, grad_output):
        """Check the arrays of statistics."""
        others = [*self._arguments(grad_output), *((f"the out of {n}", out) for n, out in zip(NAMES, outs, strict=True))]
        for name, array in stats.items():
            if name not in STATS:
                raise ValueError(f"stats should hold arrays by names from {', '.join(map(repr, STATS))}; got {name!r}")
            if self.soft and name in ("log_prob", "correct"):
                raise ValueError(f"stats should not hold {name!r} with a target of probabilities")
            if array is None:
                raise TypeError(f"{name} of stats should be a NumPy array; got None")
            others.append(
                (f"{name} of stats", self._output(array, self.shape, self._stat_dtype(name), others, f"{name} of stats", "the loss's"))
            )

    def _stat_dtype(self, name):
        return STATS[name] or self.dtype

    # -------------------- rows that count, and chunks of them --------------------

    def keep_rows(self):
        """Leave the rows out that do not count: they are never read. Sets ``kept``, None where all count; numbers are then of kept rows."""
        numbers = self.sample_weight if self.soft else self.scale
        self.kept = None
        if not self.soft:
            self.class_numbers = self.backend.flat(self.target_array).astype(np.int64)
        if numbers is None or (numbers.size == 1 != self.positions):
            return
        counts = numbers != 0
        if not self.soft:
            if self.spread is not None:
                counts |= self.spread != 0
            self.class_numbers[~counts] = 0  # targets of positions that do not count may be any numbers
        of_rows = counts.reshape(self.rows, self.inner).any(axis=1)
        if not of_rows.all():
            self.kept = np.flatnonzero(of_rows)
            if not self.soft:
                self.target, self.scale, self.spread = map(self.of_kept, (self.target, self.scale, self.spread))
                self.class_numbers = self.of_kept(self.class_numbers)

    def of_kept(self, numbers):
        """The numbers per position of the rows that count."""
        if self.kept is None or numbers is None or (numbers.size == 1 != self.positions):
            return numbers
        return numbers.reshape(self.rows, self.inner)[self.kept].reshape(-1)

    def chunks(self, gradients):
        """The rows that count, in chunks of nearly equal size. A chunk of one row would take another product, with other bits."""
        rows, row_bytes = self.rows if self.kept is None else len(self.kept), self.outputs * self.dtype.itemsize
        if not rows or not self.outputs:
            return
        whole = row_bytes + self.width * self.dtype.itemsize * (3 + 3 * self.inner if gradients else 3)
        if self.soft:
            whole += self.outputs * self.target_array.itemsize
        most = max(2, min(self.max_memory // whole, max(MIN_ROWS, FULL_BYTES // row_bytes)))
        count = max(1, min(math.ceil(rows / most), rows // 2))
        bounds = [rows * k // count for k in range(count + 1)]
        for start, stop in pairwise(bounds):
            yield Chunk(
                slice(start, stop) if self.kept is None else self.kept[start:stop],
                stop - start,
                slice(start * self.inner, stop * self.inner),
            )

    # -------------------- the computation --------------------

    def run(self, grad_output, outs, accumulate, stats):
        """The losses of all positions. Fills the gradients ``outs``, and the arrays of ``stats``."""
        with np.errstate(all="ignore"):
            return self._run(grad_output, outs, accumulate, stats)

    def _run(self, grad_output, outs, accumulate, stats):
        wants = any(out is not None for out in outs)
        upstream = self.upstream(grad_output) if wants else None
        self.keep_rows()
        losses = self.loss_buffer()
        part = losses if self.kept is None else self.backend.scratch(len(self.kept) * self.inner, self.dtype)
        found = self._stats_buffers(stats, part.size)
        chunks = list(self.chunks(wants))
        layer = for_products(self.backend.cast(self.layer, self.dtype).reshape(self.outputs, self.width))
        gradients = None
        if wants:
            largest = max((float(np.abs(self._features_of(chunk)).max(initial=0)) for chunk in chunks), default=0.0)
            gradients = Gradients(self, layer, outs, accumulate, upstream, largest)
        buffer = np.empty((max((chunk.size for chunk in chunks), default=0), self.outputs), self.dtype)
        for chunk in chunks:
            x = self._features_of(chunk)
            logits = buffer[: chunk.size]
            np.matmul(x, layer.T, out=logits)
            if self.bias is not None:
                logits += self.bias.reshape(-1)
            self._kernels(chunk, logits, part, found, gradients)
            if gradients is not None:
                gradients.add(chunk, x, logits)
        if gradients is not None:
            gradients.finish()
        if losses is not part:
            self._spread_out(losses, part, 0)
        for name, array in stats.items():
            self._spread_out(array, found[name], -1 if name == "argmax" else 0)
        return self._weighed(losses) if self.soft else losses

    def _features_of(self, chunk):
        return for_products(self.backend.cast(self.features.reshape(self.rows, self.width)[chunk.rows], self.dtype))

    def _kernels(self, chunk, logits, losses, stats, gradients):
        """The losses of a chunk, its statistics, and the gradient in place of its logits."""
        shape = chunk.size, self.classes, self.inner
        x = logits.reshape(shape)

        def at(numbers):
            return numbers if numbers is None or (numbers.size == 1 != self.positions) else numbers[chunk.positions]

        if stats:
            outputs = [at(stats[name]) for name in STATS]
            self.backend.kernels.cross_entropy_stats(x, at(self.target), self.mask, at(self.scale), *outputs)
        y = self._probabilities_of(chunk, shape) if self.soft else None
        upstream, out = (None, None) if gradients is None else (gradients.upstream, x)
        self._losses_of(x, y, at, self.options, upstream, losses, out)

    def _probabilities_of(self, chunk, shape):
        whole = self.soft_targets()
        some = (whole if self.features.ndim == 2 else whole[None])[chunk.rows]
        return np.ascontiguousarray(some).reshape(shape)

    def _stats_buffers(self, stats, count):
        """Arrays for all statistics of the rows that count; {} if none is asked for."""
        if not stats:
            return {}
        of_target = () if not self.soft else ("log_prob", "correct")
        return {name: None if name in of_target else np.empty(count, self._stat_dtype(name)) for name in STATS}

    def _spread_out(self, whole, part, of_others):
        """Put the numbers of the rows that count into the array of all positions."""
        numbers = part
        if self.kept is not None:
            numbers = np.full(self.positions, of_others, part.dtype)
            numbers.reshape(self.rows, self.inner)[self.kept] = part.reshape(len(self.kept), self.inner)
        whole[...] = numbers.reshape(whole.shape)
