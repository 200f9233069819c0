"""Row options: lam L^2 in the loss, for every kind of thread group and target, against formulas in float64 that stand here.

======  ==================================================================
symbol  meaning, for one position
======  ==================================================================
m       maximum of the logits x
log s   logarithm of the sum of exp(x - m); L = m + log s; p = exp(x - L)
q, H    target distribution, and its sum over the classes
lam     ``RowOptions.lse_square_scale``
======  ==================================================================

The loss is H (log s + lam L^2) + sum q (m - x), and the gradient is (H + 2 lam L H) p - q. With ``RowOptions.gamma`` class numbers have
the focal loss: H r^gamma l, where l = -log p and r = 1 - p of the target.
"""

import calls
import numpy as np
import problems
import pytest
from problems import DTYPES, eps, work
from test_rows import use_group

from nbloss.kernels.math.epilogue import RowOptions

LAM = 0.3
IGNORED = 1

# name: shape of the logits, and for contiguous rows the thread group
KERNELS = {
    "lanes": ((5, 9, 1), "lanes"),
    "warp": ((3, 126, 1), "warp"),
    "block": ((3, 203, 1), "block"),
    "cluster": ((3, 211, 1), "cluster"),
    "long": ((3, 333, 1), "long"),
    "long, cluster": ((3, 601, 1), "long, cluster"),
    "registers": ((2, 7, 3), None),
    "online softmax": ((2, 40, 3), None),
}
TARGETS = ["class numbers", "smoothing", "probabilities"]


def problem(rng, shape, dtype, kind):
    """``(x, target, arguments of calls.cross_entropy, q)``; q is in float64, and 0 at ignored positions. One position is ignored."""
    outer, classes, inner = shape
    x = problems.logits(rng, shape, dtype) + np.asarray(rng.normal(0, 4, (outer, 1, inner))).astype(dtype)
    w = problems.weights(rng, classes, work(dtype))
    wide = w.astype(np.float64)[None, :, None]
    if kind == "probabilities":
        target = problems.probabilities(rng, shape, work(dtype))
        return x, target, {"weight": w, "label_smoothing": 0.2}, wide * (target.astype(np.float64) * 0.8 + 0.2 / classes)
    target = rng.integers(2, classes, (outer, inner))
    target[0, 0] = IGNORED
    x[0, 3, 0] = np.nan  # an ignored position may hold any logits
    smoothing = 0.2 if kind == "smoothing" else 0.0
    one_hot = (np.arange(classes)[None, :, None] == target[:, None, :]).astype(np.float64)
    q = np.where(target[:, None, :] == IGNORED, 0, wide * (one_hot * (1 - smoothing) + smoothing / classes))
    return x, target, {"weight": w, "label_smoothing": smoothing, "ignore_index": IGNORED}, q


def expected(x, q, g, lam):
    """Loss and gradient, and for each the sum of the sizes of its terms, which their rounding errors are proportional to."""
    x = x.astype(np.float64)
    counts = (q != 0).any(axis=1, keepdims=True)
    x = np.where(counts, x, 0)
    m = x.max(axis=1, keepdims=True)
    log_s = np.log(np.exp(x - m).sum(axis=1, keepdims=True))
    lse = m + log_s
    p, h = np.exp(x - lse), q.sum(axis=1, keepdims=True)
    gaps = (q * (m - x)).sum(axis=1, keepdims=True)
    loss = h * (log_s + lam * lse**2) + gaps
    gradient = g * ((h + 2 * lam * lse * h) * p - q)
    slope_size = 2 * lam * h * (np.abs(m) + log_s)
    penalty_size = lam * h * (np.abs(m) + log_s) ** 2
    return loss[:, 0], (h * log_s + gaps + penalty_size)[:, 0], gradient, np.abs(g) * ((h + slope_size) * p + q)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_square_of_the_log_sum_exp(rng, monkeypatch, dtype, kernel, kind):
    shape, group = KERNELS[kernel]
    if group:
        assert use_group(group, monkeypatch) == shape[1]
    x, target, arguments, q = problem(rng, shape, dtype, kind)
    g = rng.uniform(0.5, 2, (shape[0], shape[2])).astype(work(dtype))
    options = RowOptions(LAM)
    loss, gradient = calls.cross_entropy(x, target, g=g, row_options=options, **arguments)
    exact, size, exact_gradient, gradient_size = expected(x, q, g.astype(np.float64)[:, None], LAM)
    unit = eps(work(dtype))
    problems.assert_within(loss, exact, 16 * unit * size)
    gap = np.nan_to_num(x.astype(np.float64).max(axis=1, keepdims=True) - x.astype(np.float64))
    tolerance = unit * (16 + gap + np.sqrt(shape[1]) / 8) * gradient_size
    stored = eps(dtype) * np.abs(exact_gradient) if dtype != work(dtype) else 0
    problems.assert_within(gradient, exact_gradient, tolerance + stored + problems.floor(dtype))
    if kind != "probabilities":
        assert loss[0, 0] == 0 and (gradient[0, :, 0] == 0).all()
    alone, _ = calls.cross_entropy(x, target, row_options=options, gradient=False, **arguments)
    np.testing.assert_array_equal(alone, loss)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("kernel", ["lanes", "block", "registers", "online softmax"])
def test_a_factor_of_0_gives_the_bits_of_no_option(rng, monkeypatch, kernel, kind):
    shape, group = KERNELS[kernel]
    if group:
        use_group(group, monkeypatch)
    x, target, arguments, _ = problem(rng, shape, np.float32, kind)
    plain = calls.cross_entropy(x, target, **arguments)
    optioned = calls.cross_entropy(x, target, row_options=RowOptions(0.0), **arguments)
    np.testing.assert_array_equal(optioned[0], plain[0])
    np.testing.assert_array_equal(optioned[1], plain[1])


@pytest.mark.parametrize("kind", ["class numbers", "smoothing"])
@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 70, 1), (2, 3, 2), (2, 40, 2)], ids=problems.name)
def test_a_small_factor_keeps_its_digits_in_a_confident_row(rng, shape, kind):
    """D p and H (1 - p) are both tiny at the target: neither may be lost in p - 1."""
    outer, classes, inner = shape
    x = problems.logits(rng, shape, np.float32, 0.3)
    x[:, 1] += np.float32(25)
    target = np.ones((outer, inner), np.int64)
    smoothing = 0.0 if kind == "class numbers" else 0.125
    lam = 1e-10
    _, gradient = calls.cross_entropy(x, target, label_smoothing=smoothing, row_options=RowOptions(lam))
    wide = x.astype(np.longdouble)
    others = np.exp(np.delete(wide, 1, axis=1) - wide[:, 1:2]).sum(axis=1)
    lse, p = wide[:, 1] + np.log1p(others), 1 / (1 + others)
    share = np.longdouble(smoothing / classes)
    exact = 2 * lam * lse * p - others / (1 + others) + share * (classes - 1)  # (M - q) - M (1 - p) + D p, with M = 1
    np.testing.assert_allclose(gradient[:, 1].astype(np.longdouble), exact, rtol=16 * eps(np.float32))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_focal_loss(rng, monkeypatch, dtype, kernel, gamma):
    shape, group = KERNELS[kernel]
    if group:
        assert use_group(group, monkeypatch) == shape[1]
    x, target, arguments, q = problem(rng, shape, dtype, "class numbers")
    x[-1, target[-1, -1], -1] += np.asarray(30 if dtype == np.float64 else 12).astype(dtype)  # a confident row
    g = rng.uniform(0.5, 2, (shape[0], shape[2])).astype(work(dtype))
    options = RowOptions(gamma=gamma)
    loss, gradient = calls.cross_entropy(x, target, g=g, row_options=options, **arguments)
    h, hit = q.sum(axis=1).astype(np.longdouble), q != 0
    wide = np.where(hit.any(axis=1, keepdims=True), x.astype(np.longdouble), 0)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    s, others = e.sum(axis=1), np.where(hit, 0, e).sum(axis=1)
    own = np.where(hit, e, 0).sum(axis=1)
    p, r = own / s, others / s
    with np.errstate(divide="ignore", invalid="ignore"):
        of_target = np.where(r < 0.5, -np.log1p(-r), -np.log(p))
        slope = np.where(h == 0, 0, h * (r**gamma + gamma * r ** (gamma - 1) * p * of_target))
        exact = np.where(h == 0, 0, h * r**gamma * of_target)
    exact_gradient = (g * slope)[:, None] * np.where(hit, -r[:, None], e / s[:, None])
    unit = eps(work(dtype))
    problems.assert_within(loss, exact, (16 + 4 * gamma) * unit * exact + problems.tiny(work(dtype)))
    gap = np.nan_to_num(wide.max(axis=1, keepdims=True) - wide)
    gap = np.where(hit, np.sort(np.where(hit, np.inf, gap), axis=1)[:, :1], gap)
    tolerance = unit * (24 + gap + np.sqrt(shape[1]) / 8) * np.abs(exact_gradient)
    stored = eps(dtype) * np.abs(exact_gradient) if dtype != work(dtype) else 0
    problems.assert_within(gradient, exact_gradient, tolerance + stored + problems.floor(dtype))
    assert loss[0, 0] == 0 and (gradient[0, :, 0] == 0).all()
    alone, _ = calls.cross_entropy(x, target, row_options=options, gradient=False, **arguments)
    np.testing.assert_array_equal(alone, loss)


@pytest.mark.parametrize("shape", [(3, 3, 1), (3, 70, 1), (3, 3, 2), (3, 40, 2)], ids=problems.name)
def test_the_focal_loss_of_a_sure_row_and_of_an_impossible_target(shape):
    x = np.full(shape, -np.inf, np.float32)
    x[0, 1], x[1, 0], x[2] = 5, 3, 0
    target = np.ones((shape[0], shape[2]), np.int64)
    loss, gradient = calls.cross_entropy(x, target, row_options=RowOptions(gamma=2.0))
    assert (loss[0] == 0).all() and (gradient[0] == 0).all()
    assert (loss[1] == np.inf).all()
    assert (gradient[1, 0] == 1).all() and (gradient[1, 1] == -1).all() and (gradient[1, 2:] == 0).all()
    assert (loss[2] > 0).all()
