"""Tests of the CPU that run again on the simulated device: the values table, errors, and public conformance data."""

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
    """Calls that name no device run on the simulated one."""
    nbloss.set_default_device("cuda")
    yield
    nbloss.set_default_device(None)
