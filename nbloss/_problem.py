"""Floor 3: from any arguments to one canonical problem. Every argument error is raised here, before anything is written.

A call becomes (outer, C, inner) views and a few numbers per position; weight, ignore_index, smoothing, reduction and the upstream
gradient are folded into them (docs/design.md), and the kernels know none of these words.
"""

import math
import operator
from functools import cache

import numpy as np

# How each dtype of logits is stored for the kernels, and computed. bfloat16 is ml_dtypes': known by name, so that it need not be here.
_KINDS = {
    "float16": (np.uint16, np.float32),
    "bfloat16": (np.int16, np.float32),
    "float32": (None, np.float32),
    "float64": (None, np.float64),
}
TAKEN = "float16, bfloat16 (ml_dtypes), float32 or float64"


def _ratio(a, n):
    """a / n as IEEE has it: no row to average over gives nan, in silence."""
    if n != 0:
        return a / n
    with np.errstate(all="ignore"):
        return np.float64(a) / n


REDUCTIONS = {  # sum of losses, divisor -> result; upstream gradient, divisor -> upstream per position
    "sum": (lambda total, n: total, lambda g, n: g),
    "mean": (_ratio, _ratio),
    "none": (None, lambda g, n: g),
}


@cache
def kind(dtype):
    """``(stored, computed)``: the dtype that the kernels see (None: the same) and the one of the arithmetic; None for other dtypes."""
    stored, computed = _KINDS.get(dtype.name, (None, None))
    return computed and (stored and np.dtype(stored), np.dtype(computed))


@cache
def signed(dtype):
    """How kernels see an integer dtype: the signed one (None: the same), the mask that undoes the sign, whether it is uint64."""
    bits = 8 * dtype.itemsize
    if dtype.kind == "i":
        return None, -1, False
    return np.dtype(f"i{dtype.itemsize}"), (1 << bits) - 1 if bits < 64 else -1, bits == 64


# ------------------------------ arguments, one by one ------------------------------


def _array(name, value):
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} should be a plain array; got a masked array, whose mask would be lost: fill it first")
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="), order="K")


def floats(name, value):
    """An array of one of the four dtypes, as it is."""
    array = _array(name, value)
    if kind(array.dtype) is None:
        raise TypeError(f"{name} should have dtype {TAKEN}; got {array.dtype}")
    return array


def reals(name, value, dtype):
    """An array of any real numbers, in the type that is computed in."""
    array = _array(name, value)
    if kind(array.dtype) is None and array.dtype.kind not in "buif":
        raise TypeError(f"{name} should hold real numbers; got dtype {array.dtype}")
    return array.astype(dtype, copy=False)


def stored(array):
    """The same memory with the dtype that kernels know."""
    seen = kind(array.dtype)[0]
    return array if seen is None else array.view(seen)


def walked(array, axis):
    """The (outer, C, inner) view of an array as kernels take it; a copy only where no strides can say it."""
    shape = array.shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if any(s % array.itemsize for s in array.strides):
        array = np.ascontiguousarray(array)
    return stored(array).reshape(outer, shape[axis], inner)


def destination(out, shape, dtype, same, apart):
    """``out``, or a new array. ``same`` are arrays that it may be, ``apart`` arrays that it may not touch."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out should be a NumPy array; got {type(out).__name__}")
    if out.shape != tuple(shape):
        raise ValueError(f"out should have shape {tuple(shape)}, the input's; got {out.shape}")
    if out.dtype != dtype:
        raise ValueError(f"out should have dtype {dtype}; got {out.dtype}")
    if not out.flags.carray:
        raise ValueError("out should be a writeable, aligned array in C order; got one that is " + _unfit(out))
    for name, array in same:
        if array is not out and _overlap(array, out) and not (array.ctypes.data == out.ctypes.data and array.strides == out.strides):
            raise ValueError(f"out should be {name} itself or share no memory with it; got a partial overlap")
    for name, array in apart:
        if array is not None and _overlap(array, out):
            raise ValueError(f"out should share no memory with {name}; got an overlap")
    return out


def _unfit(out):
    if not out.flags.writeable:
        return "read-only"
    return "not in C order" if not out.flags.c_contiguous else "not aligned"


def _overlap(a, b):
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


def _upstream(grad_output, shape, dtype):
    """One number, or an array of the loss's shape."""
    if type(grad_output) is float:
        return np.float64(grad_output)
    g = reals("grad_output", grad_output, np.float64 if np.ndim(grad_output) == 0 else dtype)
    if g.ndim and g.shape != shape:
        raise ValueError(f"grad_output should be a number or have the loss's shape {shape}; got {g.shape}")
    return g


# ------------------------------ the problem ------------------------------


class Problem:
    """Logits (or log-probabilities), targets and options of one loss, in canonical form."""

    def __init__(self, input, target, weight, ignore_index, reduction, label_smoothing=0.0):
        self.input = x = floats("input", input)
        if x.ndim == 0:
            raise ValueError("input should have a class axis, shape (C,) or (N, C, ...); got a scalar")
        self.reduction = reduction_name(reduction)
        self.ignore_index = checked_ignore_index(ignore_index)
        self.smoothing = checked_smoothing(label_smoothing)
        self.dtype = kind(x.dtype)[1]
        self.axis = 0 if x.ndim == 1 else 1
        self.classes = x.shape[self.axis]
        self.shape = x.shape[: self.axis] + x.shape[self.axis + 1 :]  # of the losses
        self.positions = math.prod(self.shape)
        self.x = walked(x, self.axis)
        self.target_array = _array("target", target)
        if isinstance(target, list) and not target:
            self.target_array = np.empty(0, np.int64)  # NumPy reads [] as floats
        self._take_target()
        self._take_weight(weight)
        if self.classes == 0 and self.positions:
            raise ValueError(f"input should have at least one class; got shape {x.shape}")

    def _take_target(self):
        target = self.target_array
        real = target.dtype.kind == "f" or kind(target.dtype) is not None
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
            self.weight = np.require(reals("weight", weight, self.dtype), requirements="CA")
            if self.weight.shape != (self.classes,):
                raise ValueError(f"weight should have shape {(self.classes,)}, one per class; got {self.weight.shape}")

    # -------------------- class indices --------------------

    def count(self, kernels):
        """Judge the targets: ``scale``, ``spread`` and the divisor of the mean. Raises on the first one that is no class."""
        if self.soft:
            self.divisor = self.positions
            return self
        target = self.target_array
        seen, self.mask, wide = signed(target.dtype)
        self.target = np.require(target, requirements="CA").view(seen or target.dtype).reshape(-1)
        smooth = self.smoothing > 0
        self.scale = np.empty(self.positions, self.dtype)
        self.spread = np.empty(self.positions, self.dtype) if smooth else None
        share = self.smoothing / self.classes if self.classes else 0.0
        self.divisor, wrong, first = kernels.row_scale(
            self.target, self.mask, wide, self.weight, self.classes, self.ignore_index,
            1.0 - self.smoothing, share, self.scale, self.spread,
        )  # fmt: skip
        if wrong:
            index = tuple(int(i) for i in np.unravel_index(first, self.shape))
            raise IndexError(
                f"target should be in [0, {self.classes}) or {self.ignore_index} (ignore_index): "
                f"got {target[index]} at index {index}; {wrong} of {self.positions} targets are out of range"
            )
        return self

    def upstream(self, grad_output):
        """What each position's gradient is multiplied by: one number, or one per position."""
        g = _upstream(grad_output, self.shape if self.reduction == "none" else (), self.dtype)
        if g.ndim:
            return np.require(g, requirements="CA").reshape(-1)
        return np.array([REDUCTIONS[self.reduction][1](g[()], self.divisor)]).astype(self.dtype)

    def masses(self):
        """The probability target's (outer, C, inner) view and the class weights, both in the type that is computed in."""
        y = reals("target", self.target_array, self.dtype)
        return walked(y, self.axis), self.class_weights()

    def class_weights(self):
        """The weights, 1 where the caller gave none."""
        return np.ones(self.classes, self.dtype) if self.weight is None else self.weight

    def cross_entropy(self, kernels, grad_output, gradient):
        """The losses, and the gradient where there is room for one: each kind of target has its kernel."""
        upstream = None if gradient is None else self.upstream(grad_output)
        losses = self.losses()
        if self.positions == 0:
            return losses
        if self.soft:
            y, w = self.masses()
            share = self.smoothing / self.classes
            kernels.cross_entropy_soft(self.x, y, w, 1.0 - self.smoothing, share, upstream, losses, gradient)
        elif self.smoothing > 0:
            rows = self.x, self.target, self.mask, self.scale, self.spread
            kernels.cross_entropy_smooth(*rows, self.class_weights(), upstream, losses, gradient)
        else:
            kernels.cross_entropy(self.x, self.target, self.mask, self.scale, upstream, losses, gradient)
        return losses

    def losses(self):
        """Room for one loss per position."""
        return np.empty(self.positions, self.dtype)

    def reduced(self, losses, kernels):
        """The losses as the caller wants them."""
        combine = REDUCTIONS[self.reduction][0]
        if combine is None:
            return losses.reshape(self.shape)[()]
        return self.dtype.type(combine(kernels.row_sum(losses), self.divisor))

    def gradient(self, out):
        """Where the gradient goes, and its (outer, C, inner) view."""
        apart = [("target", self.target_array), ("weight", self.weight)]
        result = destination(out, self.input.shape, self.input.dtype, [("input", self.input)], apart)
        return result, stored(result).reshape(self.x.shape)
