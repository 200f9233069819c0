"""What the options of a cross entropy are for `nbloss.partial`, whose rows may be anywhere: shared by Dask and MPI."""

import numpy as np

import nbloss.functional as F


def row_weights(target, weight, classes, dtype, ignore_index=-100, sample_weight=None):
    """The part of each row in what a mean divides by: w[y] times its sample weight, 0 where it does not count. Class numbers only.

    This is the NLL loss of log-probabilities of -1, which raises the errors of all these arguments.
    """
    target = np.asarray(target)
    shape = (*target.shape[:1], classes, *target.shape[1:]) if target.ndim else (classes,)
    of_rows = np.broadcast_to(dtype.type(-1), shape)
    return F.nll_loss(of_rows, target, weight, ignore_index=ignore_index, sample_weight=sample_weight, reduction="none")


def terms(target, weight, classes, dtype, ignore_index, label_smoothing, lse_square_scale, sample_weight):
    """The options of `nbloss.partial.losses` for rows (N,) of class numbers."""
    own = row_weights(target, weight, classes, dtype, ignore_index, sample_weight).astype(np.float64)
    each = 1.0 if sample_weight is None else np.asarray(sample_weight, dtype).astype(np.float64)
    return {
        "hit": (1 - label_smoothing) * own,
        "spread": label_smoothing / classes * each,
        "lse_square_scale": lse_square_scale,
    }


def inert(target, ignore_index, sample_weight):
    """Class numbers with ``ignore_index`` in the rows of sample weight 0: they do not count either."""
    target = np.asarray(target)
    if sample_weight is None:
        return target
    wide = target.astype(np.int64)
    wide[np.asarray(sample_weight) == 0] = ignore_index
    return wide
