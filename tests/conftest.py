"""Fixtures shared by every test: a seeded generator, and the devices that the tests run on."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS / "helpers"))  # pytest's importlib mode adds no folder by itself
sys.path += [str(TESTS / "functional"), str(TESTS / "system")]  # the simulated GPU runs some of these tests once more

# What the package may have been installed with would hide whether kernels are compiled, kept and found; kernels/test_cache.py asks for it.
os.environ["NBLOSS_PRECOMPILED"] = "0"

try:
    from hypothesis import settings

    settings.register_profile("ci", derandomize=True, database=None, deadline=None, max_examples=60)
    settings.register_profile("long", deadline=None, max_examples=2000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
except ImportError:
    pass


@pytest.fixture(autouse=True)
def _any_numbers_as_log_probabilities(monkeypatch):
    """Most tests call `nll_loss` with any numbers. functional/test_nll_warning.py asks for the warning."""
    monkeypatch.setattr("nbloss._warnings._warned", True)


@pytest.fixture
def rng():
    """The same numbers in every run of every test."""
    return np.random.default_rng(20260922)


@pytest.fixture(params=["cpu"])
def device(request):
    return request.param
