"""The asv suites: what to record over the commits. nbloss.bench defines the peers and the problems.

    asv run --quick --python=same                     # check that every benchmark works
    asv run --python=same --set-commit-hash=HEAD      # results for this commit, with the installed nbloss
    asv continuous main HEAD --bench Table            # compare a branch with main (builds both)
    asv publish && asv preview                        # show the results as pages

asv skips a peer that is not installed. `table` has ratios, which hold on a noisy machine. The other suites have times, memory
and start-up times. `python -m nbloss bench --compare FOLDER` compares two checkouts without asv. docs/history.md is on `history`.
"""
