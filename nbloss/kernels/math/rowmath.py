"""The formula of a mean, for every backend."""

from math import nan


def mean(total, weights):
    """total / weights; nan if the weights sum to 0, whatever the total: inf would give its rows gradients of arbitrary signs."""
    return total / weights if weights != 0.0 else nan
