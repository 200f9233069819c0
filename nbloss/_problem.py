"""From any arguments to one canonical problem. Every argument error is raised here, before anything is written.

A call becomes (outer, C, inner) views and a few numbers per position; weight, ignore_index, smoothing, reduction and the upstream
gradient are folded into them (docs/design.md), and the kernels know none of these words.
"""

import math
import operator
from functools import cache, partial

import numpy as np

# How each dtype of logits is stored for the kernels, and computed. bfloat16 is ml_dtypes': known by name, so that it need not be here.
_KINDS = {
    "float16": (np.uint16, np.float32),
    "bfloat16": (np.int16, np.float32),
    "float32": (None, np.float32),
    "float64": (None, np.float64),
}
FLOAT_DTYPES = "float16, bfloat16 (ml_dtypes), float32 or float64"


REDUCTIONS = {  # whether it sums the losses, and whether it divides (the sum and the upstream gradient) by the weights that count
    "sum": (True, False),
    "mean": (True, True),
    "none": (False, False),
}


@cache
def float_kind(dtype):
    """``(stored, computed)``: the dtype that the kernels see (None: the same) and the one of the arithmetic; None for other dtypes."""
    as_stored, computed = _KINDS.get(dtype.name, (None, None))
    return computed and (as_stored and np.dtype(as_stored), np.dtype(computed))


@cache
def signed_view(dtype):
    """How kernels see an integer dtype: the signed one (None: the same), the mask that undoes the sign, whether it is uint64."""
    bits = 8 * dtype.itemsize
    if dtype.kind == "i":
        return None, -1, False
    return np.dtype(f"i{dtype.itemsize}"), (1 << bits) - 1 if bits < 64 else -1, bits == 64


# ------------------------------ arguments, one by one ------------------------------


def _array(backend, name, value):
    array = backend.device_array(value)
    if array is not None:
        return array
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} should be a plain array; got a masked array, whose mask would be lost: fill it first")
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="), order="K")


def float_array(backend, name, value):
    """An array of one of the four dtypes, as it is."""
    array = _array(backend, name, value)
    if float_kind(array.dtype) is None:
        raise TypeError(f"{name} should have dtype {FLOAT_DTYPES}; got {array.dtype}")
    return array


def real_array(backend, name, value, dtype):
    """An array of any real numbers, in the type that is computed in."""
    array = _array(backend, name, value)
    if float_kind(array.dtype) is None and array.dtype.kind not in "buif":
        raise TypeError(f"{name} should hold real numbers; got dtype {array.dtype}")
    return backend.cast(array, dtype)


def as_stored(array):
    """The same memory with the dtype that kernels know."""
    seen = float_kind(array.dtype)[0]
    return array if seen is None else array.view(seen)


def canonical(backend, array, axis):
    """The (outer, C, inner) view of an array as kernels take it; a number is a row of one class."""
    shape = array.shape or (1,)
    return backend.canonical(as_stored(array), (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])))


def output_array(backend, out, shape, dtype, same, apart):
    """Where a result goes: ``out``, or a new array. ``same`` are arrays that it may be, ``apart`` arrays that it may not touch."""
    if out is None:
        return backend.new_output(shape, dtype)
    array = backend.as_output(out)
    if array is None:
        raise TypeError(f"out should be {backend.output_kind}; got {type(out).__name__}")
    if array.shape != tuple(shape):
        raise ValueError(f"out should have shape {tuple(shape)}, the input's; got {array.shape}")
    if array.dtype != dtype:
        raise ValueError(f"out should have dtype {dtype}; got {array.dtype}")
    if not array.flags.carray:
        raise ValueError("out should be a writeable, aligned array in C order; got one that is " + _unfit(array))
    for name, other in same:
        if other is not out and _overlap(other, array) and not _same_memory(other, array):
            raise ValueError(f"out should be {name} itself or share no memory with it; got a partial overlap")
    for name, other in apart:
        if other is not None and _overlap(other, array):
            raise ValueError(f"out should share no memory with {name}; got an overlap")
    return backend.new_output(shape, dtype, out)


def delivered(backend, output, out=None):
    """A result as the caller gets it: a 0-d NumPy array as a scalar, unless it is the caller's own."""
    array = backend.deliver(output)
    return array[()] if out is None and type(array) is np.ndarray and array.ndim == 0 else array


def _unfit(out):
    if not out.flags.writeable:
        return "read-only"
    return "not in C order" if not out.flags.c_contiguous else "not aligned"


def _geometry_of(array):
    """The NumPy array that knows where the elements lie; on a device, a mere description."""
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


def reduction_name(reduction):
    """The name of a reduction; None is "none"."""
    name = "none" if reduction is None else reduction
    if not isinstance(name, str) or name not in REDUCTIONS:
        raise ValueError(f"reduction should be one of 'none', 'mean', 'sum'; got {reduction!r}")
    return name


def checked_ignore_index(ignore_index):
    try:
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index should be an integer; got {ignore_index!r}") from None
    if not -(2**63) <= index < 2**63:
        raise ValueError(f"ignore_index should fit int64; got {index}")
    return index


def checked_smoothing(label_smoothing):
    if type(label_smoothing) is float and 0.0 <= label_smoothing <= 1.0:
        return label_smoothing
    if isinstance(label_smoothing, (str, bytes)) or np.ndim(label_smoothing) != 0 or np.iscomplexobj(label_smoothing):
        raise TypeError(f"label_smoothing should be a number in [0, 1]; got {label_smoothing!r}")
    try:
        value = float(label_smoothing)
    except TypeError:
        raise TypeError(f"label_smoothing should be a number in [0, 1]; got {label_smoothing!r}") from None
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"label_smoothing should be in [0, 1]; got {value}")
    return value


def out_of_range(shape, classes, ignore_index, dtype, wrong, position, value):
    """The IndexError of a target that is no class, the first of ``wrong``; ``value`` in its own dtype, or as kernels see it."""
    index = tuple(int(i) for i in np.unravel_index(position, shape))
    return IndexError(
        f"target should be in [0, {classes}) or {ignore_index} (ignore_index): "
        f"got {np.asarray(value).astype(dtype)} at index {index}; {wrong} of {math.prod(shape)} targets are out of range"
    )


# ------------------------------ the problem ------------------------------


class Problem:
    """Logits (or log-probabilities), targets and options of one loss, in canonical form, on the place that computes it."""

    def __init__(self, backend, input, target, weight, ignore_index, reduction, label_smoothing=0.0):
        self.backend = backend
        self.input = x = float_array(backend, "input", input)
        if x.ndim == 0:
            raise ValueError("input should have a class axis, shape (C,) or (N, C, ...); got a scalar")
        self.sums, self.divides = REDUCTIONS[reduction_name(reduction)]
        self.ignore_index = checked_ignore_index(ignore_index)
        self.smoothing = checked_smoothing(label_smoothing)
        self.dtype = float_kind(x.dtype)[1]
        self.axis = 0 if x.ndim == 1 else 1
        self.classes = x.shape[self.axis]
        self.shape = x.shape[: self.axis] + x.shape[self.axis + 1 :]  # of the losses
        self.positions = math.prod(self.shape)
        # NumPy reads [] as floats
        self.target_array = np.empty(0, np.int64) if isinstance(target, list) and not target else _array(backend, "target", target)
        self._take_target()
        self._take_weight(weight)
        if self.classes == 0 and self.positions:
            raise ValueError(f"input should have at least one class; got shape {x.shape}")
        self.x = canonical(backend, x, self.axis)

    def _take_target(self):
        target = self.target_array
        real = target.dtype.kind == "f" or float_kind(target.dtype) is not None
        if not real and target.dtype.kind not in "iub":
            raise TypeError(f"target should hold class numbers or probabilities; got dtype {target.dtype}")
        self.soft = real and target.shape == self.input.shape
        if self.soft:
            if self.ignore_index >= 0:
                raise ValueError(f"ignore_index should be negative with a target of probabilities; got {self.ignore_index}")
            return
        if target.shape != self.shape:
            raise ValueError(
                f"target should have shape {self.shape} (class numbers) or {self.input.shape} (probabilities) "
                f"to go with input of shape {self.input.shape}; got {target.shape}"
            )
        if real:
            raise TypeError(f"target should hold class numbers; got dtype {target.dtype}: cast with .astype(np.int64)")

    def _take_weight(self, weight):
        self.weight = None
        if weight is not None:
            self.weight = real_array(self.backend, "weight", weight, self.dtype)
            if self.weight.shape != (self.classes,):
                raise ValueError(f"weight should have shape {(self.classes,)}, one per class; got {self.weight.shape}")

    # -------------------- class indices --------------------

    def check_targets(self):
        """Judge the targets: ``scale``, ``spread`` and the divisor of the mean. Raises on the first one that is no class."""
        if self.soft:
            self.divisor = self.positions
            return self
        backend, target = self.backend, self.target_array
        seen, self.mask, wide = signed_view(target.dtype)
        self.target = backend.flat(target).view(seen or target.dtype)
        smooth = self.smoothing > 0
        self.spread = backend.scratch(self.positions, self.dtype) if smooth else None
        share = self.smoothing / self.classes if self.classes else 0.0
        weight = None if self.weight is None else backend.flat(self.weight)
        self.scale, self.divisor = backend.row_scale(
            self, self.target, self.mask, wide, weight, self.classes, self.ignore_index,
            1.0 - self.smoothing, share, self.spread,
        )  # fmt: skip
        return self

    @property
    def out_of_range(self):
        """What makes the IndexError that says which target is no class: it holds no array, so that a late error costs no memory."""
        return partial(out_of_range, self.shape, self.classes, self.ignore_index, self.target_array.dtype)

    def upstream(self, grad_output):
        """What each position's gradient is multiplied by: one number, or one per position."""
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
        """The probability target's (outer, C, inner) view and the class weights, both in the type that is computed in."""
        y = real_array(self.backend, "target", self.target_array, self.dtype)
        return canonical(self.backend, y, self.axis), self.class_weights()

    def class_weights(self):
        """The weights, 1 where the caller gave none."""
        return self.backend.ones(self.classes, self.dtype) if self.weight is None else self.backend.flat(self.weight)

    def cross_entropy(self, grad_output, gradient):
        """The losses, and the gradient where there is room for one: each kind of target has its kernel."""
        upstream = None if gradient is None else self.upstream(grad_output)
        losses = self.loss_buffer()
        if self.positions == 0:
            return losses
        kernels = self.backend.kernels
        if self.soft:
            y, w = self.soft_targets()
            share = self.smoothing / self.classes
            kernels.cross_entropy_soft(self.x, y, w, 1.0 - self.smoothing, share, upstream, losses, gradient)
        elif self.smoothing > 0:
            rows = self.x, self.target, self.mask, self.scale, self.spread
            kernels.cross_entropy_smooth(*rows, self.class_weights(), upstream, losses, gradient)
        else:
            kernels.cross_entropy(self.x, self.target, self.mask, self.scale, upstream, losses, gradient)
        return losses

    def nll(self):
        """The losses of log-probabilities."""
        losses = self.loss_buffer()
        if self.positions:
            kernels = self.backend.kernels
            if self.soft:
                kernels.nll_soft(self.x, *self.soft_targets(), losses)
            else:
                kernels.nll(self.x, self.target, self.mask, self.scale, losses)
        return losses

    def nll_backward(self, grad_output, gradient):
        """The gradient of `nll`."""
        upstream, kernels = self.upstream(grad_output), self.backend.kernels
        if self.soft:
            kernels.nll_soft_backward(*self.soft_targets(), upstream, gradient)
        else:
            kernels.nll_backward(self.target, self.mask, self.scale, upstream, gradient)

    def loss_buffer(self):
        """Room for one loss per position."""
        if self.sums:
            return self.backend.scratch(self.positions, self.dtype)
        self.loss = self.backend.new_output(self.shape, self.dtype)
        return self.backend.kernel_view(self.loss).reshape(-1)

    def reduced(self, losses):
        """The losses as the caller wants them."""
        return self.backend.reduced(losses, self) if self.sums else delivered(self.backend, self.loss)

    def gradient(self, out, grad_output=None):
        """Where the gradient goes, and its (outer, C, inner) view."""
        upstream = grad_output if isinstance(grad_output, np.ndarray) else None
        apart = [("target", self.target_array), ("weight", self.weight), ("grad_output", upstream)]
        result = output_array(self.backend, out, self.input.shape, self.input.dtype, [("input", self.input)], apart)
        return result, as_stored(self.backend.kernel_view(result)).reshape(self.x.shape)
