"""Counts and sums over the rows of an evaluation. The sums are compensated: they keep about twice the digits of float64."""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, put
from nbloss.kernels.cpu.simd.pointers import max_int, min_int, pointer


@njit(**INLINE)
def _rounding(high, value, total):
    """The rounding error of total = high + value (D. E. Knuth, The Art of Computer Programming, volume 2, section 4.2.2)."""
    part = total - high
    return (high - (total - part)) + (value - part)


@njit(**INLINE)
def _count(base, k, flag):
    """Add 1 where the flag is true, without a branch, whose outcome a processor could not predict."""
    put(base, k, get(base, k) + np.int64(flag))


def tally(log_prob, entropy, rank, confidence, is_argmax, top_k, bins, counts, totals, group, lo, hi):
    """Fill the counts and the totals of each ``group`` of rows with what ``kernel_set.tally`` adds; lo is a multiple of ``group``."""
    log_probs, entropies, confidences = pointer(log_prob, 0), pointer(entropy, 0), pointer(confidence, 0)
    ranks, leads, tops = pointer(rank, 0), pointer(is_argmax, 0), pointer(top_k, 0)
    kinds = top_k.size
    for start in range(lo, hi, group):
        number = start // group
        count = pointer(counts, number * (1 + kinds + 2 * bins))
        high, low = pointer(totals, 2 * number * (2 + bins)), pointer(totals, (2 * number + 1) * (2 + bins))
        loss = loss_low = disorder = disorder_low = 0.0
        for p in range(start, min_int(hi, start + group)):
            place = get(ranks, p)
            if place < 0:
                continue
            _count(count, 0, True)
            value = -np.float64(get(log_probs, p))
            total = loss + value
            loss_low += _rounding(loss, value, total)
            loss = total
            value = np.float64(get(entropies, p))
            total = disorder + value
            disorder_low += _rounding(disorder, value, total)
            disorder = total
            for k in range(kinds):
                _count(count, 1 + k, place < get(tops, k))
            value = np.float64(get(confidences, p))
            if value != value:
                continue
            scaled = value * bins
            b = np.int64(scaled)
            b = max_int(min_int(b - np.int64(b == scaled), bins - 1), 0)  # no number may lead out of the table
            _count(count, 1 + kinds + b, True)
            _count(count, 1 + kinds + bins + b, get(leads, p) != 0)
            total = get(high, 2 + b) + value
            put(low, 2 + b, get(low, 2 + b) + _rounding(get(high, 2 + b), value, total))
            put(high, 2 + b, total)
        put(high, 0, loss)
        put(low, 0, loss_low)
        put(high, 1, disorder)
        put(low, 1, disorder_low)
