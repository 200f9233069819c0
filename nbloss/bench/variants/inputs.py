"""The arrays and options of each variant."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from . import wanted


class Call(NamedTuple):
    """The arguments of a call, and its result array."""

    logits: np.ndarray
    target: np.ndarray | None = None
    options: dict = {}
    axis: int = 1
    out: np.ndarray | None = None  # None: a new array in C order


class Inputs:
    """The arrays of a shape that several variants share: normal logits of standard deviation 3, int64 targets.

    ``negative`` logits are as large and not above 0, as log-probabilities are.
    """

    def __init__(self, shape, negative):
        self.negative = negative
        self.shape = wanted.sizes(shape)
        self.classes = self.shape[1]
        self.rng = np.random.default_rng(0)
        self.logits = self.normal(self.shape)
        self.target = self.rng.integers(0, self.classes, self.shape[:1] + self.shape[2:])
        self.weight = self.rng.random(self.classes, dtype=np.float32) + np.float32(0.5)

    def normal(self, shape):
        values = self.rng.standard_normal(shape, dtype=np.float32)
        values *= 3
        return np.negative(np.abs(values, out=values), out=values) if self.negative else values

    def ignored(self):
        return np.where(self.rng.random(self.target.shape) < 0.3, -100, self.target)

    def probabilities(self):
        p = self.rng.random(self.shape, dtype=np.float32)
        p /= p.sum(1, keepdims=True)
        return p

    def one_hot(self):
        p = np.zeros(self.shape, np.float32)
        np.put_along_axis(p, np.expand_dims(self.target, 1), 1, 1)
        return p

    def raised(self, logits, by=0.0, to=None):
        """Logits whose target's logit is higher by a number, or is another number."""
        at, logits = np.expand_dims(self.target, 1), logits.copy()
        np.put_along_axis(logits, at, np.take_along_axis(logits, at, 1) + np.float32(by) if to is None else to, 1)
        return logits

    def masked(self):
        return self.raised(np.where(self.rng.random(self.shape, dtype=np.float32) < 0.2, np.float32(-np.inf), self.logits), to=1)


@lru_cache(maxsize=1)  # the cells of one shape follow each other
def _of_shape(shape, negative):
    return Inputs(shape, negative)


def inputs(operation, shape):
    """The shared arrays of a shape for an operation."""
    return _of_shape(shape, operation == wanted.NLL)


def _narrow(inputs):
    return next(t for t in (np.uint8, np.uint16, np.uint32) if inputs.classes <= np.iinfo(t).max + 1)


def dtype_of(name):
    """The NumPy dtype of a name."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise NotImplementedError("bfloat16 arrays need ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def _as(dtype, **options):
    return lambda i: Call(i.logits.astype(dtype_of(dtype)), i.target, options)


def _channels_last(i):
    stored = np.ascontiguousarray(np.moveaxis(i.logits, 1, -1))
    return Call(np.moveaxis(stored, -1, 1), i.target, out=np.moveaxis(np.empty_like(stored), -1, 1))


def _bf16_prob(i):
    return Call(i.logits.astype(dtype_of("bfloat16")), i.probabilities().astype(dtype_of("bfloat16")))


def _tokens(i):
    """(logits of (B, T, V), the next token of all but the last)."""
    return i.logits, np.random.default_rng(1).integers(0, i.shape[2], i.shape[:2])


def _shift(i):
    logits, ids = _tokens(i)
    out = np.empty_like(logits)
    return Call(np.swapaxes(logits[:, :-1], 1, 2), ids[:, 1:], out=np.swapaxes(out[:, :-1], 1, 2))


MAKERS = {
    "int32 target": lambda i: Call(i.logits, i.target.astype(np.int32)),
    "uint8/16 target": lambda i: Call(i.logits, i.target.astype(_narrow(i))),
    "weight": lambda i: Call(i.logits, i.target, {"weight": i.weight}),
    "30% ignored": lambda i: Call(i.logits, i.ignored()),
    "all ignored": lambda i: Call(i.logits, np.full_like(i.target, -100)),
    "none": lambda i: Call(i.logits, i.target, {"reduction": "none"}),
    "sum": lambda i: Call(i.logits, i.target, {"reduction": "sum"}),
    "mean": lambda i: Call(i.logits, i.target, {"reduction": "mean"}),
    "smoothing": lambda i: Call(i.logits, i.target, {"label_smoothing": 0.1}),
    "smoothing+weight+ignored": lambda i: Call(i.logits, i.ignored(), {"label_smoothing": 0.1, "weight": i.weight}),
    "prob target": lambda i: Call(i.logits, i.probabilities()),
    "prob+weight": lambda i: Call(i.logits, i.probabilities(), {"weight": i.weight}),
    "one-hot target": lambda i: Call(i.logits, i.one_hot()),
    "float64": _as("float64"),
    "float16": _as("float16"),
    "bfloat16": _as("bfloat16"),
    "f16 smoothing": _as("float16", label_smoothing=0.1),
    "bf16 prob": _bf16_prob,
    "confident +25": lambda i: Call(i.raised(i.logits, 25), i.target),
    "masked -inf 20%": lambda i: Call(i.masked(), i.target),
    "logits x30": lambda i: Call(i.logits * np.float32(30), i.target),
    "logits -100": lambda i: Call(i.logits - np.float32(100), i.target),
    "x[:, :-7] view": lambda i: Call(i.normal((i.shape[0], i.classes + 7))[:, :-7], i.target),
    "reversed rows": lambda i: Call(i.logits[::-1], i.target),
    "reversed classes": lambda i: Call(i.logits[:, ::-1], i.target),
    "Fortran order": lambda i: Call(np.asfortranarray(i.logits), i.target),
    "x[:, ::2]": lambda i: Call(i.normal((i.shape[0], 2 * i.classes))[:, ::2], i.target),
    "channels last": _channels_last,
    "next-token shift": _shift,
}


def plain(operation, shape):
    """The plain call that the variants of an operation are compared with."""
    i = inputs(operation, shape)
    if shape == wanted.TOKENS:  # all logits, with the last label of each text ignored
        logits, ids = _tokens(i)
        labels = np.concatenate([ids[:, 1:], np.full_like(ids[:, :1], -100)], axis=1)
        return Call(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
    last = shape in wanted.CUBES and operation in (wanted.LOG_SOFTMAX, wanted.LOG_SOFTMAX_BACKWARD)
    return Call(i.logits, i.target, axis=len(i.shape) - 1 if last else 1)


def of_variant(operation, variant, shape):
    """The call of a variant."""
    i = inputs(operation, shape)
    if variant not in wanted.AXES:
        call = MAKERS[variant](i)
        return call._replace(axis=plain(operation, shape).axis)
    x = np.asfortranarray(i.logits) if variant.endswith("Fortran order") else i.logits
    return Call(x, axis=int(variant[5]), out=np.empty_like(x))  # in the order of axes that a result without out= has
