"""The asv suites: which peers, on what, is decided in nbloss.bench; here is only what to record over the commits.

    asv run --quick --python=same                     # does every benchmark work?
    asv run --python=same --set-commit-hash=HEAD      # results for this commit, with the installed nbloss
    asv continuous main HEAD --bench Table            # has a branch become slower? (builds both)
    asv publish && asv preview                        # the results as pages

A peer that is not installed is skipped. `table` has ratios, which hold on a noisy machine; the other suites have times, memory
and start-up. `python -m nbloss bench` is the table for one's own eyes.
"""
