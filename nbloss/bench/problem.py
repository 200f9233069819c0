"""One benchmark problem: what every contender of a race is given, and what the right answer is.

The answers come from the formulas in float64 NumPy, on purpose sharing nothing with the kernels or with any peer.
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

# How far a peer may be from float64 and still count as doing the same work; a fair margin for long float32 sums.
# This finds a wrong peer, it does not grade one: accuracy is measured elsewhere.
TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-10}


@dataclass(frozen=True)
class Problem:
    """Logits ~ 2·normal of `shape`, int64 targets, mean reduction; the same arrays for the same `seed`.

    `transposed` 2-D arrays have their classes apart in memory, as `np.empty((C, N)).T` has.
    """

    shape: tuple  # (N, C) or (N, C, d1, ..., dK)
    dtype: str = "float32"
    axis: int = 1  # of the classes; a 2-D problem may say -1
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
        """The problem that is written "4096x1000", "64x10x28x28" or "1000x4096.T"; `shape_text` writes it."""
        numbers = text.removesuffix(".T")
        try:
            shape = tuple(int(n) for n in numbers.split("x"))
        except ValueError:
            raise ValueError(f"a shape is written NxC, NxCxHxW or CxN.T, as in 4096x1000 and 1000x4096.T; got {text!r}") from None
        transposed = numbers != text
        return cls(shape[::-1] if transposed else shape, dtype, transposed=transposed)

    @property
    def shape_text(self):
        return "x".join(map(str, self.shape[::-1])) + ".T" if self.transposed else "x".join(map(str, self.shape))

    @property
    def size(self):
        """How many numbers the logits are."""
        return math.prod(self.shape)

    @property
    def rows(self):
        """How many losses there are before the mean."""
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
        """The type to compute in where there is no good half arithmetic."""
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    @cached_property
    def logits(self):
        return self._normal(0, 2.0)

    @cached_property
    def grad_output(self):
        """What log_softmax_backward is given from above; the losses are given 1."""
        return self._normal(1, 1.0)

    @cached_property
    def target(self):
        rng = np.random.default_rng([self.seed, 2])
        return rng.integers(0, self.shape[1], size=self.shape[:1] + self.shape[2:])

    @cached_property
    def log_probs(self):
        """The forward's output in the problem's own dtype: input of nll_loss and of log_softmax_backward."""
        return self._laid_out(self.answer("log_softmax")[0].astype(self.numpy_dtype))

    @cached_property
    def at_target(self):
        """Index tuple of every row's target class, so that `x[at_target]` has the target's shape."""
        n, *rest = np.ogrid[tuple(slice(d) for d in self.target.shape)]
        return (n, self.target, *rest)

    def empty(self, dtype=None):
        """A buffer like the logits, its pages already touched: page faults are not what is being timed."""
        return np.full(self.shape, 0, dtype or self.numpy_dtype)

    def answer(self, operation):
        """The right results of `operation`, float64, as a tuple: (array,) or (loss, gradient)."""
        if operation not in self._answers:
            self._answers[operation] = _ANSWERS[operation](self)
        return self._answers[operation]

    def forget_answers(self):
        """Let go of the float64 results, twice the size of everything else, once everybody has been checked."""
        self._answers.clear()

    def bytes_moved(self, operation):
        """What must cross the memory bus at least: every input once, every output once."""
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


# ---------------------------------------- the answers ----------------------------------------


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
