"""One benchmark problem: the input arrays that every peer of a race gets, and the expected results.

The expected results come from the formulas in float64 NumPy. They share no code with the kernels or with any peer.
This module imports nothing from nbloss: `measure.worker` loads it by its path.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

OPERATIONS = (
    "log_softmax",
    "log_softmax_backward",
    "nll_loss",
    "nll_loss_backward",
    "cross_entropy",
    "cross_entropy_value_and_grad",
)
DTYPES = ("float16", "bfloat16", "float32", "float64")

# The largest error, relative to the largest value, at which a peer still does the same work. The margin allows for long
# float32 sums. It detects wrong results only: the accuracy has tests of its own.
TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-10}


@dataclass(frozen=True)
class Problem:
    """Normal logits of `shape` with standard deviation 2, int64 targets, mean reduction. A `seed` always gives the same arrays.

    The classes of `transposed` 2-D arrays are strided, as in `np.empty((C, N)).T`.
    """

    shape: tuple  # (N, C) or (N, C, d1, ..., dK)
    dtype: str = "float32"
    axis: int = 1  # of the classes; -1 is allowed in 2-D
    seed: int = 0
    transposed: bool = False
    _answers: dict = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        shape = tuple(int(n) for n in self.shape)
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"shape should be (N, C) or (N, C, d1, ..., dK), all at least 1; got {shape}")
        if self.axis % len(shape) != 1:
            raise ValueError(f"axis of the classes should be 1 (or -1 in 2-D); got {self.axis} for shape {shape}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype should be one of {', '.join(DTYPES)}; got {self.dtype!r}")
        if self.transposed and len(shape) != 2:
            raise ValueError(f"transposed should be False for shape {shape}: only (N, C) has a transpose")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "axis", 1)

    @classmethod
    def parse(cls, text, dtype="float32"):
        """The problem of a shape such as "4096x1000", "64x10x28x28" or "1000x4096.T". `shape_text` is the inverse."""
        numbers = text.removesuffix(".T")
        try:
            shape = tuple(int(n) for n in numbers.split("x"))
        except ValueError:
            raise ValueError(f"shape should be NxC, NxCxHxW or CxN.T, such as 4096x1000 or 1000x4096.T; got {text!r}") from None
        transposed = numbers != text
        return cls(shape[::-1] if transposed else shape, dtype, transposed=transposed)

    @property
    def shape_text(self):
        return "x".join(map(str, self.shape[::-1])) + ".T" if self.transposed else "x".join(map(str, self.shape))

    @property
    def size(self):
        """The number of logits."""
        return math.prod(self.shape)

    @property
    def rows(self):
        """The number of losses before the mean."""
        return self.size // self.shape[1]

    @cached_property
    def numpy_dtype(self):
        if self.dtype != "bfloat16":
            return np.dtype(self.dtype)
        try:
            import ml_dtypes
        except ImportError:
            raise NotImplementedError("bfloat16 arrays need ml_dtypes") from None
        return np.dtype(ml_dtypes.bfloat16)

    @property
    def work_dtype(self):
        """The type to compute in for peers without fast half-precision arithmetic."""
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    @cached_property
    def logits(self):
        return self._normal(0, 2.0)

    @cached_property
    def grad_output(self):
        """The incoming gradient of log_softmax_backward. The losses get 1."""
        return self._normal(1, 1.0)

    @cached_property
    def target(self):
        rng = np.random.default_rng([self.seed, 2])
        return rng.integers(0, self.shape[1], size=self.shape[:1] + self.shape[2:])

    @cached_property
    def log_probs(self):
        """The output of log_softmax in the problem's dtype: an input of nll_loss and of log_softmax_backward."""
        return self._laid_out(self.answer("log_softmax")[0].astype(self.numpy_dtype))

    @cached_property
    def at_target(self):
        """An index tuple of every row's target class: `x[at_target]` has the shape of the target."""
        n, *rest = np.ogrid[tuple(slice(d) for d in self.target.shape)]
        return (n, self.target, *rest)

    def empty(self, dtype=None):
        """A buffer of the logits' shape. Its pages are written once, so that the timed calls cause no page faults."""
        return np.full(self.shape, 0, dtype or self.numpy_dtype)

    def answer(self, operation):
        """The expected float64 results of `operation` as a tuple: (array,) or (loss, gradient)."""
        if operation not in self._answers:
            self._answers[operation] = _ANSWERS[operation](self)
        return self._answers[operation]

    def forget_answers(self):
        """Free the float64 results after all checks. They take twice the memory of everything else."""
        self._answers.clear()

    def bytes_moved(self, operation):
        """The least memory traffic in bytes: every input is read once, every output is written once."""
        item, cells = self.numpy_dtype.itemsize, self.size
        targets = self.rows * self.target.itemsize
        return {
            "log_softmax": 2 * cells * item,
            "log_softmax_backward": 3 * cells * item,
            "nll_loss": self.rows * item + targets,
            "nll_loss_backward": cells * item + targets,
            "cross_entropy": cells * item + targets,
            "cross_entropy_value_and_grad": 2 * cells * item + targets,
        }[operation]

    def _normal(self, stream, scale):
        rng = np.random.default_rng([self.seed, stream])
        values = rng.standard_normal(self.shape, dtype=self.work_dtype)
        values *= values.dtype.type(scale)
        return self._laid_out(values.astype(self.numpy_dtype, copy=False))

    def _laid_out(self, array):
        return np.asfortranarray(array) if self.transposed else array

    def __str__(self):
        return f"{self.shape_text} {self.dtype}"


def relative_error(got, want):
    """The largest difference of two arrays of one shape, relative to the largest value of `want`. nan stays nan."""
    scale = max(float(np.abs(want).max()), np.finfo(np.float64).tiny)
    return float(np.abs(got - want).max()) / scale


# ---------------------------------------- the expected results ----------------------------------------


def _log_softmax(p):
    x = p.logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return (x,)


def _log_softmax_backward(p):
    g, y = p.grad_output.astype(np.float64), p.log_probs.astype(np.float64)
    return (g - np.exp(y) * g.sum(axis=1, keepdims=True),)


def _nll_loss(p):
    return (-p.log_probs[p.at_target].astype(np.float64).mean(),)


def _nll_loss_backward(p):
    grad = np.zeros(p.shape)
    grad[p.at_target] = -1 / p.rows
    return (grad,)


def _cross_entropy(p):
    return (-p.answer("log_softmax")[0][p.at_target].mean(),)


def _cross_entropy_value_and_grad(p):
    grad = np.exp(p.answer("log_softmax")[0])
    grad[p.at_target] -= 1
    grad /= p.rows
    return (*p.answer("cross_entropy"), grad)


_ANSWERS = {name: globals()[f"_{name}"] for name in OPERATIONS}
