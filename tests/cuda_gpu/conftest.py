"""What only a real GPU can show: `pytest -m gpu`. Without one, every test here is skipped."""

import pytest


@pytest.fixture(scope="session")
def gpu():
    """The name of a device that is not the simulator's."""
    import nbloss
    from nbloss.backends import select
    from nbloss.kernels.cuda.runtime import memory

    try:
        select.checked_device("cuda")
    except nbloss.DeviceUnavailableError as reason:
        pytest.skip(str(reason))
    if memory.SIMULATED:
        pytest.skip("this is Numba's simulator")
    return "cuda"


@pytest.fixture
def torch(gpu):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return torch
