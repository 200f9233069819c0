"""Kernels whose work is per target, not per logit: checking targets, looking up class weights, negative log-likelihood, sums of losses.

Read ``partial_sums`` and ``sums`` (the order of additions) first, then ``targets`` and ``nll``.
"""
