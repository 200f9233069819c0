"""The logit map: from a logit x to the logit u of which the loss is computed, and to the derivative of u.

This is the one place of every formula that acts on each logit. As in ``epilogue``, each backend compiles it with its own decorator
(``make``): it is applied where logits are loaded, and the derivative multiplies the gradient where that is stored.

==========  ====================================================================================================
symbol      meaning
==========  ====================================================================================================
a, k        ``logit_scale`` and ``softcap``
u           k tanh(a x / k); a x without a cap
v           a x / k
t           exp(-2 |v|), so that tanh |v| = (1 - t) / (1 + t)
slope       du / dx = a 4 t / (1 + t)^2, which is a (1 - tanh(v)^2) without its cancellation: that rounds to 0 from |v| = 9 on
==========  ====================================================================================================

For small v, where 1 - t cancels, u is a x (1 + (tanh(v) / v - 1)): the second term is a polynomial in v^2.

An infinite or nan logit is kept, so that -inf stays a class without probability, not one with the logit -k. Its slope is 0 (nan counts
as 0, too): the row of +inf or nan becomes nan by itself.

Without an option, the argument of the exponential is x - m, and here is its rounding error.
"""

from typing import NamedTuple

NEAR = 0.35**2  # v^2 below this: 1 - t has lost more than half a digit

# (tanh(v) / v - 1) / v^2 as a polynomial in v^2 for v^2 < NEAR, the lowest term first: a fit at Chebyshev nodes. The relative error of
# tanh(v) is 2e-9 in float32 and 4e-17 in float64.
EXCESS = {
    4: (-0.33333331918891826, 0.13332963273321602, -0.053815943251305249, 0.019837984119354489),
    8: (
        -0.33333333333333303, 0.13333333333301504, -0.053968253913581242, 0.021869484951957926, -0.0088631198427866858,
        0.0035900917605044886, -0.0014358164861327777, 0.00048549939897704623,
    ),
}  # fmt: skip


def rounding_error(x, m, t):
    """(x - m) - t, exactly, where t = x - m was rounded (TwoSum: Knuth, The Art of Computer Programming, volume 2, 4.2.2)."""
    b = t - x
    return (x - (t - b)) - (m + b)


def make_excess(compile, fma, coefficients):
    """tanh(v) / v - 1 as a function of v^2, from the numbers of `EXCESS` in the type of a backend."""

    def step(inner, coefficient):
        @compile
        def polynomial(z):
            return fma(inner(z), z, coefficient)

        return polynomial

    *lower, second, first = coefficients

    @compile
    def polynomial(z):
        return fma(z, first, second)

    for coefficient in reversed(lower):
        polynomial = step(polynomial, coefficient)
    inner = polynomial

    @compile
    def excess(z):
        return inner(z) * z

    return excess


class Formulas(NamedTuple):
    """The functions of ``make``, compiled for one backend."""

    capped: object
    slope: object


def make(compile, real, select, less, fma, absolute, copysign, exp, reciprocal, excess):
    """The formulas, for a backend's decorator ``compile`` and its ``real(number)`` for constants; numbers or vectors.

    ``exp(t)`` is for t <= 0, also for -inf, and may take nan for any number. ``reciprocal(b)`` is 1 / b for b in [1, 2], and ``excess(z)``
    is tanh(v) / v - 1 for z = v^2 < `NEAR`. ``copysign(size, x)`` has the sign of x. ``inverse`` is 1 / k.
    """
    one, four, near, infinite = real(1), real(4), real(NEAR), real(float("inf"))

    @compile
    def parts(x, scale, inverse):
        """``(a x, v, t, 1 / (1 + t))``."""
        y = x * scale
        v = y * inverse
        size = absolute(v)
        t = exp(-(size + size))
        return y, v, t, reciprocal(t + one)

    @compile
    def slope_of(scale, t, r):
        return (scale * four * r) * (t * r)

    @compile
    def capped(x, scale, cap, inverse):
        """``(u, slope)``."""
        y, v, t, r = parts(x, scale, inverse)
        z = v * v
        u = select(less(z, near), fma(y, excess(z), y), copysign(cap * ((one - t) * r), y))
        return select(less(absolute(x), infinite), u, x), slope_of(scale, t, r)

    @compile
    def slope(x, scale, inverse):
        """The slope alone."""
        _, _, t, r = parts(x, scale, inverse)
        return slope_of(scale, t, r)

    return Formulas(capped, slope)
