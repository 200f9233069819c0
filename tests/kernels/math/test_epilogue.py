"""The row epilogue: its formulas are those of the definition of the loss, and of its derivative, in fifty digits."""

import pytest

from nbloss.kernels.math.epilogue import RowOptions, make

mpmath = pytest.importorskip("mpmath")

F = make(
    *[lambda f: f] * 2,
    lambda mask, a, b: a if mask else b,
    lambda a, b: a == b,
    mpmath.exp,
    lambda x: -mpmath.expm1(-x),
    mpmath.power,
)
ROWS = [[0.5, -1.25, 2.0], [25.0, 0.0, -3.0, 1.0], [-7.0], [-40.0, -41.0, -40.0], [3.0, 3.0]]
SCALES = [None, 0.0, 1e-4, 0.7]


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def row_of(x):
    """(m, s, rest, log s) of a row, with the digits of ``rest``."""
    m = max(x)
    terms = [mpmath.exp(v - m) for v in x]
    terms.remove(1)
    rest = mpmath.fsum(terms)
    return m, 1 + rest, rest, mpmath.log1p(rest)


def loss_of(x, q, lam):
    """The definition: -sum q log p + lam M L^2."""
    lse = mpmath.log(mpmath.fsum(mpmath.exp(v) for v in x))
    total = mpmath.fsum(q)
    return mpmath.fsum(w * (lse - v) for v, w in zip(x, q, strict=True)) + lam * total * lse**2


def gradient_of(x, q, lam):
    """The derivative of ``loss_of``, class by class, by differences."""
    return [mpmath.diff(lambda v, c=c: loss_of([*x[:c], v, *x[c + 1 :]], q, lam), x[c]) for c in range(len(x))]


def close(a, b):
    assert mpmath.almosteq(a, b, rel_eps=mpmath.mpf(10) ** -20, abs_eps=mpmath.mpf(10) ** -25)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_class_numbers(row, scale):
    x, lam = [mpmath.mpf(v) for v in row], mpmath.mpf(scale or 0)
    options = None if scale is None else RowOptions(lam)
    m, s, rest, log_s = row_of(x)
    weight, upstream = mpmath.mpf("0.75"), mpmath.mpf("-1.5")
    for y in range(len(x)):
        q = [weight if c == y else mpmath.mpf(0) for c in range(len(x))]
        close(F.index_loss(weight, log_s, m - x[y], m, options), loss_of(x, q, lam))
        expected = [upstream * d for d in gradient_of(x, q, lam)]
        coef, own = weight * upstream, mpmath.exp(x[y] - m)
        factor = F.index_factor(coef, log_s, m - x[y], m, options)
        others = rest if x[y] == m else s - own
        for c in range(len(x)):
            found = F.index_at_target(coef, factor, others, own, s, log_s, m, options) if c == y else mpmath.exp(x[c] - m) * factor / s
            close(found, expected[c])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_soft_targets(row, scale):
    """Probabilities, and a smoothed class number, whose target has a weight of its own; at the peak the other form gives the same."""
    x, lam = [mpmath.mpf(v) for v in row], mpmath.mpf(scale or 0)
    options = None if scale is None else RowOptions(lam)
    m, s, rest, log_s = row_of(x)
    spread = [mpmath.mpf(c + 1) / 7 for c in range(len(x))]
    for y, hit in [(None, mpmath.mpf(0)), *((y, mpmath.mpf("0.4")) for y in range(len(x)))]:
        q = [w + (hit if c == y else 0) for c, w in enumerate(spread)]
        total, gaps = mpmath.fsum(q), mpmath.fsum(w * (m - v) for v, w in zip(x, q, strict=True))
        close(F.soft_loss(total, log_s, gaps, m, options), loss_of(x, q, lam))
        factor, away = F.soft_factors(total, rest, s, log_s, m, options)
        expected = gradient_of(x, q, lam)
        for c in range(len(x)):
            e = mpmath.exp(x[c] - m)
            for peak in (-1, e) if x[c] == m else (-1,):
                if c == y:
                    close(F.smoothed_at_target(e, spread[c], hit, mpmath.fsum(spread), factor, away, peak == e), expected[c])
                else:
                    close(F.soft_gradient(e, q[c], total, factor, away, peak), expected[c])


def test_a_wrong_formula_would_be_found():
    x = [mpmath.mpf(v) for v in ROWS[0]]
    m, _, _, log_s = row_of(x)
    with pytest.raises(AssertionError):
        close(F.index_loss(mpmath.mpf(1), log_s, m - x[0], m, None), loss_of(x, [1, 0, 0], mpmath.mpf("1e-4")))


@pytest.mark.parametrize("gamma", ["0.5", "1", "2", "3.25"])
@pytest.mark.parametrize("row", [row for row in ROWS if len(row) > 1], ids=str)
def test_the_focal_loss(row, gamma):
    """r^gamma l and its derivative, class by class, by differences."""
    x, gamma = [mpmath.mpf(v) for v in row], mpmath.mpf(gamma)
    m, s, rest, log_s = row_of(x)
    options, weight, upstream = RowOptions(gamma=gamma), mpmath.mpf("0.75"), mpmath.mpf("-1.5")
    for y in range(len(x)):

        def loss(x, y=y):
            terms = [mpmath.exp(v) for v in x]
            r = mpmath.fsum(terms[:y] + terms[y + 1 :]) / mpmath.fsum(terms)
            return weight * r**gamma * -mpmath.log(terms[y] / mpmath.fsum(terms))

        close(F.index_loss(weight, log_s, m - x[y], m, options), loss(x))
        coef, own = weight * upstream, mpmath.exp(x[y] - m)
        factor = F.index_factor(coef, log_s, m - x[y], m, options)
        others = rest if x[y] == m else s - own
        for c in range(len(x)):
            expected = upstream * mpmath.diff(lambda v, c=c: loss([*x[:c], v, *x[c + 1 :]]), x[c])
            found = F.index_at_target(coef, factor, others, own, s, log_s, m, options) if c == y else mpmath.exp(x[c] - m) * factor / s
            close(found, expected)
