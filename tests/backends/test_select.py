"""Devices that are unknown or missing: one kind of error each, from every function."""

import os
import subprocess
import sys

import numpy as np
import pytest
from problems import name
from refusals import LOSSES, X, Y, every_loss, refused

import nbloss
import nbloss.functional as F


def gpu_is_here():
    try:
        nbloss.to_device(np.zeros(1, np.float32), "cuda")
    except nbloss.DeviceUnavailableError:
        return False
    return True


@every_loss
@pytest.mark.parametrize("bad", ["tpu", "gpu", "cuda:x", "cuda:-1", "CPU ", ""], ids=str)
def test_an_unknown_device_is_a_value_error_with_the_choices(bad, call):
    with refused(ValueError, "device", repr(bad), "cpu", "cuda"):
        call(X, Y, device=bad)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_names_what_to_install(device):
    if gpu_is_here():
        pytest.skip("there is a GPU")
    calls = [lambda: F.log_softmax(X, device=device), lambda: nbloss.to_device(X, device)]
    calls += [lambda c=c: c(X, Y, device=device) for c in LOSSES.values()]
    calls += [lambda: nbloss.CrossEntropyLoss(device=device)(X, Y), lambda: nbloss.LogSoftmax(device=device)(X)]
    for call in calls:
        with refused(nbloss.DeviceUnavailableError, "install", "nbloss[cuda"):
            call()


def test_the_default_device_is_checked():
    with refused(ValueError, "device", "'tpu'", "cpu", "cuda"):
        nbloss.set_default_device("tpu")
    nbloss.set_default_device("cpu")
    nbloss.set_default_device(None)


@pytest.mark.parametrize(("value", "error"), [("tpu", "ValueError"), ("cuda", "DeviceUnavailableError"), ("cpu", "")], ids=name)
def test_the_environment_variable_sets_the_default_device(value, error):
    if value == "cuda" and gpu_is_here():
        pytest.skip("there is a GPU")
    code = "import nbloss.functional as F; F.log_softmax([1.0, 2.0])"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "NBLOSS_DEVICE": value}, capture_output=True, text=True)
    assert error in (run.stderr.splitlines() or [""])[-1]
    assert run.returncode == bool(error), run.stderr
