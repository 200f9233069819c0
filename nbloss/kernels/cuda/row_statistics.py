"""The results of `cross_entropy_stats` for one row, from what the kernels found in it."""

from nbloss.kernels.cuda.epilogue import entropy_of_row, log_prob_of_target, log_sum_exp
from nbloss.kernels.cuda.prims.api import device, get, integer, log1p, put, put_integer


def make_write_statistics(targeted, real):
    """``write(x, base, inner, p, target, mask, scale, m, rest, mean_gap, first, lse, log_prob, argmax, correct, entropy)``.

    The classes of row p are at base + c inner of x. ``rest`` = s - 1, ``mean_gap`` = sum p (m - x), and ``first`` is the argmax. Without
    ``targeted`` every row counts, and target, scale, log_prob and correct are not used.
    """
    zero = real(0)

    @device
    def write(x, base, inner, p, target, mask, scale, m, rest, mean_gap, first, lse, log_prob, argmax, correct, entropy):
        counts = True
        if targeted:
            counts = get(scale, p) != zero
        log_s = log1p(rest)
        put(lse, p, log_sum_exp(log_s, m) if counts else zero)
        put(entropy, p, entropy_of_row(log_s, mean_gap) if counts else zero)
        put_integer(argmax, p, first if counts else -1)
        if targeted:
            x_y = get(x, base + (integer(target, p) & mask) * inner) if counts else zero
            put(log_prob, p, log_prob_of_target(log_s, m - x_y) if counts else zero)
            put_integer(correct, p, 1 if counts and x_y == m else 0)

    return write
