"""`python -m nbloss info`: what a bug report needs; with ``--kernels SHAPE``, which kernels run on logits of this shape, and why."""

import os
import platform
import sys
from importlib import metadata
from math import prod

import numpy as np

import nbloss
import nbloss.functional as F
from nbloss.backends.array_interop import numpy_dtype
from nbloss.kernels.cpu.tuning import FUSED_MAX_ROWS, TRANSPOSED_MIN_CLASSES

# The instruction sets that decide how wide the CPU kernels run, in LLVM's names, best first.
CPU_FEATURES = ("avx512fp16", "avx512bf16", "avx512f", "avx2", "fma", "f16c", "sve2", "sve", "neon")


def main(args):
    """Run the command: `args.kernels` (None, or a shape and whether it is transposed) and `args.dtype`. Returns the exit status."""
    return bug_report() if args.kernels is None else kernel_table(*args.kernels, args.dtype)


# ------------------------------ bug report ------------------------------


def _version(package):
    """The version of an optional package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def bug_report():
    """Print versions, CPU, threads, cache and GPUs."""
    from llvmlite import binding

    from nbloss.backends import select
    from nbloss.bench.measure import machine
    from nbloss.kernels.cpu.compile import cache, threads

    features = binding.get_host_cpu_features()
    names = [name for name in CPU_FEATURES if features.get(name)]
    rows = {
        "nbloss": nbloss.__version__,
        **{name: metadata.version(name) for name in ("numpy", "numba", "llvmlite")},
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})",
        "cpu": f"{machine.processor()}, {os.cpu_count()} cores, {binding.get_host_cpu_name()} ({' '.join(names) or 'baseline'})",
        "threads": threads.describe(),
        "cache": "\n".join(f"{name}: {text}" for name, text in cache.describe().items()),
        **{name: _version(name) for name in ("numba-cuda", "cuda-core", "nvidia-nvjitlink")},
        "gpus": "\n".join(select.gpus()),
    }
    for name, value in rows.items():
        print(f"{name:<17}" + str(value).replace("\n", "\n" + 17 * " "))
    return 0


# ------------------------------ kernels of a shape ------------------------------

CALLS = {  # a call as the table shows it -> the call, on logits x, class numbers y, weights w and probabilities p
    "log_softmax": lambda x, y, w, p: F.log_softmax(x, 1),
    "log_softmax_backward": lambda x, y, w, p: F.log_softmax_backward(x, x, 1),
    "softmax": lambda x, y, w, p: F.softmax(x, 1),
    "softmax_backward": lambda x, y, w, p: F.softmax_backward(x, x, 1),
    "nll_loss": lambda x, y, w, p: F.nll_loss(x, y),
    "nll_loss_backward": lambda x, y, w, p: F.nll_loss_backward(1.0, x, y),
    "cross_entropy": lambda x, y, w, p: F.cross_entropy(x, y),
    "cross_entropy_backward": lambda x, y, w, p: F.cross_entropy_backward(1.0, x, y),
    "cross_entropy_value_and_grad": lambda x, y, w, p: F.cross_entropy_value_and_grad(x, y),
    "  with label_smoothing": lambda x, y, w, p: F.cross_entropy_value_and_grad(x, y, label_smoothing=0.1),
    "  with probabilities": lambda x, y, w, p: F.cross_entropy_value_and_grad(x, p),
    "  with weight": lambda x, y, w, p: F.cross_entropy_value_and_grad(x, y, w),
    "  with lse_square_scale": lambda x, y, w, p: F.cross_entropy_value_and_grad(x, y, lse_square_scale=1e-4),
    "  with softcap": lambda x, y, w, p: F.cross_entropy_value_and_grad(x, y, softcap=30.0),
    "focal_loss_value_and_grad": lambda x, y, w, p: F.focal_loss_value_and_grad(x, y),
    "cross_entropy_hvp": lambda x, y, w, p: F.cross_entropy_hvp(x, x, y),
    "cross_entropy_hessian_diag": lambda x, y, w, p: F.cross_entropy_hessian_diag(x, y),
    "cross_entropy_stats": lambda x, y, w, p: F.cross_entropy_stats(x, y),
}


def _small(shape):
    """A smaller shape of the same layout that runs the same kernels.

    What counts is the number of classes up to `TRANSPOSED_MIN_CLASSES`, and of positions up to `FUSED_MAX_ROWS`. A dry run does not
    read the logits, so they take no memory.
    """
    outer, classes, inner = shape[0], min(shape[1], TRANSPOSED_MIN_CLASSES + 1), prod(shape[2:])
    inner = min(inner, FUSED_MAX_ROWS + 1)
    outer = min(outer, FUSED_MAX_ROWS // inner + 1)
    return outer, classes, *([inner] if len(shape) > 2 else []), *[1] * (len(shape) - 3)


def kernels_of(call, shape, transposed, dtype):
    """The kernels of a call in `CALLS`, each as ``(name, why)``, in the order in which they run."""
    from nbloss.kernels.cpu.compile import jit

    shape = _small(shape)
    with jit.dry_run() as wanted:
        x = np.zeros(shape[::-1], dtype).T if transposed else np.zeros(shape, dtype)
        y = np.zeros(shape[:1] + shape[2:], np.int64)
        computed = np.float64 if dtype == np.float64 else np.float32
        CALLS[call](x, y, np.ones(shape[1], computed), x if x.dtype == computed else np.zeros_like(x, computed))
    return [
        (name.removeprefix("nbloss.kernels.cpu."), why) for (name, variant), (_, _, why) in wanted.items() if (name, variant) != jit.LOOP
    ]


def kernel_table(shape, transposed, dtype):
    """Print the kernels of every call in `CALLS`; returns the exit status."""
    import numba

    if numba.config.DISABLE_JIT:
        print("nbloss info: NUMBA_DISABLE_JIT is set, so nbloss.kernels.reference runs all calls", file=sys.stderr)
        return 1
    nbloss.set_default_device("cpu")
    rows = [("call", "kernel", "why")]
    try:
        for call in CALLS:
            for i, found in enumerate(kernels_of(call, shape, transposed, numpy_dtype(dtype))):
                rows.append(("" if i else call, *found))
    except ModuleNotFoundError:
        print("nbloss info: bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes", file=sys.stderr)
        return 1
    print(f"{dtype} logits of shape {shape}, {'the transpose of an array in C order' if transposed else 'in C order'}\n")
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for call, kernel, why in rows:
        print(f"{call:<{widths[0]}}  {kernel:<{widths[1]}}  {why}")
    return 0
