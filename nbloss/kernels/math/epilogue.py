"""The row epilogue: from what the reductions found in a row to its loss and to the coefficients of its gradient.

This is the one place of every row option's formula. The CPU's kernels, the CUDA kernels and the NumPy reference all call these functions:
each backend compiles them with its own decorator (``make``). A new option is a field of `RowOptions`, and a term in the functions below.
Options of single logits are fields, too, so that they travel with the others; their formulas are in ``logit_map``.

==========  ====================================================================================================
symbol      meaning, for one row
==========  ====================================================================================================
m           ``top``: the maximum of the logits x
s           sum of exp(x - m); ``rest`` = s - 1, without one of the maximum's own terms; log s = log1p(rest)
L           m + log s, the log-sum-exp
p           softmax: exp(x - m) / s
H           weight of the row: class numbers ``scale`` (times the upstream gradient: ``coef``), otherwise M
q, M        target distribution, and its sum over the classes
D           what the options add to H where it multiplies p:  2 lam L H
others      sum of exp(x - m) over all classes but the target
l, r        -log p and 1 - p of the target of a class number; ``gap`` = m - x[y]
A, B        what the second derivatives have of a row:  A = H + D,  B = 2 lam H
v, P        the array of a Hessian-vector product, and sum p v; P = ref + mean, for any number ``ref``:  mean = sum p (v - ref)
f, f'       what ``gamma`` makes of l, and its derivative:  f = r^gamma l,  f' = r^gamma (1 + gamma p l / r)
==========  ====================================================================================================

The loss is H (log s + lam L^2) + sum q (m - x), and the gradient is (H + D) p - q. lam is ``lse_square_scale``, the name that
FlashAttention and Liger Kernel gave it; the literature says z-loss. Where p - 1 would cancel, it is written with the other terms: 1 - p is
others / s at the target, and rest / s at the maximum.

With ``gamma`` the loss of a class number is H f(l), and f'(l) multiplies the gradient: the focal loss of Lin et al. (2017). All of it
follows from l, which keeps its digits in a confident row: r = 1 - exp(-l). l / r is 1 at r = 0, and p l is 0 where l is inf.

The second derivatives depend on the targets through H alone: the Hessian times v is p (A (v - P) + B P), and the Hessian's diagonal is
p (A (1 - p) + B p). v - P is written (v - ref) - mean. In a confident row, ``ref`` is v at the maximum: v and P would cancel there. In
other rows it is 0: the rounding of v and of the terms p v is then all that v - P loses, which is what rounding v itself does.

``options`` is None where a call has none, and so is each of its fields that the call does not have. Numba then removes every branch that
reads it, so such calls run the same machine code as before the option existed. No call has ``lse_square_scale`` and ``gamma``.
"""

from typing import NamedTuple

import numpy as np

CONFIDENT = 2.0  # s below this: one class has more than half of the probability


class RowOptions(NamedTuple):
    """The options that act on a whole row, or on its logits; None where a call does not have one. A softcap has a scale beside it."""

    lse_square_scale: float | None = None  # lam
    gamma: float | None = None
    softcap: float | None = None  # k
    logit_scale: float | None = None  # a

    @property
    def maps(self):
        """Whether the options change logits."""
        return self.logit_scale is not None

    @property
    def of_rows(self):
        """The options without those that change logits; None if there are no others."""
        rest = self._replace(softcap=None, logit_scale=None)
        return None if rest == RowOptions() else rest


LARGEST_GAMMA = 1e30  # a larger one changes no result, and may be inf in float32


def row_options(lse_square_scale=0.0, gamma=0.0, softcap=None, logit_scale=1.0):
    """`RowOptions`; None for neutral values: the kernels then run without the code of the options."""
    maps = softcap is not None or logit_scale != 1.0
    if not (lse_square_scale or gamma or maps):
        return None
    return RowOptions(lse_square_scale or None, min(gamma, LARGEST_GAMMA) or None, softcap, logit_scale if maps else None)


def typed(options, dtype):
    """Options in a type of the arithmetic; None for None.

    A scale and a cap beyond the type are its smallest or largest normal number, or about that, so that their ratio is finite.
    """
    if options is None:
        return None
    least = 8 * float(np.finfo(dtype).tiny)
    lam, gamma, cap, scale = options
    if scale is not None:
        scale = min(max(scale, least), 1 / least)
        cap = None if cap is None else min(max(cap, least, least * scale), 1 / least)
    return RowOptions(*(None if number is None else dtype.type(number) for number in (lam, gamma, cap, scale)))


class Formulas(NamedTuple):
    """The functions of ``make``, compiled for one backend."""

    index_loss: object
    index_factor: object
    index_at_target: object
    soft_loss: object
    soft_factors: object
    soft_gradient: object
    soft_elsewhere: object
    smoothed_at_target: object
    smoothed_loss: object
    log_sum_exp: object
    log_prob_of_target: object
    entropy_of_row: object
    curvature: object
    lift: object
    hessian_product: object
    hessian_diagonal: object


def make(compile, apart, select, equal, exp, one_minus_exp, power):
    """The formulas, for a backend's decorator ``compile``, its ``select(mask, a, b)`` and its ``equal(a, b)``; numbers or vectors.

    ``apart`` is the decorator of what should not be repeated in its callers: it would take their registers.
    ``exp(t)`` is for t <= 0, ``one_minus_exp(l)`` is 1 - exp(-l) for l >= 0 to full precision, and ``power(r, gamma)`` is r^gamma for r in
    [0, 1] and gamma > 0. Each of them passes nan on.
    """

    @compile
    def log_sum_exp(log_s, top):
        """L."""
        return top + log_s

    @compile
    def with_penalty(loss, weight, log_s, top, lam):
        """The loss and H lam L^2."""
        if lam is None:
            return loss
        lse = log_sum_exp(log_s, top)
        return loss + weight * (lam * lse * lse)

    @compile
    def slope(weight, log_s, top, lam):
        """D = 2 lam L H. A number of its own: as the difference of H + D and H it would be lost for a small lam."""
        twice = lam + lam  # a literal 2.0 would be float64 on CUDA
        return weight * (twice * log_sum_exp(log_s, top))

    @compile
    def with_slope(coef, log_s, top, lam):
        """H + D."""
        if lam is None:
            return coef
        return coef + slope(coef, log_s, top, lam)

    @apart
    def focus(of_target, gamma):
        """f(l)."""
        return power(one_minus_exp(of_target), gamma) * of_target

    @apart
    def focus_slope(of_target, gamma):
        """f'(l)."""
        p, r = exp(-of_target), one_minus_exp(of_target)
        ratio = of_target / select(equal(r, r - r), p, r)  # at r = 0 any number will do: it is multiplied by 0
        weight = power(r, gamma)
        return weight + weight * (gamma * (p * select(equal(p, p - p), p, ratio)))

    @compile
    def focused_loss(of_target, gamma):
        if gamma is None:
            return of_target
        return focus(of_target, gamma)

    @compile
    def focused_weight(coef, of_target, gamma):
        """H f'."""
        if gamma is None:
            return coef
        return coef * focus_slope(of_target, gamma)

    # ------------------------------ class numbers ------------------------------

    @compile
    def index_loss(scale, log_s, gap, top, options):
        """-scale log p[y], where gap = m - x[y]: the gap is taken first, so that a large common offset costs no digits."""
        if options is None:
            return scale * (log_s + gap)
        return with_penalty(scale * focused_loss(log_s + gap, options.gamma), scale, log_s, top, options.lse_square_scale)

    @compile
    def index_factor(coef, log_s, gap, top, options):
        """H f' + D, what p is multiplied by."""
        if options is None:
            return coef
        return with_slope(focused_weight(coef, log_s + gap, options.gamma), log_s, top, options.lse_square_scale)

    @compile
    def with_slope_at_target(coef, factor, others, own, s, log_s, top, lam):
        if lam is None:
            return -factor * (others / s)
        return slope(coef, log_s, top, lam) * (own / s) - coef * (others / s)

    @compile
    def index_at_target(coef, factor, others, own, s, log_s, top, options):
        """D p - H f' (1 - p) at the target, where own = exp(x[y] - m), and ``factor`` is that of ``index_factor``."""
        if options is None:
            return -coef * (others / s)
        return with_slope_at_target(coef, factor, others, own, s, log_s, top, options.lse_square_scale)

    # ------------------------------ soft targets ------------------------------

    @compile
    def soft_loss(total, log_s, gaps, top, options):
        """-sum q log p, where total = M and gaps = sum q (m - x)."""
        loss = total * log_s + gaps
        if options is None:
            return loss
        return with_penalty(loss, total, log_s, top, options.lse_square_scale)

    @compile
    def with_slope_in_factors(total, rest, s, log_s, top, lam):
        if lam is None:
            return total / s, total * (rest / s)
        more = slope(total, log_s, top, lam)
        return (total + more) / s, total * (rest / s) - more / s

    @compile
    def soft_factors(total, rest, s, log_s, top, options):
        """``(factor, away)``: (M + D) / s, and M (1 - p) - D p at the maximum."""
        if options is None:
            return total / s, total * (rest / s)
        return with_slope_in_factors(total, rest, s, log_s, top, options.lse_square_scale)

    @compile
    def soft_elsewhere(e, q, factor):
        """(M + D) p - q, where e is the class's exponential."""
        return e * factor - q

    @compile
    def soft_gradient(e, q, total, factor, away, peak):
        """The same for any class of a row: at ``peak``, a confident row's maximum, (M - q) - away keeps the digits."""
        return select(equal(e, peak), (total - q) - away, soft_elsewhere(e, q, factor))

    @compile
    def smoothed_at_target(e, own, hit, spread, factor, away, at_peak):
        """The same at the target of a smoothed class number, whose q is ``own`` + ``hit``; ``spread`` is M without ``hit``."""
        return select(at_peak, (spread - own) - away, soft_elsewhere(e, own, factor) - hit)

    @compile
    def smoothed_loss(hit, share, spread, log_s, gap, gaps, top, options):
        """-sum q log p of a smoothed class number: q = share w, plus ``hit`` at the target; ``spread`` = share sum w.

        gap = m - x[y], and gaps = sum w (m - x). Instead of m, any number will do, if log s is relative to it, too.
        """
        of_target = select(equal(hit, hit - hit), hit, hit * gap)  # 0 for a weight of 0, even if the gap is inf
        return soft_loss(hit + spread, log_s, of_target + share * gaps, top, options)

    # ------------------------------ statistics ------------------------------

    @compile
    def log_prob_of_target(log_s, gap):
        """log p[y], where gap = m - x[y]: the loss of weight 1, negated; +0 where the loss is 0."""
        return (log_s - log_s) - (log_s + gap)  # a literal 0.0 would be float64 on CUDA

    @compile
    def entropy_of_row(log_s, mean_gap):
        """-sum p log p, where mean_gap = sum p (m - x): both terms are at least 0, so a confident row keeps its digits."""
        return log_s + mean_gap

    # ------------------------------ second derivatives ------------------------------

    @compile
    def curvature(coef, log_s, top, options):
        """A."""
        if options is None:
            return coef
        return with_slope(coef, log_s, top, options.lse_square_scale)

    @compile
    def lift(coef, mean, options):
        """B P, where mean = P; with 1 instead of P, B. Not used without options."""
        if options is None:
            return coef
        twice = options.lse_square_scale + options.lse_square_scale
        return coef * twice * mean

    @compile
    def hessian_product(e, moved, factor, more, options):
        """p (A (v - P) + B P) of a class, where e is its exponential, moved = v - P, factor = A / s and more = B P / s."""
        if options is None:
            return e * (moved * factor)
        return e * (moved * factor + more)

    @compile
    def hessian_diagonal(p, away, a, b, options):
        """p (A (1 - p) + B p) of a class, where away = 1 - p."""
        if options is None:
            return p * (a * away)
        return p * (a * away + b * p)

    return Formulas(
        index_loss,
        index_factor,
        index_at_target,
        soft_loss,
        soft_factors,
        soft_gradient,
        soft_elsewhere,
        smoothed_at_target,
        smoothed_loss,
        log_sum_exp,
        log_prob_of_target,
        entropy_of_row,
        curvature,
        lift,
        hessian_product,
        hessian_diagonal,
    )
