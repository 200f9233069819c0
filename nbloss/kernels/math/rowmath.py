"""What concerns many rows, for every backend: the formula of a mean, and which numbers cannot be log-probabilities."""

from math import nan


def divisor(weights, over, sampled):
    """What a mean divides by: ``over``, or if that is 0 the sum ``weights``. A negative sum of sample weights (``sampled``) gives nan."""
    if over != 0.0:
        return over
    return nan if sampled and weights < 0.0 else weights


def mean(total, weights, empty):
    """total / weights; ``empty`` if the weights sum to 0, whatever the total: inf would give its rows gradients of arbitrary signs."""
    return total / weights if weights != 0.0 else empty


def positive_logp(itemsize):
    """The number above which a log-probability of this item size is no rounding error.

    Float32 and float64 have room for a small number that was added before the logarithm; 2 bytes are float16 and bfloat16.
    """
    return 0.02 if itemsize == 2 else 1e-3
