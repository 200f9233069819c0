"""Tests that need a real GPU: `pytest -m gpu`. Without a GPU all of them are skipped."""

import pytest


@pytest.fixture(scope="session")
def gpu():
    """The name of a real CUDA device; the simulator does not count."""
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
