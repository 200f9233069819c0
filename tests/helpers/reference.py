"""The oracle: every formula of the contract, written once, in NumPy's widest float; it knows nothing of nbloss.

A loss is a set of target masses ``q`` and one sum over the classes, ``-Σ_c q_c · logp_c``. Class indices, weights,
smoothing, ignored rows and probabilities only say what ``q`` is, and by what a mean divides (`masses`).
"""

import numpy as np

WIDE = np.longdouble


def class_axis(x):
    """torch's: the only axis of an unbatched input, the second of all others."""
    return 0 if x.ndim == 1 else 1


def classes_last(x):
    return np.ascontiguousarray(np.moveaxis(np.asarray(x).astype(WIDE), class_axis(np.asarray(x)), -1))


def classes_back(rows, like):
    return np.moveaxis(rows, -1, class_axis(np.asarray(like)))


def log_softmax(x, dim=-1):
    """(x - m) - log Σ exp(x - m); the maximum's own 1 is left to log1p, so that a confident row keeps its digits."""
    x = np.asarray(x).astype(WIDE, order="C")
    if x.size == 0:
        return x
    with np.errstate(all="ignore"):
        gap = x - x.max(axis=dim, keepdims=True)
        others = np.exp(gap)
        np.put_along_axis(others, np.expand_dims(x.argmax(axis=dim), dim), 0, axis=dim)
        return gap - np.log1p(others.sum(axis=dim, keepdims=True))


def log_softmax_backward(grad_output, output, dim=-1):
    """g - exp(y) · Σ g."""
    g, y = np.asarray(grad_output).astype(WIDE), np.asarray(output).astype(WIDE)
    return g - np.exp(y) * g.sum(axis=dim, keepdims=True)


def is_probability(x, target):
    return np.asarray(target).shape == np.asarray(x).shape and np.asarray(target).dtype.kind not in "iub"


def masses(x, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Target masses q (classes last), the kept rows, and what a mean divides by."""
    x, target = np.asarray(x), np.asarray(target)
    count = x.shape[class_axis(x)]
    w = np.ones(count, WIDE) if weight is None else np.asarray(weight).astype(WIDE)
    eps = WIDE(label_smoothing)
    if is_probability(x, target):
        y = classes_last(target)
        return w * (y * (1 - eps) + eps / count), np.ones(y.shape[:-1], bool), WIDE(np.prod(y.shape[:-1]))
    keep = target != ignore_index
    y = np.where(keep, target, 0).astype(np.int64)
    hit = np.arange(count) == y[..., None]
    q = np.where(keep[..., None], (1 - eps) * hit * w + (eps / count) * w, 0)
    return q, keep, np.where(keep, w[y], 0).sum()


def row_losses(logp, q, keep):
    """-Σ_c q_c · logp_c, where a mass of 0 counts for nothing (0 · log 0 = 0) and a row of nan is nan."""
    with np.errstate(invalid="ignore"):
        terms = np.where(q == 0, 0, -q * logp)
    return np.where(keep, terms.sum(axis=-1), 0)


def mean(total, weights):
    """PyTorch's: over weights that sum to 0 nan, even if the rows count for something by their smoothing."""
    with np.errstate(all="ignore"):
        return total / weights if weights else total * WIDE(np.nan)


def reduced(rows, divisor, reduction):
    if reduction in (None, "none"):
        return rows
    return mean(rows.sum(), divisor) if reduction == "mean" else rows.sum()


def upstream(grad_output, rows_shape, divisor, reduction):
    """What one row's own loss is multiplied by."""
    with np.errstate(all="ignore"):
        g = np.asarray(grad_output).astype(WIDE)
        g = mean(g, divisor) if reduction == "mean" else g
    return np.broadcast_to(g, rows_shape)


def nll_loss(x, target, weight=None, *, ignore_index=-100, reduction="mean"):
    q, keep, divisor = masses(x, target, weight, ignore_index)
    return reduced(row_losses(classes_last(x), q, keep), divisor, reduction)


def nll_loss_backward(grad_output, x, target, weight=None, *, ignore_index=-100, reduction="mean"):
    q, keep, divisor = masses(x, target, weight, ignore_index)
    g = upstream(grad_output, keep.shape, divisor, reduction)
    with np.errstate(all="ignore"):
        return classes_back(np.where(keep[..., None] & (q != 0), -q * g[..., None], 0), x)


def cross_entropy(x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    q, keep, divisor = masses(x, target, weight, ignore_index, label_smoothing)
    logp = log_softmax(classes_last(x))
    losses = row_losses(logp, q, keep)
    losses = np.where(keep & np.isnan(logp).any(axis=-1), np.nan, losses)
    return reduced(losses, divisor, reduction)


def cross_entropy_terms(grad_output, x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """The two terms of the gradient, g·(Σq)·p and g·q; their magnitudes condition the difference."""
    q, keep, divisor = masses(x, target, weight, ignore_index, label_smoothing)
    g = upstream(grad_output, keep.shape, divisor, reduction)[..., None]
    with np.errstate(all="ignore"):
        p = np.exp(log_softmax(classes_last(x)))
        spread = np.where(keep[..., None], g * q.sum(axis=-1, keepdims=True) * p, 0)
        hit = np.where(keep[..., None], g * q, 0)
    return classes_back(spread, x), classes_back(hit, x)


def cross_entropy_backward(grad_output, x, target, weight=None, **options):
    spread, hit = cross_entropy_terms(grad_output, x, target, weight, **options)
    return spread - hit


# ---- fifty digits, for the accuracy rules ----------------------------------------------------------------------------


def exact_rows(x, target):
    """For each row of (N, C): logp of every class, the loss, the gradient of the sum of the losses, each rounded once, to float64.

    The sum of the others (without one maximum; without the target) is kept on its own: no margin is too wide for fifty digits.
    """
    import mpmath

    logp, losses, gradient = [], [], []
    with mpmath.workdps(50):
        for values, t in zip(x, target, strict=True):
            row = [mpmath.mpf(float(v)) for v in values]
            lead = max(range(len(row)), key=row.__getitem__)
            e = [mpmath.exp(v - row[lead]) for v in row]
            others = mpmath.fsum(e[:lead] + e[lead + 1 :])
            log_sum = mpmath.log1p(others)
            logp.append([float(v - row[lead] - log_sum) for v in row])
            losses.append(float(log_sum + (row[lead] - row[t])))
            gradient.append([float(v / (1 + others)) for v in e])
            gradient[-1][t] = float(-mpmath.fsum(e[:t] + e[t + 1 :]) / (1 + others))
    return np.array(logp), np.array(losses), np.array(gradient)
