"""The Kullback-Leibler divergence of one row: from a teacher's and a student's logits to the loss and its gradient.

As in ``epilogue``, each backend compiles these functions with its own decorator (``make``). The symbols, for one row:

==========  ====================================================================================================
symbol      meaning
==========  ====================================================================================================
x, t        logits of the student and of the teacher
beta        1 / temperature
q, p        softmax(beta t), softmax(beta x)
e           exp(beta (t - max t)), the numerators of q; their sum is s
z           beta (x - t) - k, where the number k is nearly the q-mean of beta (x - t)
phi(z)      exp(z) - 1 - z, which is at least 0: ``remainder``
B           ``excess``: sum q phi(z)
r           ``shift``: sum q z, about the rounding error of k
A           ``total``: B + r = sum q (exp(z) - 1), so p = q exp(z) / (1 + A)
==========  ====================================================================================================

KL(q || p) = sum q log(q / p) = log(1 + A) - r = B - phi(log(1 + A)). All terms of B are at least 0, so that a student near its teacher
keeps its digits: sum q (log q - log p) is the small difference of large terms there. The gradient with respect to beta x is
p - q = q ((exp(z) - 1) - A) / (1 + A), which loses no digits either.

Where z is outside of `LIMITS`, exp(z) has no accurate phi or overflows, and q or p may be 0. There q exp(z) is taken from the student's
own exponential, ``other`` = exp(beta (x - max t) - k). A row whose largest ``other`` exceeds `MOST`, or that gives a class of the
teacher no probability, has a large divergence, for which the difference of logarithms is accurate.
"""

from typing import NamedTuple

# Item size of the arithmetic -> (low, high): exp(z) is a normal number, and what is lost where e underflows to 0 is less than exp(-55).
LIMITS = {4: (-80.0, 32.0), 8: (-600.0, 300.0)}

MOST = 40.0  # a bound of the logarithm of ``other``

NEAR = 0.5  # total below this: the loss is the excess, less a small part of it

LN2 = 0.6931471805599453


class Formulas(NamedTuple):
    """The functions of ``make``, compiled for one backend."""

    terms: object
    safe_terms: object
    large_shift: object
    large_moved: object
    divergence: object
    factor: object
    gradient: object


def make(compile, select, less, equal, fma, remainder):
    """The formulas, for a backend's decorator ``compile`` and its ``select(mask, a, b)``, comparisons, ``fma`` and ``remainder(z)``."""

    @compile
    def terms(e, z):
        """``(e phi(z), e (exp(z) - 1))``: divided by s, their sums are B and A. The second is kept for the gradient."""
        near = e * remainder(z)
        return near, fma(e, z, near)

    @compile
    def safe_terms(e, z, other, low, high):
        """``(z, *terms)`` of any class of a row, the same bits between ``low`` and ``high``; z may be infinite or nan where e is 0."""
        nothing = e - e
        near, moved = terms(e, select(less(low, z), select(less(z, high), z, nothing), nothing))
        finite = select(equal(e, nothing), nothing, z)
        far = select(less(z, low), -e, other - e)
        moved = select(less(low, z), select(less(z, high), moved, far), far)
        beyond = far - e * finite
        return finite, select(less(low, z), select(less(z, high), near, beyond), beyond), moved

    @compile
    def large_shift(most, log_own, log_s, log_two):
        """The shift of a row with a large divergence, whose excess is set to 0 and whose total to 1.

        ``most`` is the logarithm of its largest ``other``, and ``own`` the sum of the student's exponentials, whose largest is 1.
        """
        return log_two - (most + (log_own - log_s))

    @compile
    def large_moved(e, other, ratio):
        """What stands for e (exp(z) - 1) in such a row, whose own exponentials are ``other``, where ratio = 2 s / own."""
        return other * ratio - e

    @compile
    def divergence(excess, shift, total, log_total, near):
        """The divergence, where log_total = log(1 + total) and ``near`` is `NEAR`; rounding errors make no loss negative."""
        value = select(less(total, near), excess - remainder(log_total), log_total - shift)
        nothing = near - near
        return select(less(value, nothing), nothing, value)

    @compile
    def factor(g, beta, s, total):
        """What the gradients of a row have in common, for an upstream gradient g."""
        return (g / beta) / (s + s * total)

    @compile
    def gradient(e, moved, total, factor):
        """The gradient of a class, where moved = e (exp(z) - 1)."""
        return fma(e, -total, moved) * factor

    return Formulas(terms, safe_terms, large_shift, large_moved, divergence, factor, gradient)
