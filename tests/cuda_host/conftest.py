"""The host side of calls on a GPU, on a driver that records (driver.c). The driver is chosen for a process: run this folder by itself."""

import sys
from pathlib import Path

import folders
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # recorder


def pytest_configure(config):
    if not folders.is_alone(config, HERE):
        return
    import recorder

    missing = folders.missing("numba_cuda", "cuda.core")
    if missing:
        pytest.exit(f"skipped: {', '.join(missing)} not installed", returncode=0)
    if not sys.platform.startswith("linux") or recorder.compiler() is None:
        pytest.exit("skipped: the recording driver needs Linux and a C compiler", returncode=0)


def pytest_ignore_collect(collection_path, config):
    return None if folders.is_alone(config, HERE) else True


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The recording driver, in the place of NVIDIA's."""
    import recorder

    return recorder.Recorder(recorder.build(tmp_path_factory.mktemp("driver")))


@pytest.fixture
def recorded(driver, monkeypatch):
    """The driver with a clean record. Kernels are not compiled (`recorder.name_only`)."""
    import recorder

    from nbloss.backends import gpu_calls
    from nbloss.kernels.cuda.runtime import build, launch, streams

    monkeypatch.setattr(build, "cubin", recorder.name_only)
    monkeypatch.setattr(launch, "_loaded", {})
    monkeypatch.setattr(gpu_calls, "_plans", {})
    streams.release_done()
    for name in ("pending_events", "capturing", "failing_allocation"):
        driver[name] = 0
    driver.clear()
    yield driver
    driver["pending_events"] = driver["capturing"] = 0
    streams.release_done()
