"""The logit map: from a logit x to the argument of its exponential.

Today that is t = x - m alone, and its rounding error. An option that acts on each logit (a scale, a cap, a mask of classes) belongs
here: applied where a logit is loaded, and its derivative where the gradient is stored.
"""


def rounding_error(x, m, t):
    """(x - m) - t, exactly, where t = x - m was rounded (TwoSum: Knuth, The Art of Computer Programming, volume 2, 4.2.2)."""
    b = t - x
    return (x - (t - b)) - (m + b)
