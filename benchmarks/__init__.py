"""The asv suites: which peers, on what, is decided in nbloss.bench; here is only what to record over the commits.

    asv run --quick --python=same       # does every benchmark work?
    asv run --python=same --set-commit-hash=HEAD      # results for this commit, with the installed nbloss
    asv continuous main HEAD            # has a branch become slower? (builds both)

A peer that is not installed is skipped. asv's numbers say how nbloss moves from commit to commit; for a comparison with
the peers, use `python -m nbloss bench`, which interleaves them.
"""
