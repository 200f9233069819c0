"""The CPU's tests of the values table, of errors, and of public conformance data, once more: their arrays go to the simulated device."""

import contextlib

import pytest
from test_errors import *  # noqa: F403
from test_errors_out import *  # noqa: F403
from test_values_table import *  # noqa: F403

import nbloss

with contextlib.suppress(pytest.skip.Exception):
    from test_onnx import *  # noqa: F403
with contextlib.suppress(pytest.skip.Exception):
    from test_torch import test_pytorch_s_own_samples_give_its_values_and_gradients  # noqa: F401


@pytest.fixture
def device():
    return "cuda"


@pytest.fixture(autouse=True)
def on_the_device():
    """Calls that name no device."""
    nbloss.set_default_device("cuda")
    yield
    nbloss.set_default_device(None)
