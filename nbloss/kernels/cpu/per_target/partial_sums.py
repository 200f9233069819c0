"""Adds partial sums in a fixed order, so that a kernel and Python code get the same bits."""

from nbloss.kernels.cpu.tuning import SUM_GROUP_ROWS, SUM_RUN_ROWS

RUNS = SUM_GROUP_ROWS // SUM_RUN_ROWS  # how many partial sums are added sequentially


def added(totals):
    """The sum of ``totals``: each RUNS numbers are added sequentially, then their sums in the same way. Overwrites ``totals``."""
    size = totals.size
    while size > 1:
        runs = (size + RUNS - 1) // RUNS
        for run in range(runs):
            total = 0.0
            for k in range(run * RUNS, min(size, (run + 1) * RUNS)):
                total += totals[k]
            totals[run] = total
        size = runs
    return totals[0] if totals.size else 0.0
