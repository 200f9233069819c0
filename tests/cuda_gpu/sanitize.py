"""Runs every kernel once on small shapes, for NVIDIA's compute-sanitizer:

compute-sanitizer --tool memcheck python tests/cuda_gpu/sanitize.py
compute-sanitizer --tool racecheck python tests/cuda_gpu/sanitize.py
compute-sanitizer --tool synccheck python tests/cuda_gpu/sanitize.py
compute-sanitizer --tool initcheck python tests/cuda_gpu/sanitize.py
"""

import numpy as np

import nbloss.functional as F

# one shape for each kind of thread group, as in test_accuracy
SHAPES = [(70, 3), (37, 10), (20, 127), (9, 1001), (5, 8192), (3, 20011), (2, 50257), (2, 128256), (1, 600001), (2, 21, 7, 9), (2, 100, 5)]


def run(shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, shape).astype(dtype)
    y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    soft = np.full(shape, 1 / shape[1], np.float32)
    logp = F.log_softmax(x, 1, device="cuda")
    F.log_softmax_backward(x, logp, 1, device="cuda")
    for target in (y, soft):
        for options in ({}, {"label_smoothing": 0.1, "weight": np.ones(shape[1], np.float32)}):
            F.cross_entropy(x, target, device="cuda", **options)
            F.cross_entropy_value_and_grad(x, target, device="cuda", **options)
        F.nll_loss(logp, target, device="cuda")
        F.nll_loss_backward(1.0, logp, target, device="cuda")
    F.log_softmax(x[::-1, ::2], 1, dtype=np.float64, device="cuda")


if __name__ == "__main__":
    for shape in SHAPES:
        for dtype in (np.float32, np.float16):
            run(shape, dtype)
            print(shape, np.dtype(dtype), flush=True)
