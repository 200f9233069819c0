"""Dry runs, which record the kernels of calls instead of running them."""

import warnings

import pytest

numba = pytest.importorskip("numba")

if numba.config.DISABLE_JIT:
    pytest.skip("the NumPy reference has no kernels to record", allow_module_level=True)

import numpy as np  # noqa: E402

import nbloss.functional as F  # noqa: E402
from nbloss.kernels.cpu.compile import jit  # noqa: E402


def test_a_dry_run_records_the_kernels_and_no_warning_about_its_results(recwarn):
    with jit.dry_run() as wanted:
        F.nll_loss(np.zeros((4, 3), np.float32), np.zeros(4, np.int64))
        warnings.warn("about a result", stacklevel=1)
    assert wanted and not recwarn.list
    warnings.warn("afterwards", stacklevel=1)
    assert len(recwarn.list) == 1
