"""The oracle: every formula of the contract, written once, in NumPy's widest float. It shares no code with nbloss.

A loss is a target distribution ``q`` and one sum over the classes, ``-Σ_c q_c · logp_c``. Class numbers, weights, smoothing, ignored rows
and probabilities only say what ``q`` is, and what a mean divides by (`target_distribution`). M is the sum of q, L the log-sum-exp of a
row's logits, and λ = ``lse_square_scale`` adds M λ L² to a row's loss. ``softcap`` k and ``logit_scale`` a replace the logits by
u = k tanh(a x / k), or by a x, and multiply the gradient by du / dx (`mapped`).
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


def mapped(rows, softcap=None, logit_scale=1.0):
    """``(u, du / dx)``: a x and a without a cap k; with one k tanh(a x / k), where -inf, inf and nan stay, and a / cosh(a x / k)²."""
    scaled = WIDE(logit_scale) * rows
    if softcap is None:
        return scaled, np.broadcast_to(WIDE(logit_scale), rows.shape)
    v = scaled / WIDE(softcap)
    with np.errstate(all="ignore"):
        slope = WIDE(logit_scale) * (2 / (np.exp(v) + np.exp(-v))) ** 2
        return np.where(np.isfinite(rows), WIDE(softcap) * np.tanh(v), rows), slope


def log_sum_exp(rows):
    """L = m + log s of rows whose classes are last, with an axis of one class left; nan where log_softmax is nan."""
    with np.errstate(all="ignore"):
        top = rows.max(axis=-1, keepdims=True)
        return top - np.take_along_axis(log_softmax(rows), np.expand_dims(rows.argmax(axis=-1), -1), -1)  # log p of the maximum is -log s


def log_softmax_backward(grad_output, output, dim=-1):
    """g - exp(y) · Σ g."""
    g, y = np.asarray(grad_output).astype(WIDE), np.asarray(output).astype(WIDE)
    return g - np.exp(y) * g.sum(axis=dim, keepdims=True)


def softmax(x, dim=-1):
    """exp(x - m) / Σ exp(x - m)."""
    x = np.asarray(x).astype(WIDE, order="C")
    if x.size == 0:
        return x
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=dim, keepdims=True))
        return e / e.sum(axis=dim, keepdims=True)


def softmax_backward(grad_output, output, dim=-1):
    """y (g - Σ g y)."""
    g, y = np.asarray(grad_output).astype(WIDE), np.asarray(output).astype(WIDE)
    return y * (g - (g * y).sum(axis=dim, keepdims=True))


def is_probability(x, target):
    return np.asarray(target).shape == np.asarray(x).shape and np.asarray(target).dtype.kind not in "iub"


def target_distribution(x, target, weight=None, ignore_index=-100, label_smoothing=0.0, sample_weight=None, divisor=None):
    """The target distribution q (classes last), the rows that count, and what a mean divides by: ``divisor``, or the sum of the weights.

    A row with a sample weight of 0 does not count, and the sample weight of an ignored row is not read.
    """
    x, target = np.asarray(x), np.asarray(target)
    count = x.shape[class_axis(x)]
    w = np.ones(count, WIDE) if weight is None else np.asarray(weight).astype(WIDE)
    eps = WIDE(label_smoothing)
    if is_probability(x, target):
        y = classes_last(target)
        q, keep, own = w * (y * (1 - eps) + eps / count), np.ones(y.shape[:-1], bool), np.ones(y.shape[:-1], WIDE)
    else:
        keep = target != ignore_index
        y = np.where(keep, target, 0).astype(np.int64)
        hit = np.arange(count) == y[..., None]
        q, own = (1 - eps) * hit * w + (eps / count) * w, w[y]
    if sample_weight is not None:
        of_rows = np.asarray(sample_weight).astype(WIDE)
        keep = keep & (of_rows != 0)
        of_rows = np.where(keep, of_rows, 0)
        q, own = q * of_rows[..., None], own * of_rows
    total = np.where(keep, own, 0).sum()
    if sample_weight is not None and total < 0:  # a mean of such weights would turn the sign of the loss
        total = WIDE(np.nan)
    return np.where(keep[..., None], q, 0), keep, total if divisor is None else WIDE(divisor)


def row_losses(logp, q, keep):
    """-Σ_c q_c · logp_c, where a class with q = 0 counts for nothing (0 · log 0 = 0) and a row of nan is nan."""
    with np.errstate(invalid="ignore"):
        terms = np.where(q == 0, 0, -q * logp)
    return np.where(keep, terms.sum(axis=-1), 0)


def mean(total, weights, empty="nan"):
    """PyTorch's: over weights that sum to 0 nan, even if the rows count for something by their smoothing; 0 if ``empty`` says so."""
    with np.errstate(all="ignore"):
        return total / weights if weights else np.full_like(total, np.nan if empty == "nan" else 0)


def reduced(rows, divisor, reduction, empty="nan"):
    if reduction in (None, "none"):
        return rows
    return mean(rows.sum(), divisor, empty) if reduction == "mean" else rows.sum()


def upstream(grad_output, rows_shape, divisor, reduction, empty="nan"):
    """What one row's own loss is multiplied by."""
    with np.errstate(all="ignore"):
        g = np.asarray(grad_output).astype(WIDE)
        g = mean(g, divisor, empty) if reduction == "mean" else g
    return np.broadcast_to(g, rows_shape)


def nll_loss(x, target, weight=None, *, ignore_index=-100, reduction="mean", empty="nan", **of_rows):
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, **of_rows)
    return reduced(row_losses(classes_last(x), q, keep), divisor, reduction, empty)


def nll_loss_backward(grad_output, x, target, weight=None, *, ignore_index=-100, reduction="mean", empty="nan", **of_rows):
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, **of_rows)
    g = upstream(grad_output, keep.shape, divisor, reduction, empty)
    with np.errstate(all="ignore"):
        return classes_back(np.where(keep[..., None] & (q != 0), -q * g[..., None], 0), x)


def cross_entropy(
    x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, lse_square_scale=0.0, softcap=None,
    logit_scale=1.0, empty="nan", **of_rows,
):  # fmt: skip
    """``of_rows``: ``sample_weight`` and ``divisor``."""
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, label_smoothing, **of_rows)
    rows, _ = mapped(classes_last(x), softcap, logit_scale)
    logp = log_softmax(rows)
    losses = row_losses(logp, q, keep)
    if lse_square_scale:
        with np.errstate(all="ignore"):
            losses = losses + np.where(keep, WIDE(lse_square_scale) * q.sum(axis=-1) * log_sum_exp(rows)[..., 0] ** 2, 0)
    losses = np.where(keep & np.isnan(logp).any(axis=-1), np.nan, losses)
    return reduced(losses, divisor, reduction, empty)


def cross_entropy_terms(
    grad_output, x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, lse_square_scale=0.0,
    softcap=None, logit_scale=1.0, empty="nan", **of_rows,
):  # fmt: skip
    """The two terms of the gradient, g·M·(1 + 2 λ L)·p and g·q, times du / dx; their magnitudes condition the difference."""
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, label_smoothing, **of_rows)
    g = upstream(grad_output, keep.shape, divisor, reduction, empty)[..., None]
    rows, slope = mapped(classes_last(x), softcap, logit_scale)
    g = g * np.where(np.isnan(slope), 1, slope)  # of an infinite or nan logit; the row is nan by itself
    with np.errstate(all="ignore"):
        p = np.exp(log_softmax(rows))
        total = q.sum(axis=-1, keepdims=True)
        if lse_square_scale:
            total = total * (1 + 2 * WIDE(lse_square_scale) * log_sum_exp(rows))
        spread = np.where(keep[..., None], g * total * p, 0)
        hit = np.where(keep[..., None], g * q, 0)
    return classes_back(spread, x), classes_back(hit, x)


def cross_entropy_backward(grad_output, x, target, weight=None, **options):
    spread, hit = cross_entropy_terms(grad_output, x, target, weight, **options)
    return spread - hit


def focal_rows(x, target, gamma):
    """``(l, f(l), f'(l), hit, p)`` of rows: l = -log p[y], f = r^γ l with r = 1 - p[y], and f' = r^γ + γ r^(γ-1) p[y] l."""
    logp, gamma = log_softmax(classes_last(x)), WIDE(gamma)
    hit = np.arange(logp.shape[-1]) == np.asarray(target)[..., None]
    with np.errstate(all="ignore"):
        loss = np.where(hit, -logp, 0).sum(axis=-1)
        loss = np.where(np.isnan(logp).any(axis=-1), np.nan, loss)
        p, r = np.exp(-loss), -np.expm1(-loss)
        product = np.where(p == 0, 0, p * loss)
        slope = r**gamma + gamma * np.where(r == 0, gamma == 1, r ** (gamma - 1)) * product
        return loss, r**gamma * loss, slope, hit, np.exp(logp)


def focal_loss(x, target, weight=None, *, gamma=2.0, ignore_index=-100, reduction="mean", empty="nan", **of_rows):
    """``of_rows``: ``sample_weight`` and ``divisor``."""
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, **of_rows)
    _, focused, _, _, _ = focal_rows(x, np.where(keep, target, 0), gamma)
    with np.errstate(all="ignore"):
        return reduced(np.where(keep, q.sum(axis=-1) * focused, 0), divisor, reduction, empty)


def focal_loss_terms(grad_output, x, target, weight=None, *, gamma=2.0, ignore_index=-100, reduction="mean", empty="nan", **of_rows):
    """The two terms of the gradient, g·w[y]·f'·p and g·w[y]·f' at the target."""
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, **of_rows)
    g = upstream(grad_output, keep.shape, divisor, reduction, empty)
    _, _, slope, hit, p = focal_rows(x, np.where(keep, target, 0), gamma)
    with np.errstate(all="ignore"):
        factor = np.where(keep, g * q.sum(axis=-1) * slope, 0)[..., None]
        return classes_back(np.where(keep[..., None], factor * p, 0), x), classes_back(np.where(hit, factor, 0), x)


def lse_square_sizes(
    grad_output, x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, lse_square_scale, **of_rows
):
    """How large the numbers are that the loss and the gradient of rows of finite logits are made of: (size of the loss, of the gradient).

    L = m + log s has an error of an ulp of A = |m| + log s, also where it is near 0: L² has one of an ulp of |L| A, and L one of A.
    """
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, label_smoothing, **of_rows)
    q, divisor = np.abs(q), np.abs(divisor)
    g = np.abs(upstream(grad_output, keep.shape, divisor, reduction))[..., None]
    rows, scale = classes_last(x), WIDE(lse_square_scale)
    logp, total = log_softmax(rows), q.sum(axis=-1)
    with np.errstate(all="ignore"):
        lse = log_sum_exp(rows)[..., 0]
        top = rows.max(axis=-1)
        size = np.abs(top) + (lse - top)
        loss = row_losses(logp, q, keep) + np.where(keep, scale * total * np.abs(lse) * size, 0)
        gradient = np.where(keep[..., None], g * (total * (1 + 2 * scale * size))[..., None] * np.exp(logp) + g * q, 0)
    return reduced(loss, divisor, reduction), classes_back(gradient, x)


def stats(x, target=None, ignore_index=-100):
    """``(lse, log_prob, argmax, correct, entropy)`` of each row; None where there is no target. The entropy is -Σ_c p_c log p_c."""
    rows = classes_last(x)
    keep = np.ones(rows.shape[:-1], bool) if target is None else np.asarray(target) != ignore_index
    with np.errstate(all="ignore"):
        lse, logp = log_sum_exp(rows)[..., 0], log_softmax(rows)
        p = np.exp(logp)
        top = rows.max(axis=-1)
        entropy = np.where(p == 0, 0, -p * logp).sum(axis=-1)
    results = [np.where(keep, lse, 0), None, np.where(keep, rows.argmax(axis=-1), -1), None, np.where(keep, entropy, 0)]
    if target is not None:
        hit = np.where(keep, target, 0).astype(np.int64)[..., None]
        log_prob = np.where(np.isnan(logp).any(axis=-1), np.nan, np.take_along_axis(logp, hit, -1)[..., 0])
        results[1] = np.where(keep, log_prob, 0)
        results[3] = keep & (np.take_along_axis(rows, hit, -1)[..., 0] == top)
    return tuple(results)


# ---- second derivatives ----------------------------------------------------------------------------------------------


def curvatures(
    x, target, weight=None, *, grad_output=1.0, ignore_index=-100, reduction="mean", label_smoothing=0.0, lse_square_scale=0.0,
    empty="nan", **of_rows,
):  # fmt: skip
    """``(p, A, B, L, counts)`` of rows, classes last: A = g M (1 + 2 λ L) and B = g M 2 λ. The rows that do not count are 0."""
    q, keep, divisor = target_distribution(x, target, weight, ignore_index, label_smoothing, **of_rows)
    g, total = upstream(grad_output, keep.shape, divisor, reduction, empty), q.sum(axis=-1)
    counts = (keep & (total != 0) & (g != 0))[..., None]
    rows = classes_last(x)
    with np.errstate(all="ignore"):
        a, lam, lse = (g * total)[..., None], WIDE(lse_square_scale), log_sum_exp(rows)
        return np.exp(log_softmax(rows)), a * (1 + 2 * lam * lse) if lam else a, 2 * lam * a, lse, counts


def _over_classes(term, p):
    """Σ_k p_k term(c, k) for every class c of rows: each difference is taken before it is summed, so that no sum cancels."""
    return np.stack([(p * term(c)).sum(axis=-1) for c in range(p.shape[-1])], axis=-1)


def cross_entropy_hvp(v, x, target, weight=None, **options):
    """H v = p (A Σ_k p_k (v - v_k) + B Σ_k p_k v_k)."""
    p, a, b, _, counts = curvatures(x, target, weight, **options)
    v = classes_last(v)
    with np.errstate(all="ignore"):
        moved = _over_classes(lambda c: v[..., c : c + 1] - v, p)
        result = p * (a * moved + b * (p * v).sum(axis=-1, keepdims=True)) if options.get("lse_square_scale") else p * a * moved
    return classes_back(np.where(counts, result, 0), x)


def cross_entropy_hessian_diag(x, target, weight=None, **options):
    """p (A Σ_{k≠c} p_k + B p)."""
    p, a, b, _, counts = curvatures(x, target, weight, **options)
    with np.errstate(all="ignore"):
        away = _over_classes(lambda c: np.arange(p.shape[-1]) != c, p)
        away = np.where(np.isnan(p), np.nan, away)
        return classes_back(np.where(counts, p * (a * away + b * p), 0), x)


# ---- distillation ----------------------------------------------------------------------------------------------------


def distillation_rows(x, teacher, temperature, sample_weight):
    """T² Σ q (log q - log p) of each row, T (p - q) with classes last, and the weights of the rows."""
    at = WIDE(temperature)
    with np.errstate(all="ignore"):
        logp, logq = log_softmax(classes_last(x) / at), log_softmax(classes_last(teacher) / at)
        q = np.exp(logq)
        terms = np.where(logq == -np.inf, 0, np.where(logp == -np.inf, np.inf, q * (logq - logp)))
        own = np.ones(q.shape[:-1], WIDE) if sample_weight is None else np.asarray(sample_weight).astype(WIDE)
        bad = np.isnan(logp).any(axis=-1) | np.isnan(logq).any(axis=-1)
        losses = np.where(own == 0, 0, own * np.where(bad, np.nan, at * at * terms.sum(axis=-1)))
        gradient = np.where(bad[..., None], np.nan, at * (np.exp(logp) - q))
    return losses, gradient, own


def distillation_loss(x, teacher, *, temperature=1.0, reduction="mean", sample_weight=None, divisor=None):
    losses, _, own = distillation_rows(x, teacher, temperature, sample_weight)
    return reduced(losses, own.sum() if divisor is None else WIDE(divisor), reduction)


def distillation_loss_backward(grad_output, x, teacher, *, temperature=1.0, reduction="mean", sample_weight=None, divisor=None):
    losses, gradient, own = distillation_rows(x, teacher, temperature, sample_weight)
    g = own * upstream(grad_output, losses.shape, own.sum() if divisor is None else WIDE(divisor), reduction)
    with np.errstate(all="ignore"):
        return classes_back(np.where(g[..., None] == 0, 0, g[..., None] * gradient), x)


def exact_distillation(x, teacher, temperature=1.0):
    """``(losses, gradient of their sum)`` of rows of finite logits, from fifty digits, each rounded once, to float64."""
    import mpmath

    losses, gradient = [], []
    with mpmath.workdps(50):
        at = mpmath.mpf(float(temperature))
        for student, other in zip(x, teacher, strict=True):
            u, t = ([mpmath.mpf(float(v)) / at for v in row] for row in (student, other))
            log_u, log_t = (mpmath.log(mpmath.fsum(map(mpmath.exp, row))) for row in (u, t))
            q = [mpmath.exp(v - log_t) for v in t]
            losses.append(float(at**2 * mpmath.fsum(a * ((b - log_t) - (c - log_u)) for a, b, c in zip(q, t, u, strict=True))))
            gradient.append([float(at * (mpmath.exp(c - log_u) - a)) for a, c in zip(q, u, strict=True)])
    return np.array(losses), np.array(gradient)


# ---- fifty digits, for the accuracy rules ----------------------------------------------------------------------------


def exact_focal_rows(x, target, gamma):
    """For each row of (N, C): the focal loss, and its gradient, each rounded once, to float64."""
    import mpmath

    losses, gradient = [], []
    with mpmath.workdps(60):
        gamma = mpmath.mpf(float(gamma))
        for values, t in zip(x, target, strict=True):
            e = [mpmath.exp(mpmath.mpf(float(v))) for v in values]
            s, others = mpmath.fsum(e), mpmath.fsum(e[:t] + e[t + 1 :])
            p, r = e[t] / s, others / s
            of_target = -mpmath.log1p(-r) if r < 0.5 else mpmath.log(s) - mpmath.mpf(float(values[t]))
            slope = r**gamma + gamma * r ** (gamma - 1) * p * of_target
            losses.append(float(r**gamma * of_target))
            gradient.append([float(slope * v / s) for v in e])
            gradient[-1][t] = float(-slope * r)
    return np.array(losses), np.array(gradient)


def exact_rows(x, target, lse_square_scale=0.0):
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
            lse, scale = row[lead] + log_sum, mpmath.mpf(float(lse_square_scale))
            more = 2 * scale * lse
            logp.append([float(v - row[lead] - log_sum) for v in row])
            losses.append(float(log_sum + (row[lead] - row[t]) + scale * lse**2))
            gradient.append([float((1 + more) * v / (1 + others)) for v in e])
            gradient[-1][t] = float((more * e[t] - mpmath.fsum(e[:t] + e[t + 1 :])) / (1 + others))
    return np.array(logp), np.array(losses), np.array(gradient)
