"""A plugin of pytest (``-p gpu_steps.pytest_records``): each test's outcome becomes a line at once.

In a dry run nothing is computed. All that is read from the device is 0, so that no target is out of range, and comparisons are left out: a
test goes on to its further calls. One that fails all the same by what it compares says nothing; one that fails by another error does.
"""

import os
import sys

import numpy as np
import pytest

from . import records

COMPARISONS = ("assert_allclose", "assert_array_equal", "assert_loss", "assert_gradient", "assert_within")

SAY_NOTHING = (AssertionError, pytest.fail.Exception)  # of a comparison, and of an exception that did not come


def pytest_collection_finish():
    if records.dry_run():
        from nbloss.kernels.cuda.runtime import memory

        memory.download = _zeros(memory.download)
        for module in (np.testing, sys.modules.get("problems")):
            for name in COMPARISONS:
                if hasattr(module, name):
                    setattr(module, name, lambda *arguments, **options: None)


def _zeros(download):
    """The function, but what it has copied to the host is 0."""

    def zeros(array, host, stream):
        download(array, host, stream)
        host[...] = np.zeros((), host.dtype)

    return zeros


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if records.dry_run() and call.when == "call" and report.failed and issubclass(call.excinfo.type, SAY_NOTHING):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, records.NOT_COMPARED)
    return report


def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that distributes the tests writes the lines
    if report.when == "call" or not report.passed:
        status, facts = outcome(report)
        records.write(report.nodeid, status, seconds=round(report.duration, 2), **facts)


def outcome(report):
    """``(status, facts)`` of a report."""
    if report.passed:
        return (records.NOT_COMPARED if records.dry_run() else records.PASSED), {}
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        return records.FAILED, {"reason": (crash.message if crash else str(report.longrepr))[:500]}
    reason = report.longrepr[2]
    return (records.NOT_COMPARED if reason == records.NOT_COMPARED else records.SKIPPED), {"reason": reason.removeprefix("Skipped: ")}
