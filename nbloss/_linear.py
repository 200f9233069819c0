"""The problem of `linear_cross_entropy`: its logits, input @ linear_weight.T + linear_bias, exist for one chunk of rows at a time.

Per chunk: the logits by NumPy's matrix product, the kernels of the cross entropy in place of them, and two more products for the gradients.
Chunks are of rows alone: with blocks of classes the logits would have to be computed twice.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from nbloss._arguments import float_array, real_array
from nbloss._options import checked_bytes
from nbloss._problem import Problem, output_array

TILE_OUTPUTS = 2048  # rows of the layer's gradient that are added at a time: 1.15 times the product alone, 256 or all of them 1.3 (2026-11)
MIN_ROWS, FULL_BYTES = 384, 8 << 20  # a chunk is not larger than both: fewer rows make the products slower, more do not make them faster
NAMES = "input", "linear_weight", "linear_bias"
# The statistics in the order of the kernel, and their dtypes; None: that of the loss.
STATS = {"lse": None, "log_prob": None, "argmax": np.dtype(np.int64), "correct": np.dtype(np.bool_), "entropy": None}

# The exponentials of the kernels are 0, or at least the smallest normal number over 2 to the power of this.
_EXPONENT_OF_EXP = {np.dtype(np.float32): 33, np.dtype(np.float64): 64}


def checked_wrt(wrt):
    """The names of the gradients that are asked for."""
    names = [wrt] if isinstance(wrt, str) else list(wrt)
    for name in names:
        if name not in NAMES:
            raise ValueError(f"wrt should hold names from {', '.join(map(repr, NAMES))}; got {name!r}")
    return names


class LinearGradients(NamedTuple):
    """The loss of `linear_cross_entropy`, and its gradients; None where one was not asked for, or where there is no bias."""

    loss: Any
    input: Any
    linear_weight: Any
    linear_bias: Any


class Chunk(NamedTuple):
    """Some rows: their numbers in the caller's arrays, and the slice of the numbers per position that belong to them."""

    rows: Any
    count: int
    positions: slice


class LinearProblem(Problem):
    """The features, the layer, the targets and the options of one loss. `Problem` sees logits of the right shape that hold nothing."""

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
        self.inner = math.prod(outputs[1:])
        self.outputs, self.rows = self.classes * self.inner, 1 if x.ndim == 1 else len(x)

    # -------------------- results --------------------

    def outs(self, wrt, out, accumulate):
        """The arrays of the gradients, for the caller: new ones, or those of ``out``; None for those that are not asked for."""
        given = (None, None, None) if out is None else tuple(out)
        if len(given) != len(NAMES):
            raise ValueError(f"out should hold three arrays or None, for {', '.join(NAMES)}; got {len(given)}")
        inputs = dict(zip(NAMES, (self.features, self.layer, self.bias), strict=True))
        others = [*inputs.items(), ("target", self.target_array), ("weight", self.weight), ("sample_weight", self.sample_weight_array)]
        results = []
        for (name, like), array in zip(inputs.items(), given, strict=True):
            if name not in wrt or like is None:
                results.append(None)
                continue
            if accumulate and array is None:
                raise ValueError(f"out should have an array for each gradient that accumulate=True adds to; got None for {name}")
            dtype_and_shape = np.broadcast_to(np.zeros((), self.features.dtype), like.shape)
            before = [(f"the out of {n}", a) for n, a in zip(NAMES, results, strict=False)]
            results.append(output_array(self.backend, array, dtype_and_shape, [], [*others, *before], f"out of {name}", f"{name}'s"))
        return results

    def check_stats(self, stats, outs):
        """Check the arrays of statistics."""
        for name, array in (stats or {}).items():
            if name not in STATS:
                raise ValueError(f"stats should hold arrays by names from {', '.join(map(repr, STATS))}; got {name!r}")
            if self.soft and name in ("log_prob", "correct"):
                raise ValueError(f"stats should not hold {name!r} with a target of probabilities")
            like = np.broadcast_to(np.zeros((), self._stat_dtype(name)), self.shape)
            others = [("input", self.features), ("linear_weight", self.layer), ("linear_bias", self.bias), ("target", self.target_array)]
            others += [(f"the out of {n}", out) for n, out in zip(NAMES, outs, strict=True)]
            output_array(self.backend, array, like, [], others, f"{name} of stats", "the loss's")

    def _stat_dtype(self, name):
        return STATS[name] or self.dtype

    # -------------------- rows that count, and chunks of them --------------------

    def keep_rows(self):
        """Leave the rows out that do not count: they are never read. Sets ``kept``, None where all count; numbers are then of kept rows."""
        numbers = self.sample_weight if self.soft else self.scale
        self.kept = None
        if not self.soft:
            self.class_numbers = self.backend.flat(self.target_array).astype(np.intp)
        if numbers is None or (numbers.size == 1 < self.positions):
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
        if self.kept is None or numbers is None or (numbers.size == 1 < self.positions):
            return numbers
        return numbers.reshape(self.rows, self.inner)[self.kept].reshape(-1)

    def chunks(self):
        """The rows that count, in chunks of nearly equal size. A chunk of one row would take another product, with other bits."""
        rows, row_bytes = self.rows if self.kept is None else len(self.kept), self.outputs * self.dtype.itemsize
        if not rows or not self.outputs:
            return
        most = max(2, min(self.max_memory // row_bytes, max(MIN_ROWS, FULL_BYTES // row_bytes)))
        count = max(1, min(math.ceil(rows / most), rows // 2))
        bounds = [rows * k // count for k in range(count + 1)]
        for start, stop in zip(bounds, bounds[1:], strict=False):
            yield Chunk(
                slice(start, stop) if self.kept is None else self.kept[start:stop],
                stop - start,
                slice(start * self.inner, stop * self.inner),
            )

    # -------------------- the computation --------------------

    def run(self, grad_output, outs, accumulate, stats=None):
        """The losses of all positions. Fills the gradients ``outs``, and the arrays of ``stats``."""
        with np.errstate(all="ignore"):
            return self._run(grad_output, outs, accumulate, stats or {})

    def _run(self, grad_output, outs, accumulate, stats):
        wants = any(out is not None for out in outs)
        upstream = self.upstream(grad_output) if wants else None
        self.keep_rows()
        losses = self.loss_buffer()
        part = losses if self.kept is None else self.backend.scratch(len(self.kept) * self.inner, self.dtype)
        found = self._stats_buffers(stats, part.size)
        chunks = list(self.chunks())
        layer = self.backend.cast(self.layer.reshape(self.outputs, -1), self.dtype)
        features = self.features.reshape(self.rows, -1)
        gradients = _Gradients(self, layer, outs, accumulate, upstream) if wants else None
        buffer = np.empty((max((chunk.count for chunk in chunks), default=0), self.outputs), self.dtype)
        for chunk in chunks:
            x = self.backend.cast(features[chunk.rows], self.dtype)
            logits = buffer[: chunk.count]
            np.matmul(x, layer.T, out=logits)
            if self.bias is not None:
                logits += self.bias.reshape(-1)
            self._kernels(chunk, logits, part, found, gradients)
            if gradients is not None:
                gradients.add(chunk, x, logits)
        if gradients is not None:
            gradients.finish()
        self._spread_out(losses, part, 0)
        for name, array in stats.items():
            self._spread_out(array, found[name], -1 if name == "argmax" else 0)
        return losses

    def _kernels(self, chunk, logits, losses, stats, gradients):
        """The losses of a chunk, its statistics, and the gradient in place of its logits."""
        shape = chunk.count, self.classes, self.inner
        x = logits.reshape(shape)

        def at(numbers):
            return numbers if numbers is None or (numbers.size == 1 < self.positions) else numbers[chunk.positions]

        if stats:
            scale, outputs = at(self.scale), [at(stats[name]) for name in STATS]
            self.backend.kernels.cross_entropy_stats(x, at(self.target), self.mask, scale, *outputs)
        y = None
        if self.soft:
            y = np.ascontiguousarray(self.soft_targets().reshape(self.rows, *shape[1:])[chunk.rows])
        upstream, out = (None, None) if gradients is None else (gradients.upstream, x)
        self._losses_of(x, y, at, self.options, upstream, losses, out)

    def _stats_buffers(self, stats, count):
        """Arrays for all statistics of the rows that count; {} if none is asked for."""
        if not stats:
            return {}
        of_target = () if not self.soft else ("log_prob", "correct")
        return {name: None if name in of_target else np.empty(count, self._stat_dtype(name)) for name in STATS}

    def _spread_out(self, whole, part, of_others):
        """Put the numbers of the rows that count into the array of all positions. ``whole`` is ``part`` itself if all count."""
        if whole is part:
            return
        whole = whole if whole.ndim == 1 else whole.reshape(self.positions)
        if self.kept is None:
            whole[...] = part
            return
        rows = whole.reshape(self.rows, self.inner)
        rows[...] = of_others
        rows[self.kept] = part.reshape(-1, self.inner)


class _Gradients:
    """The gradients of the layer and of its input, from the gradients of the logits of all chunks.

    A product whose operand has subnormal numbers takes a hundred times as long. So the kernels get the upstream gradient times 2^k, such
    that no gradient of a logit is subnormal, and the products with x get x times 2^-k. Powers of two change no bit.
    """

    def __init__(self, problem, layer, outs, accumulate, upstream):
        self.problem, self.layer, self.accumulate = problem, layer, accumulate
        self.of_input, self.of_weight, self.of_bias = outs
        upstream = problem.of_kept(upstream)
        k = self._exponent(upstream)
        self.up, self.down = problem.dtype.type(2.0**k), problem.dtype.type(2.0**-k)
        self.upstream = upstream * self.up
        # Where the caller's array is of the computed dtype, the products are added there. Otherwise a sum in that dtype is rounded once.
        self.sum, self.in_place = None, False
        if self.of_weight is not None:
            shape = layer.shape
            self.in_place = self.of_weight.dtype == problem.dtype and self.of_weight.flags.c_contiguous
            self.sum = np.asarray(self.of_weight).reshape(shape) if self.in_place else np.zeros(shape, problem.dtype)
            self.tile = np.empty((min(TILE_OUTPUTS, shape[0]), shape[1]), problem.dtype)
        self.sum_of_bias = None if self.of_bias is None else np.zeros(problem.outputs)
        self.is_empty = self.in_place and not accumulate  # the first chunk writes the sum instead of adding to it

    def _exponent(self, upstream):
        """The k of the class's docstring."""
        problem = self.problem
        largest = np.abs(upstream).max(initial=0.0) * (1.0 if problem.soft else np.abs(problem.scale).max(initial=0.0))
        if not 0.0 < largest < math.inf:
            return 0
        lowest = -np.finfo(problem.dtype).minexp
        k = _EXPONENT_OF_EXP[problem.dtype] + problem.classes.bit_length() + 4 - math.frexp(largest)[1]
        if self.of_weight is not None:  # x times 2^-k should keep its digits, too
            of_x = float(np.abs(problem.features).max(initial=0))
            if 0.0 < of_x < math.inf:
                k = min(k, math.frexp(of_x)[1] + lowest - 50)
        return max(-lowest, min(k, lowest))

    def add(self, chunk, x, logits):
        """Add what one chunk gives: features x, and the gradients of its logits, which are overwritten."""
        at_target = None
        if not self.problem.soft:  # outside the products: these are the largest numbers, and errors get 5 to 8 times smaller without them
            at_target = _AtTarget(self.problem, chunk, logits)
        if self.of_input is not None:
            self._add_input(chunk, logits, at_target)
        if self.sum_of_bias is not None:
            self.sum_of_bias += np.matmul(np.ones(chunk.count, logits.dtype), logits)
            if at_target is not None:
                self.sum_of_bias[at_target.columns] += at_target.sums(at_target.values)
        if self.of_weight is not None:
            self._add_weight(logits, x, at_target)

    def _add_input(self, chunk, logits, at_target):
        result = np.matmul(logits, self.layer)
        if at_target is not None:
            moved = at_target.values[:, None] * self.layer[at_target.outputs]
            result += moved if self.problem.inner == 1 else moved.reshape(chunk.count, self.problem.inner, -1).sum(axis=1)
        result *= self.down
        rows = self._rows_of_input()
        _round(result, rows, self.accumulate, chunk.rows)

    def _rows_of_input(self):
        return self.of_input[None] if self.of_input.ndim == 1 else self.of_input

    def _add_weight(self, logits, x, at_target):
        x = x * self.down
        x[np.abs(x) < np.finfo(x.dtype).tiny] = 0
        if self.is_empty:
            np.matmul(logits.T, x, out=self.sum)
            self.is_empty = False
        else:
            for start in range(0, len(self.sum), TILE_OUTPUTS):
                some = self.sum[start : start + TILE_OUTPUTS]
                tile = self.tile[: len(some)]
                np.matmul(logits[:, start : start + TILE_OUTPUTS].T, x, out=tile)
                some += tile
        if at_target is not None:
            self.sum[at_target.columns] += at_target.sums(at_target.values[:, None] * x[at_target.rows])

    def finish(self):
        """Write the sums that are not in the caller's arrays, and zeros for the rows that do not count."""
        problem = self.problem
        if self.of_input is not None and not self.accumulate and problem.kept is not None:
            others = np.ones(problem.rows, np.bool_)
            others[problem.kept] = False
            self._rows_of_input()[others] = 0
        if self.is_empty:
            self.sum[...] = 0
        if self.of_weight is not None and not self.in_place:
            _round(self.sum.reshape(self.of_weight.shape), self.of_weight, self.accumulate)
        if self.of_bias is not None:
            self.sum_of_bias *= float(self.down)
            _round(self.sum_of_bias.reshape(self.of_bias.shape), self.of_bias, self.accumulate)


class _AtTarget:
    """The gradients at the targets of a chunk's positions, taken out of the gradients of its logits, which become 0 there."""

    def __init__(self, problem, chunk, logits):
        target = problem.class_numbers[chunk.positions]
        self.rows = np.repeat(np.arange(chunk.count), problem.inner)
        self.outputs = target * problem.inner + np.tile(np.arange(problem.inner), chunk.count)
        self.values = logits[self.rows, self.outputs]
        logits[self.rows, self.outputs] = 0
        self.order = np.argsort(self.outputs, kind="stable")
        in_order = self.outputs[self.order]
        self.starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
        self.columns = in_order[self.starts]  # the outputs that are a target, each once

    def sums(self, values):
        """The sums of the values of positions over those of equal outputs, in the order of rows."""
        return np.add.reduceat(values[self.order], self.starts, axis=0)


def _round(array, out, accumulate, rows=...):
    """Round an array to the rows of ``out``, or add it to them."""
    out[rows] = array + out[rows] if accumulate else array
