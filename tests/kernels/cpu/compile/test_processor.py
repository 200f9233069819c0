"""Processors: without fused multiply-add every dtype works and the bits are the same; and which level's kernels each may run."""

import os

import pytest
from work import run_script

from nbloss.kernels.levels import LEVELS

SLOW = pytest.mark.skipif("NBLOSS_SLOW" not in os.environ, reason="compiles all kernels once more; set NBLOSS_SLOW=1")

EVERY_DTYPE = """
import hashlib
import ml_dtypes, numpy as np
import reference
from problems import assert_gradient, assert_loss, assert_within, eps, floor, work
import nbloss.functional as F

rng = np.random.default_rng(3)
every = hashlib.sha256()
long, short = (9, 131), (70, 10)  # vector per row, and row per lane
for dtype, shape in ((np.float32, long), (np.float32, short), (np.float64, long), (np.float16, long), (ml_dtypes.bfloat16, short)):
    x, y = rng.normal(0, 4, shape).astype(dtype), rng.integers(0, shape[1], shape[0])
    logp, exact = F.log_softmax(x), reference.log_softmax(x)
    assert_within(logp, exact, abs(exact) * (4 * eps(work(dtype)) + eps(dtype)) + floor(dtype))
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    assert_loss(loss, reference.cross_entropy(x, y), dtype)
    assert_gradient(grad, x, *reference.cross_entropy_terms(1.0, x, y))
    for a in (logp, loss, grad):
        every.update(np.asarray(a).tobytes())
print(every.hexdigest())
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What this machine's own code gives."""
    return run_script(tmp_path_factory.mktemp("here"), EVERY_DTYPE)


@pytest.mark.parametrize("processor", ["x86-64", pytest.param("haswell", marks=SLOW)])
def test_every_dtype_is_right_and_has_the_bits_of_this_machine_s_own_code(processor, here, tmp_path):
    """Where the processor has no fused multiply-add, the C library's is called: slow, and exact."""
    binding = pytest.importorskip("llvmlite.binding")
    if not binding.get_process_triple().startswith("x86_64") or not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("for a machine that can run the code of that processor")
    assert run_script(tmp_path, EVERY_DTYPE, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="") == here


# ---- levels of processors --------------------------------------------------------------------------------------------


V3, V4 = (",".join(f"+{f}" for f in LEVELS[level]) for level in ("x86-64-v3", "x86-64-v4"))
X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
CASES = {  # what the processor has, what Numba compiles for, the levels whose kernels may run
    "AVX-512": (V4, (X86, "sapphirerapids", V4 + ",+amx-tile"), ["x86-64-v4", "x86-64-v3"]),
    "AVX2": (V3, (X86, "znver3", V3 + ",-avx512f,+sha"), ["x86-64-v3"]),
    "AVX2 without one of v3's instructions": (V3, (X86, "odd", V3.replace("+movbe", "-movbe")), []),
    "neither": ("+sse2", (X86, "nocona", "+sse2"), []),
    "AVX-512, but Numba is told of haswell": (V4, (X86, "haswell", ""), ["x86-64-v3"]),
    "AVX-512, but Numba is told of a level": (V4, (X86, "x86-64-v3", V3), ["x86-64-v3"]),
    "AVX-512, but Numba is told of the first processors": (V4, (X86, "x86-64", ""), []),
    "AVX2, but Numba is told of AVX-512": (V3, (X86, "skylake-avx512", V4), ["x86-64-v3"]),
    "aarch64": ("+neon,+fp-armv8,+lse", (ARM, "neoverse-n1", "+neon,+fp-armv8,+lse"), ["aarch64"]),
    "another architecture": ("", ("powerpc64le-unknown-linux-gnu", "pwr9", ""), []),
}


@pytest.mark.parametrize("case", CASES)
def test_only_code_that_the_processor_has_and_the_user_allows_is_run(case, monkeypatch):
    binding = pytest.importorskip("llvmlite.binding")
    from nbloss.kernels.cpu.compile import processor

    has, told, levels = CASES[case]
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(processor._features(has), True))
    monkeypatch.setattr(processor, "_compile_target", lambda: told)
    caches = processor.runnable, processor.targets, processor._own_level
    [f.cache_clear() for f in caches]
    try:
        assert processor.runnable() == levels
        first, *others = processor.targets()
        assert others == [level for level in levels if level != first]
        assert (first in LEVELS) == (case == "AVX-512, but Numba is told of a level")
        assert processor.multiplies_and_adds() == (case not in ("neither", "AVX-512, but Numba is told of the first processors"))
    finally:
        [f.cache_clear() for f in caches]


SMALL = """
import numpy as np, nbloss.functional as F
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    print(F.cross_entropy(np.float32([[1, 2], [3, 1]]), np.array([0, 1])))
print(len(compiled.buffer))
"""


def test_a_level_s_kernels_serve_every_processor_that_has_it(tmp_path):
    pytest.importorskip("llvmlite")
    from nbloss.kernels.cpu.compile import processor

    if "x86-64-v3" not in processor.runnable():
        pytest.skip("for a machine that can run x86-64-v3")

    def run(**environment):
        loss, compiled = run_script(tmp_path, SMALL, NBLOSS_CACHE_DIR=str(tmp_path / "cache"), **environment)
        return loss, int(compiled)

    loss, compiled = run(**processor.environment("x86-64-v3"))
    assert compiled
    assert run() == (loss, 0), "this processor's own"
    assert run(NUMBA_CPU_NAME="haswell") == (loss, 0)
    assert run(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="") == (loss, 0)
    assert [p.name for p in (tmp_path / "cache").glob("*/*")] == ["x86-64-v3"]
    again, compiled = run(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="", NUMBA_OPT="2")
    assert (again, bool(compiled)) == (loss, True), "other settings of Numba's are other code"
    again, compiled = run(NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="")
    assert (again, bool(compiled)) == (loss, True), "the user has named a processor without AVX2"
