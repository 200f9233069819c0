"""Print a hash of results for each dtype: equal on every processor where nbloss promises the same bits.

    python tools/result_hash.py [DTYPE ...]

The inputs are whole numbers, scaled: no processor or C library has a say in them. float64 losses use the C library's log1p.
"""

import hashlib
import sys

import numpy as np

import nbloss.functional as F

SHAPES = [(70, 10), (9, 131), (33, 1000), (3, 7, 12, 12), (2, 60, 9, 9)]


def numbers(rng, shape, dtype):
    return (rng.integers(-9000, 9000, shape) / 1024).astype(dtype)


def results(dtype):
    rng = np.random.default_rng(17)
    for shape in SHAPES:
        x, classes = numbers(rng, shape, dtype), shape[1]
        y = rng.integers(0, classes, shape[:1] + shape[2:])
        ignored = np.where(y % 5 == 0, -100, y)
        w = (np.arange(classes) % 4 + 1).astype(np.float64 if x.dtype == np.float64 else np.float32)
        p = rng.integers(0, 8, shape).astype(w.dtype) / 8
        logp = F.log_softmax(x, 1)
        yield logp
        yield F.log_softmax_backward(numbers(rng, shape, dtype), logp, 1)
        for target, options in ((y, {}), (ignored, {}), (y.astype(np.int32), {"label_smoothing": 0.1}), (p, {})):
            yield from F.cross_entropy_value_and_grad(x, target, w, reduction="none", **options)
            yield F.cross_entropy(x, target, w, **options)
        yield F.nll_loss(logp, ignored, w, reduction="none")
        yield F.nll_loss_backward(1.0, logp, ignored, w)
        order = np.asfortranarray(x)
        yield from F.cross_entropy_value_and_grad(order, y)


def main(names):
    for name in names or ["float32", "float64", "float16", "bfloat16"]:
        dtype = name
        if name == "bfloat16":
            import ml_dtypes

            dtype = ml_dtypes.bfloat16
        digest = hashlib.sha256()
        for array in results(dtype):
            digest.update(np.ascontiguousarray(array).tobytes())
        print(name, digest.hexdigest()[:32], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
