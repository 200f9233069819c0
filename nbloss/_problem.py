"""Checks the arrays of a call, and turns the call into what the kernels take. All errors are raised before anything is written.

A call becomes (outer, C, inner) views and a few numbers per position (``nbloss.kernels.contract``). They include the weights, ignore_index,
label smoothing, the reduction and the upstream gradient, so the kernels need none of these (docs/how-it-works/). ``nbloss._options`` checks
the options.
"""

import math
from functools import cache, partial

import numpy as np

from nbloss._arguments import float_array, float_kind, real_array, sample_weight_array, target_array, weight_array
from nbloss._options import (
    EMPTY,
    REDUCTIONS,
    checked_divisor,
    checked_empty,
    checked_ignore_index,
    checked_label_smoothing,
    checked_reduction,
)
from nbloss._warnings import any_positive, warn_of_positive


@cache
def signed_view(dtype):
    """How the kernels see an integer dtype: the signed dtype (None: the same), the mask that undoes the sign, whether it is uint64."""
    bits = 8 * dtype.itemsize
    if dtype.kind == "i":
        return None, -1, False
    return np.dtype(f"i{dtype.itemsize}"), (1 << bits) - 1 if bits < 64 else -1, bits == 64


# ------------------------------ views and results ------------------------------


def as_stored(array):
    """A view of the same memory, with the dtype that the kernels see."""
    seen = float_kind(array.dtype)[0]
    return array if seen is None else array.view(seen)


def output_array(backend, out, like, may_be, may_not_overlap=(), name="out", of="the input's"):
    """The array of a result: ``out``, or a new one. Both lists hold ``(name, array)``; ``out`` may be one of ``may_be`` itself.

    The result has the shape and dtype of ``like``, and, if it is new, its order of axes in memory. Errors say ``name``, and whose shape.
    """
    if out is None:
        return backend.new_output(like.shape, like.dtype, like=like)
    array = backend.as_output(out)
    if array is None:
        raise TypeError(f"{name} should be {backend.output_kind}; got {type(out).__name__}")
    if array.shape != like.shape:
        raise ValueError(f"{name} should have shape {like.shape}, {of}; got {array.shape}")
    if array.dtype != like.dtype:
        raise ValueError(f"{name} should have dtype {like.dtype}; got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError(f"{name} should be writeable; got a read-only array")
    if not backend.writes_any_strides and not array.flags.carray:
        raise ValueError(f"{name} should be an aligned array in C order; got one that is not")
    if not array.flags.c_contiguous and overlaps_itself(array):
        raise ValueError(f"{name} should have a place in memory for each element; got strides {array.strides} for shape {array.shape}")
    for its, other in may_be:
        if other is not out and _overlap(other, array) and not _same_memory(other, array):
            raise ValueError(f"{name} should be {its} itself or share no memory with it; got a partial overlap")
    for its, other in may_not_overlap:
        if other is not None and _overlap(other, array):
            raise ValueError(f"{name} should share no memory with {its}; got an overlap")
    return backend.new_output(like.shape, like.dtype, out)


def delivered(backend, output, out=None):
    """A result for the caller. A 0-d NumPy array becomes a scalar, unless the caller gave it as ``out``."""
    array = backend.deliver(output)
    return array[()] if out is None and type(array) is np.ndarray and array.ndim == 0 else array


def overlaps_itself(array):
    """Whether two elements of an array share memory."""
    reach = array.itemsize  # of the axes with smaller strides
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True) if size > 1):
        if stride < reach:
            offsets = sum(np.ix_(*(np.arange(n) * s for n, s in zip(array.shape, array.strides, strict=True))))
            places = np.sort(offsets, axis=None)
            return bool(np.any(places[1:] - places[:-1] < array.itemsize))
        reach += stride * (size - 1)
    return False


def _geometry_of(array):
    """A NumPy array with the addresses and strides of an array. For an array on a GPU it only describes the memory."""
    return getattr(array, "geometry", array)


def _same_memory(a, b):
    a, b = _geometry_of(a), _geometry_of(b)
    return a.strides == b.strides and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]


def _overlap(a, b):
    a, b = _geometry_of(a), _geometry_of(b)
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def out_of_range(shape, classes, ignore_index, dtype, wrong, position, value):
    """The IndexError for ``wrong`` targets out of range. The first has this ``value``, in its own dtype or in the one that kernels see."""
    index = tuple(int(i) for i in np.unravel_index(position, shape))
    return IndexError(
        f"target should be in [0, {classes}) or {ignore_index} (ignore_index): "
        f"got {np.asarray(value).astype(dtype)} at index {index}; {wrong} of {math.prod(shape)} targets are out of range"
    )


# ------------------------------ the problem ------------------------------


NO_TARGET = object()  # instead of a target: of statistics that need none


class Problem:
    """The logits or log-probabilities, the targets and the options of one loss, in the form that the kernels of a backend take."""

    target_name, logits_name = "target", "input"  # in errors

    def __init__(
        self, backend, input, target, weight, ignore_index, reduction, sample_weight=None, divisor=None, empty="nan",
        label_smoothing=0.0, options=None,
    ):  # fmt: skip
        self._start(backend, input, reduction, divisor, empty)
        x = self.input
        self.ignore_index = checked_ignore_index(ignore_index)
        self.smoothing = checked_label_smoothing(label_smoothing)
        self.options = options
        self.target_array, self.soft, self.target, self.mask, self.scale = None, False, None, 0, None
        if target is not NO_TARGET:
            self.target_array, self.soft = target_array(backend, target, x.shape, self.shape, self.ignore_index, self.logits_name)
        self.weight = (
            None if weight is None else weight_array(backend, weight, x.shape, self.axis, self.shape, self.dtype, self.logits_name)
        )
        self._weigh_rows(sample_weight)

    def _start(self, backend, input, reduction, divisor, empty):
        """Check what all losses have: logits of at least one class, and how losses are reduced."""
        self.backend = backend
        self.input = x = float_array(backend, "input", input)
        if x.ndim == 0:
            raise ValueError("input should have a class axis, shape (C,) or (N, C, ...); got a scalar")
        self.sums, self.divides = REDUCTIONS[checked_reduction(reduction)]
        self.over = checked_divisor(divisor, reduction) or 0.0  # what a mean is divided by; 0: by the weights of the rows that count
        self.empty = EMPTY[checked_empty(empty)]
        self.dtype = float_kind(x.dtype)[1]
        self.axis = 0 if x.ndim == 1 else 1
        self.classes = x.shape[self.axis]
        self.shape = x.shape[: self.axis] + x.shape[self.axis + 1 :]  # the shape of the losses
        self.positions = math.prod(self.shape)

    def _weigh_rows(self, sample_weight):
        """Check the weights of rows, the last array of every loss."""
        self.sample_weight_array = self.sample_weight = None
        if sample_weight is not None:
            self.sample_weight_array = sample_weight_array(self.backend, sample_weight, self.shape, self.dtype)
            self.sample_weight = self.backend.flat(self.sample_weight_array)
        # What is known before the targets are checked: the upstream gradient, if it is a number, and whether the caller gets a sum.
        self.upstream_number, self.wants_sum = None, False
        if self.classes == 0 and self.positions:
            raise ValueError(f"input should have at least one class; got shape {self.input.shape}")

    # -------------------- targets and upstream gradient --------------------

    def check_targets(self):
        """Check the targets, and set ``scale``, ``spread`` and the divisor of the mean. Raises if a target is out of range."""
        if self.soft:
            self.divisor = self.backend.divisor_of_rows(self) if self.divides else None
            return self
        backend, target = self.backend, self.target_array
        seen, self.mask, wide = signed_view(target.dtype)
        self.target = backend.flat(target).view(seen or target.dtype)
        smooth = self.smoothing > 0
        self.spread = backend.scratch(self.positions, self.dtype) if smooth else None
        share = self.smoothing / self.classes if self.classes else 0.0
        weight = None if self.weight is None else backend.flat(self.weight)
        self.scale, self.divisor = backend.row_scale(
            self, self.target, self.mask, wide, weight, self.sample_weight, self.classes, self.ignore_index,
            1.0 - self.smoothing, share, self.spread,
        )  # fmt: skip
        return self

    def refuse_probabilities(self):
        """Raise a TypeError if the target is not class numbers."""
        if self.soft:
            raise TypeError(f"target should hold class numbers, of shape {self.shape}; got probabilities, shape {self.target_array.shape}")

    @property
    def out_of_range(self):
        """A function that makes the IndexError for a bad target. It holds no array, so it may be kept until a late error is raised."""
        return partial(out_of_range, self.shape, self.classes, self.ignore_index, self.target_array.dtype)

    def upstream(self, grad_output):
        """The upstream gradient, with the division of a mean and the sample weights of soft targets: one number, or one per position."""
        g = self._unweighted_upstream(grad_output)
        if not self.soft or self.sample_weight is None:
            return g
        weighed = self.backend.scratch(self.positions, self.dtype)
        self.backend.kernels.weigh(g, self.sample_weight, weighed)
        return weighed

    def _unweighted_upstream(self, grad_output):
        if type(grad_output) is float:
            return self.backend.upstream(grad_output, self)
        shape = () if self.sums else self.shape
        plain = np.ndim(grad_output) == 0
        g = real_array(self.backend, "grad_output", grad_output, np.float64 if plain else self.dtype)
        if g.ndim == 0:
            return self.backend.upstream(g, self)
        if g.shape != shape:
            raise ValueError(f"grad_output should be a number or have the loss's shape {shape}; got {g.shape}")
        return self.backend.flat(g)

    def soft_targets(self):
        """The probabilities as the kernels take them, of input's shape."""
        return self._beside_input(self.target_array)

    def _beside_input(self, array):
        """An array of input's shape, as the kernels take it."""
        as_it_is = self.backend.reads_any_float and float_kind(array.dtype)
        return as_stored(array if as_it_is else self.backend.cast(array, self.dtype))

    def class_weights(self):
        """The class weights of soft targets."""
        weight = None if self.weight is None else self.backend.flat(self.weight)
        return self.backend.class_weights(weight, self.classes, self.dtype)

    def cross_entropy(self, grad_output, gradient, with_loss=True):
        """The losses. Fills ``gradient`` too, unless it is None. Without ``with_loss`` the caller does not get the losses."""
        upstream = None if gradient is None else self.upstream(grad_output)
        losses = self.loss_buffer(with_loss)
        for at, x, *y, out in self._pieces([as_stored(self.input), *([self.soft_targets()] if self.soft else [])], gradient):
            self._losses_of(x, *(y or [None]), at, self.options, upstream, losses, out)
        return self._weighed(losses) if self.soft else losses

    def _losses_of(self, x, y, at, options, upstream, losses, out):
        """Fill the losses and the gradient of the positions that ``at`` picks, which have the logits x, and the probabilities y, if any."""
        kernels, outputs = self.backend.kernels, (options, at(upstream), at(losses), out)
        w = self.class_weights() if self.soft or self.smoothing > 0 else None
        if self.soft:
            kernels.cross_entropy_soft(x, y, w, 1.0 - self.smoothing, self.smoothing / max(self.classes, 1), None, 0, None, None, *outputs)
        elif self.smoothing > 0:
            kernels.cross_entropy_soft(x, None, w, 0.0, 0.0, at(self.target), self.mask, at(self.scale), at(self.spread), *outputs)
        else:
            kernels.cross_entropy(x, at(self.target), self.mask, at(self.scale), *outputs)

    def stats(self):
        """The outputs of the statistics of each row: ``(lse, log_prob, argmax, correct, entropy)``, None for those that need a target."""
        dtypes = self.dtype, self.dtype, np.dtype(np.int64), np.dtype(np.bool_), self.dtype
        given = True, self.target is not None, True, self.target is not None, True
        outputs = [self.backend.new_output(self.shape, dtype) if has else None for dtype, has in zip(dtypes, given, strict=True)]
        numbers = [None if output is None else self.backend.kernel_view(output).reshape(-1) for output in outputs]
        for at, x, _ in self._pieces([as_stored(self.input)], None):
            self.backend.kernels.cross_entropy_stats(x, at(self.target), self.mask, at(self.scale), *map(at, numbers))
        return outputs

    def nll(self):
        """The losses of log-probabilities."""
        losses, kernels = self.loss_buffer(), self.backend.kernels
        if self.soft:
            w = self.class_weights()
            for at, x, y, _ in self._pieces([as_stored(self.input), self.soft_targets()], None):
                kernels.nll_soft(x, y, w, at(losses))
            return self._weighed(losses)
        for at, x, _ in self._pieces([as_stored(self.input)], None):
            kernels.nll(x, at(self.target), self.mask, at(self.scale), at(losses))
        if self.weight is None and self.sample_weight is None and self.backend.reads_results and any_positive(losses, self.input.dtype):
            warn_of_positive()
        return losses

    def _weighed(self, losses):
        """Losses of soft targets, times the sample weights."""
        if self.sample_weight is not None:
            self.backend.kernels.weigh(losses, self.sample_weight, losses)
        return losses

    def nll_backward(self, grad_output, gradient):
        """The gradient of `nll`."""
        upstream, kernels = self.upstream(grad_output), self.backend.kernels
        if self.soft:
            w = self.class_weights()
            for at, y, out in self._pieces([self.soft_targets()], gradient):
                kernels.nll_soft_backward(y, w, at(upstream), out)
            return
        for at, out in self._pieces([], gradient):
            kernels.nll_backward(at(self.target), self.mask, at(self.scale), at(upstream), out)

    def _pieces(self, inputs, gradient):
        """Yield ``(at, *views of the inputs, view of the gradient)``: ``at`` takes the part of an array with a number per position."""
        for start, stop, views, out in self.backend.pieces(self.axis, inputs, gradient):
            whole = start == 0 and stop == self.positions

            def at(numbers, start=start, stop=stop, whole=whole):
                return numbers if whole or numbers is None or numbers.size == 1 else numbers[start:stop]

            yield (at, *views, out)

    def loss_buffer(self, with_loss=True):
        """An array of one loss per position; for the caller, if no sum of them is asked for, and ``with_loss``."""
        if self.sums or not with_loss:
            return self.backend.scratch(self.positions, self.dtype)
        self.loss = self.backend.new_output(self.shape, self.dtype)
        return self.backend.kernel_view(self.loss).reshape(-1)

    def reduced(self, losses):
        """The losses, reduced as the caller asked."""
        return self.backend.reduced(losses, self) if self.sums else delivered(self.backend, self.loss)

    def gradient(self, out, grad_output=None, may_be=()):
        """The array of the gradient, for the caller and for the kernels. ``out`` may be an array of ``may_be`` too (`output_array`)."""
        upstream = grad_output if isinstance(grad_output, np.ndarray) else None
        others = [(self.target_name, self.target_array), ("weight", self.weight), ("sample_weight", self.sample_weight_array)]
        others.append(("grad_output", upstream))
        result = output_array(self.backend, out, self.input, [("input", self.input), *may_be], others)
        return result, as_stored(self.backend.kernel_view(result))
