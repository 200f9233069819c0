"""The logit map: tanh and its derivative in fifty digits, from the same functions as every backend compiles."""

import pytest

from nbloss.kernels.math import logit_map

mpmath = pytest.importorskip("mpmath")

VALUES = [0, 1e-30, 1e-3, 0.1, 0.5, 0.999, 1.001, 2, 9, 20, 333]


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def same(function):
    return function


def less(a, b):
    return a < b


def fma(a, b, c):
    return a * b + c


def made(polynomial):
    def select(mask, a, b):
        return a if mask else b

    def copysign(size, x):
        return -size if x < 0 else size

    def exp(t):
        return mpmath.exp(max(t, mpmath.mpf(-(10**6))))

    return logit_map.make(same, same, mpmath.mpf, select, less, fma, abs, copysign, exp, polynomial)


def exact_polynomial(z):
    v = mpmath.sqrt(z)
    return (mpmath.tanh(v) / v - 1) / z if z else -mpmath.mpf(1) / 3


@pytest.mark.parametrize("cap", [0.5, 30])
@pytest.mark.parametrize("scale", [1, 0.25])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_formulas_are_those_of_the_hyperbolic_tangent(sign, scale, cap):
    near, capped, bend, second = made(exact_polynomial)
    scale, cap = mpmath.mpf(scale), mpmath.mpf(cap)
    for value in VALUES:
        x = sign * mpmath.mpf(value) * cap / scale
        v = x * (scale / cap)
        tanh, slope = near(v, v * v, scale)
        u, du = capped(x, v, v * v, tanh, slope, scale, cap)
        assert mpmath.almosteq(u, cap * mpmath.tanh(scale * x / cap), 1e-40)
        assert mpmath.almosteq(du, scale / mpmath.cosh(scale * x / cap) ** 2, 1e-40)
        curve = mpmath.diff(lambda t, a=scale, k=cap: a / mpmath.cosh(a * t / k) ** 2, x)
        assert mpmath.almosteq(bend(u, du, scale / cap, 1 / cap), curve, 1e-25)
        assert second(mpmath.mpf(3), du, mpmath.mpf(2), curve, mpmath.mpf(5)) == 2 * curve * 5 + 3 * du
        assert second(mpmath.mpf(3), du, mpmath.mpf(0), curve, mpmath.inf) == 3 * du
        if abs(v) < 1:
            assert (u, du) == (cap * tanh, slope)


@pytest.mark.parametrize(("itemsize", "error"), [(4, 2.1e-8), (8, 7e-17)])
def test_the_polynomials_are_tanh_below_1(itemsize, error):
    polynomial = logit_map.make_polynomial(same, fma, [mpmath.mpf(c) for c in logit_map.NEAR[itemsize]])
    near = made(polynomial).near
    for k in range(1, 400):
        v = mpmath.mpf(k) / 400
        tanh, _ = near(v, v * v, mpmath.mpf(1))
        assert abs(tanh / mpmath.tanh(v) - 1) < error


def test_infinite_and_nan_logits_are_kept_and_their_slopes_are_0_or_finite():
    capped, bend = made(exact_polynomial).capped, made(exact_polynomial).bend
    for x in (mpmath.inf, -mpmath.inf):
        u, slope = capped(x, x, mpmath.inf, mpmath.nan, mpmath.nan, mpmath.mpf(1), mpmath.mpf(5))
        assert u == x and slope < mpmath.mpf("1e-1000")
        assert bend(u, slope, mpmath.mpf(1), mpmath.mpf(1)) == 0
