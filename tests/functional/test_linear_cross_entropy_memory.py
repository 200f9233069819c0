"""The memory of `linear_cross_entropy` beside its results: at most the formula of docs/linear.md."""

import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest

import nbloss.functional as F


def formula(x, w, max_memory=2**27, accumulates=False):
    """Bytes: the chunk, a tile, what is kept per position and per output; for half floats the weight and its gradient in float32."""
    n, d, c, inner = len(x), x.shape[1], len(w), int(np.prod(w.shape[1:-1]))
    item = max(4, x.itemsize)
    two_rows = 3 * (c * inner + (3 + 3 * inner) * d) * item
    halves = 2 * w.size * 4 if x.itemsize == 2 else 0
    return max(max_memory, two_rows) + min(2048, c * inner) * d * item + 100 * n * inner + 24 * c * inner + halves + 2**20


def beside_results(call):
    call()
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arrays = result if isinstance(result, tuple) else (result,)
    return peak - sum(a.nbytes for a in arrays if a is not None)


CASES = {  # name -> (N, C, D, more axes of the weight, dtype)
    "many classes": (100, 20000, 16, (), np.float32),
    "few classes, many features": (2000, 10, 800, (), np.float32),
    "positions": (300, 40, 100, (8,), np.float32),
    "float64": (200, 3000, 32, (), np.float64),
    "float16": (200, 3000, 32, (), np.float16),
}


@pytest.mark.parametrize("target", ["classes", "ignored", "probabilities"])
@pytest.mark.parametrize("max_memory", [2**21, 1])
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_at_most_the_formula(case, max_memory, target, rng):
    n, c, d, more, dtype = CASES[case]
    n = 40 if max_memory == 1 else n
    x, w = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((c, *more, d)).astype(dtype)
    bias, y = np.ones((c, *more), dtype), rng.integers(0, c, (n, *more))
    if target == "ignored":
        y[rng.random(n) < 0.5] = -100
    if target == "probabilities":
        y = np.full((n, c, *more), 1 / c, np.float32 if dtype == np.float16 else dtype)
    extra = 3 * y[0].nbytes if target == "probabilities" else 0
    limit = formula(x, w, max_memory) + extra
    assert beside_results(lambda: F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=max_memory)) <= limit
    assert beside_results(lambda: F.linear_cross_entropy(x, w, y, linear_bias=bias, max_memory=max_memory)) <= limit
    out = np.zeros_like(x), np.zeros_like(w), np.zeros_like(bias)
    results = sum(a.nbytes for a in out)  # that are no new arrays
    added = beside_results(
        lambda: F.linear_cross_entropy_value_and_grad(x, w, y, linear_bias=bias, max_memory=max_memory, out=out, accumulate=True)
    )
    assert added + results <= limit


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_grows_by_no_more():
    """In a new process: what BLAS and the kernels take is counted too. All logits would take 400 MB."""
    code = """
        import numpy as np, nbloss.functional as F
        def resident(which):
            return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(which))
        n, c, d = 2000, 50000, 32
        x, w, y = np.ones((n, d), np.float32), np.ones((c, d), np.float32), np.arange(n)
        F.linear_cross_entropy_value_and_grad(x[:100], w, y[:100])
        open("/proc/self/clear_refs", "w").write("5")
        before = resident("VmRSS")
        F.linear_cross_entropy_value_and_grad(x, w, y, max_memory=2**24)
        print(resident("VmHWM") - before - x.nbytes - w.nbytes)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 2**24 + 2048 * 32 * 4 + 2000 * 100 + 50000 * 24 + 2**23
