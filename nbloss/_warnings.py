"""The warnings of the package."""

import sys
import warnings

import numpy as np

from nbloss.kernels.math.rowmath import positive_logp


class NotLogProbabilitiesWarning(UserWarning):
    """`nll_loss` picked numbers above 0, which are no log-probabilities. The usual cause: its input is logits."""


_warned = False


def warn_of_positive():
    """Warn once per process that `nll_loss` picked a number above 0."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "nll_loss got positive numbers at the targets, which are no log-probabilities: if its input is logits, call cross_entropy, "
            "or nll_loss(log_softmax(input, 1), target)",
            NotLogProbabilitiesWarning,
            stacklevel=_caller_level(),
        )


def _caller_level():
    """The ``stacklevel`` of the first frame outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    return level


def any_positive(losses, dtype):
    """Whether a log-probability of this dtype was above 0 beyond rounding; ``losses`` are the negated ones."""
    return losses.size > 0 and bool(np.fmin.reduce(losses) < -positive_logp(dtype.itemsize))
