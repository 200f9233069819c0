"""A kernel's own buffers: aligned, given back, and a MemoryError where there is no memory."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")

if numba.config.DISABLE_JIT:
    pytest.skip("the interpreted twin has no buffers", allow_module_level=True)

from nbloss.kernels.cpu.memory import get, pointer, put  # noqa: E402
from nbloss.kernels.cpu.rooms import LINE, release, room, view  # noqa: E402


@numba.njit
def last_of_a_room(like, n):
    buffer = room(pointer(like, 0), n)
    numbers = view(buffer, n)
    for k in range(n):
        put(buffer, k, k)
    result = get(buffer, n - 1), numbers.ctypes.data, numbers.sum()
    release(buffer)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_room_begins_with_a_cache_line_and_holds_its_numbers(dtype):
    like = np.zeros(1, dtype)
    for n in [1, 2, 15, 16, 17, 1000, 100_003]:
        last, address, total = last_of_a_room(like, n)
        assert last == n - 1
        assert address % LINE == 0
        assert total == pytest.approx(n * (n - 1) / 2, rel=1e-3)


def test_no_memory_is_an_error():
    with pytest.raises(MemoryError):
        last_of_a_room(np.zeros(1, np.float32), 2**50)
    assert last_of_a_room(np.zeros(1, np.float32), 3)[0] == 2
