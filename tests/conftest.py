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


# Tests of options: each case compiles kernels, and all cases of an option share its formulas.
OF_OPTIONS = (
    "test_cross_entropy_stats", "test_distillation", "test_focal_loss", "test_linear_cross_entropy", "test_lse_square_scale",
    "test_mapped_hessian", "test_option_pairs", "test_sample_weight", "test_second_order", "test_softcap",
)  # fmt: skip
CASES_OF_OPTIONS = 5


def pytest_collection_modifyitems(config, items):
    """Keep a few cases of each test of options; with NBLOSS_SLOW=1, and of a test that is named on the command line, all."""
    import tiers  # in a folder that is on the path from here on

    if not tiers.is_slow() and not any("test_" in str(arg) for arg in config.args):
        tiers.keep_cases(config, items, CASES_OF_OPTIONS, lambda item: item.path.stem in OF_OPTIONS)


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
