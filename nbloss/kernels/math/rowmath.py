"""The formulas of a softmax row, one line each, for numbers and for vectors of rows, on the CPU and on the GPU.

A row is three numbers: its maximum m, the sum s of exp(x - m), and ``rest`` = s - 1, the sum without (one of) the maximum's own
term, which keeps its digits where s has rounded to 1. log s = log1p(rest).
"""

from math import nan


def loss(scale, log_s, gap):
    """scale * -log p[y], where gap = m - x[y] >= 0: the gap is taken first, so a large common offset costs nothing."""
    return scale * (log_s + gap)


def pull(coef, others, s):
    """d loss / d x[y] = -coef * (1 - p[y]), written with the sum of the *other* terms: p - 1 would lose a confident row's digits."""
    return -coef * (others / s)


def mass_loss(mass, log_s, spread):
    """-sum_c q[c] log p[c] for target masses q: mass = sum q, spread = sum_c q[c] (m - x[c])."""
    return mass * log_s + spread


def mean(total, weights):
    """total / weights; nan over no weight, whatever the total: inf would hand its rows gradients whose signs are chance."""
    return total / weights if weights != 0.0 else nan
