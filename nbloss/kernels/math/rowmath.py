"""What concerns many rows, for every backend: the formula of a mean, and which numbers cannot be log-probabilities."""

from math import nan


def mean(total, weights):
    """total / weights; nan if the weights sum to 0, whatever the total: inf would give its rows gradients of arbitrary signs."""
    return total / weights if weights != 0.0 else nan


# A log-probability above this is no rounding error: float32 and float64, also where someone added a small number before the logarithm;
# float16 and bfloat16.
POSITIVE_LOGP, POSITIVE_LOGP_HALF = 1e-3, 0.02
