"""Runs every kernel once on small shapes, for NVIDIA's compute-sanitizer:

compute-sanitizer --tool memcheck python tests/cuda_gpu/sanitize.py
compute-sanitizer --tool racecheck python tests/cuda_gpu/sanitize.py
compute-sanitizer --tool synccheck python tests/cuda_gpu/sanitize.py
compute-sanitizer --tool initcheck python tests/cuda_gpu/sanitize.py

--shape and --dtype choose some. The arrays are in device memory, so that no host call waits between kernels.
"""

import argparse

import numpy as np

import nbloss
import nbloss.functional as F

# one shape for each kind of thread group, as in test_accuracy
SHAPES = [(70, 3), (37, 10), (20, 127), (9, 1001), (5, 8192), (3, 20011), (2, 50257), (2, 128256), (1, 600001), (2, 21, 7, 9), (2, 100, 5)]


def run(shape, dtype):
    rng = np.random.default_rng(0)

    def device(array):
        return nbloss.to_device(array, "cuda")

    x = device(rng.normal(0, 3, shape).astype(dtype))
    y = device(rng.integers(0, shape[1], (shape[0], *shape[2:])))
    soft, weight = device(np.full(shape, 1 / shape[1], np.float32)), device(np.ones(shape[1], np.float32))
    logp = F.log_softmax(x, 1)
    F.log_softmax_backward(x, logp, 1)
    F.softmax_backward(x, F.softmax(x, 1), 1)
    for target in (y, soft):
        for options in ({}, {"label_smoothing": 0.1, "weight": weight}):
            F.cross_entropy(x, target, **options)
            F.cross_entropy_value_and_grad(x, target, **options)
            F.cross_entropy_hvp(x, x, target, **options)
            F.cross_entropy_hessian_diag(x, target, **options)
        F.nll_loss(logp, target)
        F.nll_loss_backward(1.0, logp, target)
    nbloss.to_host(F.log_softmax(x.seen(x.geometry[::-1, ::2]), 1, dtype=np.float64))  # waits for all of them


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--shape", nargs="+", default=["x".join(map(str, shape)) for shape in SHAPES])
    options.add_argument("--dtype", nargs="+", default=["float32", "float16"])
    options = options.parse_args()
    for text in options.shape:
        for dtype in options.dtype:
            run(tuple(map(int, text.split("x"))), np.dtype(dtype))
            print(text, dtype, flush=True)


if __name__ == "__main__":
    main()
