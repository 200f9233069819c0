"""Step 2: one family of kernels, on rows and on channels first, against the tests' oracle in NumPy's widest float.

    python -m gpu_steps.smoke FAMILY [--dtype DTYPE ...] [--shape NxC ...]

A result that goes to ``out`` is written into the middle of a larger array of nan: an element that is not written stays nan, and one that is
written outside of the result is found.
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import nbloss
import nbloss.functional as F
from nbloss.backends.array_interop import numpy_dtype

from . import records

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
import reference

DTYPES = ("float32", "bfloat16", "float16", "float64")
SHAPES = (
    "33x1001",
    "64x1000",
    "2x21x33x17",
    "2x32x5",
)  # an odd and an even number of classes, as in tests/cuda_gpu: the same cubins
GUARD = 64  # elements of nan before and after a result; a multiple of 16 bytes
IGNORED = -100

# The largest error in units of the result's last place, relative to the largest value. It finds wrong results; the accuracy has its tests.
UNITS_WIDE, UNITS_HALF = 16, 2


class Inputs(SimpleNamespace):
    """The arrays of a case: x logits, y class numbers (some ignored; y32: of int32, as JAX has them), w weights, q probabilities, g an
    upstream gradient, p and logp."""

    @classmethod
    def of(cls, shape, dtype):
        rng = np.random.default_rng(0)
        wide = np.float64 if dtype == np.float64 else np.float32
        x, g = rng.normal(0, 3, shape).astype(dtype), rng.normal(0, 1, shape).astype(dtype)
        y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        y.reshape(-1)[::7] = IGNORED
        q = rng.gamma(0.7, size=shape) + 1e-3
        q = (q / q.sum(axis=1, keepdims=True)).astype(wide)
        w = (rng.integers(1, 17, shape[1]) / 8).astype(wide)
        # of the logits rounded once, as a user has them
        logp = reference.log_softmax(x, 1).astype(np.float64)
        return cls(x=x, g=g, y=y, y32=y.astype(np.int32), q=q, w=w, logp=logp.astype(dtype), p=np.exp(logp).astype(dtype))

    def on_device(self):
        return type(self)(**{name: nbloss.to_device(array, "cuda") for name, array in vars(self).items()})


def _value_and_grad(x, target, weight=None, **options):
    return reference.cross_entropy(x, target, weight, **options), reference.cross_entropy_backward(1.0, x, target, weight, **options)


# family -> (the call, what it should give). The call gets the arrays on the device and ``out``, the other one the same arrays on the host.
FAMILIES = {
    "log_softmax": (lambda a, out: F.log_softmax(a.x, 1, out=out), lambda a: reference.log_softmax(a.x, 1)),
    "log_softmax_backward": (
        lambda a, out: F.log_softmax_backward(a.g, a.logp, 1, out=out),
        lambda a: reference.log_softmax_backward(a.g, a.logp, 1),
    ),
    "softmax": (lambda a, out: F.softmax(a.x, 1, out=out), lambda a: reference.softmax(a.x, 1)),
    "softmax_backward": (lambda a, out: F.softmax_backward(a.g, a.p, 1, out=out), lambda a: reference.softmax_backward(a.g, a.p, 1)),
    "cross_entropy": (
        lambda a, out: F.cross_entropy(a.x, a.y, reduction="none"),
        lambda a: reference.cross_entropy(a.x, a.y, reduction="none"),
    ),
    "value_and_grad": (lambda a, out: F.cross_entropy_value_and_grad(a.x, a.y, out=out), lambda a: _value_and_grad(a.x, a.y)),
    "int32_targets": (lambda a, out: F.cross_entropy_value_and_grad(a.x, a.y32, out=out), lambda a: _value_and_grad(a.x, a.y32)),
    "label_smoothing": (
        lambda a, out: F.cross_entropy_value_and_grad(a.x, a.y, label_smoothing=0.1, out=out),
        lambda a: _value_and_grad(a.x, a.y, label_smoothing=0.1),
    ),
    "weights": (lambda a, out: F.cross_entropy_value_and_grad(a.x, a.y, a.w, out=out), lambda a: _value_and_grad(a.x, a.y, a.w)),
    "probabilities": (lambda a, out: F.cross_entropy_value_and_grad(a.x, a.q, out=out), lambda a: _value_and_grad(a.x, a.q)),
    "nll_loss": (lambda a, out: F.nll_loss(a.logp, a.y, a.w), lambda a: reference.nll_loss(a.logp, a.y, a.w)),
    "nll_loss_backward": (
        lambda a, out: F.nll_loss_backward(1.0, a.logp, a.y, a.w, out=out),
        lambda a: reference.nll_loss_backward(1.0, a.logp, a.y, a.w),
    ),
}


class Poisoned:
    """A result array in the middle of a larger array of nan."""

    def __init__(self, shape, dtype):
        self.shape, self.size = shape, int(np.prod(shape))
        self.whole = nbloss.to_device(np.full(self.size + 2 * GUARD, np.nan, dtype), "cuda")
        inner = self.whole.geometry[GUARD : GUARD + self.size].reshape(shape)
        self.out = self.whole.seen(inner)

    def checked(self):
        """The result on the host; ValueError where something around it was written."""
        whole = nbloss.to_host(self.whole)
        around = np.concatenate([whole[:GUARD], whole[GUARD + self.size :]]).astype(np.float32)
        if not np.isnan(around).all() and not records.dry_run():
            raise ValueError("elements outside of the result were written")
        return whole[GUARD : GUARD + self.size].reshape(self.shape)


def error(result, expected):
    """The largest error in units of the last place of the largest value; nan stays nan."""
    result, expected = np.asarray(result).astype(np.longdouble), np.asarray(expected)
    if result.shape != expected.shape:
        return float("inf")
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def _epsilon(dtype):
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)


def case(family, shape, dtype):
    """Run one case and write its line."""
    call, expectation = FAMILIES[family]
    inputs = Inputs.of(shape, dtype)
    poisoned = Poisoned(shape, dtype)
    results = call(inputs.on_device(), poisoned.out)
    results = list(results) if isinstance(results, tuple) else [results]
    found = [poisoned.checked() if r is poisoned.out else nbloss.to_host(r) for r in results]
    expected = expectation(inputs)
    expected = list(expected) if isinstance(expected, tuple) else [expected]
    with np.errstate(all="ignore"):
        units = [error(f, e) / _epsilon(f.dtype) for f, e in zip(found, expected, strict=True)]
    right = all(u <= (UNITS_HALF if f.itemsize == 2 else UNITS_WIDE) for u, f in zip(units, found, strict=True))
    records.compared(f"{family} {'x'.join(map(str, shape))} {dtype.name}", right, units=[f"{u:.2f}" for u in units])
    return right or records.dry_run()


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("family", choices=FAMILIES)
    options.add_argument("--dtype", nargs="+", default=DTYPES)
    options.add_argument("--shape", nargs="+", default=SHAPES)
    options = options.parse_args()
    right = True
    for name in options.dtype:
        for text in options.shape:
            shape = tuple(map(int, text.split("x")))
            try:
                right &= case(options.family, shape, numpy_dtype(name))
            except Exception as failure:  # of one case: the others still say something
                right = False
                records.write(f"{options.family} {text} {name}", records.FAILED, reason=f"{type(failure).__name__}: {failure}")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
