"""Buffers of a kernel: aligned, freed, and a MemoryError where there is no memory."""

import sys

import numpy as np
import pytest
from work import run_script

numba = pytest.importorskip("numba")

if numba.config.DISABLE_JIT:
    pytest.skip("the NumPy reference has no buffers", allow_module_level=True)

from nbloss.kernels.cpu.simd.load_store import get, put  # noqa: E402
from nbloss.kernels.cpu.simd.pointers import pointer  # noqa: E402
from nbloss.kernels.cpu.simd.workspace import LINE, alloc, as_array, free  # noqa: E402


@numba.njit
def last_of_a_buffer(like, n):
    buffer = alloc(pointer(like, 0), n)
    numbers = as_array(buffer, n)
    for k in range(n):
        put(buffer, k, k)
    result = get(buffer, n - 1), numbers.ctypes.data, numbers.sum()
    free(buffer)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_buffer_begins_with_a_cache_line_and_holds_its_numbers(dtype):
    like = np.zeros(1, dtype)
    for n in [1, 2, 15, 16, 17, 1000, 100_003]:
        last, address, total = last_of_a_buffer(like, n)
        assert last == n - 1
        assert address % LINE == 0
        assert total == pytest.approx(n * (n - 1) / 2, rel=1e-3)


def test_no_memory_is_an_error():
    with pytest.raises(MemoryError):
        last_of_a_buffer(np.zeros(1, np.float32), 2**50)
    assert last_of_a_buffer(np.zeros(1, np.float32), 3)[0] == 2


WITHOUT_MEMORY = """
import resource
import numpy as np
import nbloss, nbloss.functional as F
nbloss.set_num_threads(THREADS)
small = np.zeros((16, 10_000), np.float32)
F.cross_entropy_value_and_grad(small, np.zeros(16, int))  # all that is needed is loaded, and the threads run
x, y = np.zeros((3, 20_000_000), np.float32), np.zeros(3, int)
grad = np.empty_like(x)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, -1))  # a row's exponentials take 80 MB
try:
    F.cross_entropy_value_and_grad(x, y, out=grad)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(F.cross_entropy(x, y))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's limit of a process's memory")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_kernel_without_memory_is_a_memory_error_with_one_thread_and_with_two(threads, tmp_path):
    said = run_script(tmp_path, WITHOUT_MEMORY.replace("THREADS", threads))
    assert " ".join(said) == "no memory for a kernel's buffers 16.811243"
