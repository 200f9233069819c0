"""The gradients of `linear_cross_entropy` with respect to its input, weight and bias, from the gradients of the logits of each chunk."""

import math

import numpy as np

TILE_OUTPUTS = 2048  # rows of the layer's gradient that are added at a time: 1.15 times the product alone, 256 or all of them 1.3 (2026-11)

FLUSHED_AT_ONCE = 1 << 16  # numbers

# The exponentials of the kernels are 0, or at least the smallest normal number over 2 to the power of this.
_EXPONENT_OF_EXP = {np.dtype(np.float32): 33, np.dtype(np.float64): 64}


class Gradients:
    """Adds what each chunk of rows gives to the gradients of the input, the weight and the bias.

    A product with subnormal numbers takes a hundred times as long. So the kernels get the upstream gradient times 2^k, such that no
    gradient of a logit is subnormal, and the sums of products are multiplied by 2^-k. Powers of two change no bit.
    """

    def __init__(self, problem, layer, outs, accumulate, upstream, largest_feature):
        self.problem, self.layer, self.accumulate = problem, layer, accumulate
        self.of_input, self.of_weight, self.of_bias = outs
        upstream = problem.of_kept(upstream)
        k, self.flushes = self._exponent(upstream, largest_feature)
        self.up, self.down = problem.dtype.type(2.0**k), problem.dtype.type(2.0**-k)
        self.upstream = upstream * self.up
        self.is_empty = not accumulate  # the first chunk writes the sum instead of adding to it
        if self.of_weight is not None:
            # Where the caller's array is of the computed dtype, the products are added there. Otherwise their sum is rounded once.
            self.in_place = self.of_weight.dtype == problem.dtype and self.of_weight.flags.carray
            whole = np.asarray(self.of_weight) if self.in_place else self._start_of_sum()
            self.sum = whole.reshape(layer.shape)
            self.to_sum = self.down if accumulate else problem.dtype.type(1)  # the caller's sum is not multiplied by 2^k, ours is
            self.tile = np.empty((min(TILE_OUTPUTS, layer.shape[0]), layer.shape[1]), problem.dtype)
        self.sum_of_bias = None if self.of_bias is None else np.zeros(problem.outputs)

    def _start_of_sum(self):
        if self.accumulate:
            return self.of_weight.astype(self.problem.dtype, order="C")
        return np.empty(self.of_weight.shape, self.problem.dtype)

    def _exponent(self, upstream, largest_feature):
        """The k of the class's docstring, and whether there may be subnormal gradients nevertheless."""
        problem = self.problem
        own = 1.0 if problem.soft else np.abs(problem.scale)
        if problem.spread is not None:
            own = own + problem.classes * problem.spread
        if problem.options is not None and problem.options.maps:
            own = own * problem.options.logit_scale
        factors = np.abs(upstream) * own  # the gradient of a logit is its probability times this, but for the target's
        factors = factors[(factors > 0) & (factors < math.inf)]
        if not factors.size:
            return 0, False
        low, high = (math.frexp(number)[1] for number in (factors.min(), factors.max()))
        limit = -np.finfo(problem.dtype).minexp
        low = max(low, high - limit // 6)  # what is larger by more than this could overflow
        wanted = k = _EXPONENT_OF_EXP[problem.dtype] + problem.classes.bit_length() + 4 - low
        if 0.0 < largest_feature < math.inf:  # no sum of products should overflow
            k = min(k, limit - 10 - high - math.frexp(largest_feature)[1] - problem.rows.bit_length())
        k = max(-limit, min(k, limit))
        bends = problem.options is not None and problem.options.softcap is not None  # slopes may be of any size
        return k, bends or k < wanted or low > math.frexp(factors.min())[1]

    def add(self, chunk, x, logits):
        """Add what one chunk gives: features x, and the gradients of its logits, which are overwritten."""
        if self.flushes:
            step = max(1, FLUSHED_AT_ONCE // logits.shape[1])
            for start in range(0, len(logits), step):
                some = logits[start : start + step]
                some[np.abs(some) < np.finfo(some.dtype).tiny] = 0
        at_target = None
        if not self.problem.soft:  # outside the products: these are the largest numbers, and errors get 5 to 8 times smaller without them
            at_target = _AtTarget(self.problem, chunk, logits)
        if self.of_input is not None:
            self._add_input(chunk, logits, at_target)
        if self.sum_of_bias is not None:
            self.sum_of_bias += np.matmul(np.ones(chunk.size, logits.dtype), logits)
            if at_target is not None:
                self.sum_of_bias += np.bincount(at_target.outputs, at_target.values, self.problem.outputs)
        if self.of_weight is not None:
            self._add_weight(logits, x, at_target)

    def _add_input(self, chunk, logits, at_target):
        rows = np.asarray(self._rows_of_input())
        in_place = not self.accumulate and isinstance(chunk.rows, slice) and rows.dtype == logits.dtype and rows.flags.carray
        result = np.matmul(logits, self.layer, out=rows[chunk.rows] if in_place else None)
        if at_target is not None:
            several = self.problem.inner > 1  # terms of one row, whose own sum is more accurate than adding each to the product
            terms = np.zeros_like(result) if several else result
            at_target.scatter(self.layer, at_target.outputs, 1.0, terms, at_target.rows)
            if several:
                result += terms
        result *= self.down
        if not in_place:
            rows[chunk.rows] = result + rows[chunk.rows] if self.accumulate else result

    def _rows_of_input(self):
        return self.of_input[None] if self.of_input.ndim == 1 else self.of_input

    def _add_weight(self, logits, x, at_target):
        if self.is_empty:
            np.matmul(logits.T, x, out=self.sum)
            self.is_empty = False
        else:
            for start in range(0, len(self.sum), TILE_OUTPUTS):
                some = self.sum[start : start + TILE_OUTPUTS]
                tile = self.tile[: len(some)]
                np.matmul(logits[:, start : start + TILE_OUTPUTS].T, x, out=tile)
                if self.to_sum != 1:
                    tile *= self.to_sum
                some += tile
        if at_target is not None:
            at_target.scatter(x, at_target.rows, float(self.to_sum), self.sum, at_target.outputs)

    def finish(self):
        """Write the sums that are not in the caller's arrays, and zeros for the rows that do not count."""
        problem = self.problem
        if self.of_input is not None and not self.accumulate and problem.kept is not None:
            others = np.ones(problem.rows, np.bool_)
            others[problem.kept] = False
            self._rows_of_input()[others] = 0
        if self.of_weight is not None:
            if self.is_empty:
                self.sum[...] = 0
            elif not self.accumulate:
                self.sum *= self.down
            if not self.in_place:
                self.of_weight[...] = self.sum.reshape(self.of_weight.shape)
        if self.of_bias is not None:
            total = (self.sum_of_bias * float(self.down)).reshape(self.of_bias.shape)
            self.of_bias[...] = total + self.of_bias if self.accumulate else total


class _AtTarget:
    """The gradients at the targets of a chunk's positions, taken out of the gradients of its logits, which become 0 there."""

    def __init__(self, problem, chunk, logits):
        target = problem.class_numbers[chunk.positions]
        self.rows = np.repeat(np.arange(chunk.size, dtype=np.int64), problem.inner)
        self.outputs = target * problem.inner + np.tile(np.arange(problem.inner, dtype=np.int64), chunk.size)
        self.values = logits[self.rows, self.outputs]
        logits[self.rows, self.outputs] = 0
        self._add_rows = problem.backend.kernels.scatter_rows

    def scatter(self, source, rows, after, into, into_rows):
        """Add rows of a matrix, times the gradients and ``after``, to rows of another one, in the order of positions."""
        self._add_rows(source, rows, self.values, after, into, into_rows)
