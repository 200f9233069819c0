"""The logit map: from a logit x to the logit u of which the loss is computed, and to the derivative of u.

This is the one place of every formula that acts on each logit. As in ``epilogue``, each backend compiles it with its own decorator
(``make``): it is applied where logits are loaded, and the derivative multiplies the gradient where that is stored.

==========  ====================================================================================================
symbol      meaning
==========  ====================================================================================================
a, k        ``logit_scale`` and ``softcap``; ``ratio`` = a / k
u           k tanh(a x / k); a x without a cap
v, z        a x / k and v^2
t, q        exp(-2 |v|) and t / (1 + t), so that tanh |v| = 1 - 2 q
slope       du / dx = a (1 - tanh(v)^2) = a 4 q (1 - q)
bend        d2u / dx2 = -2 (u / k) ratio slope; 0 without a cap
==========  ====================================================================================================

For |v| < 1, ``near``, tanh is a polynomial, which keeps its digits near 0, where 1 - 2 q would lose them. Beyond, 1 - tanh(v)^2 would
lose them, and rounds to 0 from |v| = 9 on. Most logits are near: a backend may test that, and leave out the rest.

An infinite or nan logit is kept, so that -inf stays a class without probability, not one with the logit -k. Its slope is 0 (that of nan
is no nan): the row of +inf or nan becomes nan by itself.

Without an option, the argument of the exponential is x - m, and here is its rounding error.
"""

from typing import NamedTuple

# (tanh(v) / v - 1) / z for z <= 1 as a polynomial in z, the lowest term first, for each item size of the arithmetic: fits at Chebyshev
# nodes. The relative error of tanh is 2e-8 in float32, and 7e-17 in float64.
NEAR = {
    4: (
        -0.33333331252016791, 0.13333128520786393, -0.053934788850892486, 0.021660115374758986, -0.0082189218977914212,
        0.0025104593252183889, -0.00042069549386400473,
    ),
    8: (
        -0.33333333333333328, 0.13333333333330813, -0.053968253966363942, 0.021869488479997372, -0.0088632346525254385,
        0.0035921197425441463, -0.0014557829138450452, 0.00058980673077831739, -0.00023845344045191567, 9.5407788235307209e-5,
        -3.6797213258744682e-5, 1.2889423623414145e-5, -3.6986096809521605e-6, 7.3869814723840815e-7, -7.4111409765401793e-8,
    ),
}  # fmt: skip


def rounding_error(x, m, t):
    """(x - m) - t, exactly, where t = x - m was rounded (TwoSum: Knuth, The Art of Computer Programming, volume 2, 4.2.2)."""
    b = t - x
    return (x - (t - b)) - (m + b)


def make_polynomial(compile, fma, coefficients):
    """A polynomial of z, from coefficients in the type of a backend, the lowest term first."""

    def one_more(inner, coefficient):
        @compile
        def polynomial(z):
            return fma(inner(z), z, coefficient)

        return polynomial

    *lower, second, first = coefficients

    @compile
    def polynomial(z):
        return fma(z, first, second)

    for coefficient in reversed(lower):
        polynomial = one_more(polynomial, coefficient)
    return polynomial


class Formulas(NamedTuple):
    """The functions of ``make``, compiled for one backend."""

    near: object
    capped: object
    bend: object
    second: object


def make(compile, apart, real, select, less, fma, absolute, copysign, exp, polynomial):
    """The formulas, for a backend's decorator ``compile`` and its ``real(number)`` for constants; numbers or vectors.

    ``apart`` is the decorator of what is seldom needed. ``exp(t)`` is for t <= 0, also for -inf, and makes some number of nan.
    ``polynomial(z)`` is that of `NEAR`. ``copysign(size, x)`` has the sign of x.
    """
    zero, one, two, four, infinite = real(0), real(1), real(2), real(4), real(float("inf"))

    @compile
    def near(v, z, scale):
        """``(tanh v, slope)`` where z < 1."""
        capped = fma(v * z, polynomial(z), v)
        return capped, fma(-capped * scale, capped, scale)

    @apart
    def capped(x, v, z, tanh, slope, scale, cap):
        """``(u, slope)`` of any logit, given the results of ``near``."""
        size = absolute(v)
        t = exp(-(size + size))
        q = t / (t + one)
        inside = less(z, one)
        u = cap * select(inside, tanh, copysign(one - two * q, v))
        return select(less(absolute(x), infinite), u, x), select(inside, slope, (four * scale) * (q - q * q))

    @compile
    def bend(u, slope, ratio, inverse):
        """The bend, where ``inverse`` = 1 / k."""
        return select(less(absolute(u), infinite), (-two * ratio) * (u * inverse) * slope, slope - slope)

    @compile
    def second(product, slope, gradient, bend, v):
        """The Hessian times v with respect to x, where ``product`` is that with respect to u times slope v, and ``gradient`` dL/du.

        A gradient of 0 hides a v that is not finite: of a row that does not count.
        """
        return select(less(zero, absolute(gradient)), fma(gradient * bend, v, product * slope), product * slope)

    return Formulas(near, capped, bend, second)
