"""Partial sums of rows to one sum: the same order, and so the same bits, in a kernel and in Python."""

from nbloss.kernels.cpu.tuning import SUM_GROUP_ROWS, SUM_RUN_ROWS

RUNS = SUM_GROUP_ROWS // SUM_RUN_ROWS  # sums that are added one after the other


def added(totals):
    """Runs of RUNS one after the other; then the runs' sums, likewise. Uses ``totals`` up."""
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
