"""What the kernels of contiguous rows share: the maximum of a row, its sum of exponentials, its probabilities.

======  ====================================================================================================
symbol  meaning
======  ====================================================================================================
m       maximum of the row; it is nan if any logit is nan
s       sum of exp(x - m)
rest    s - 1: the sum without one of the terms of the maximum, which keeps its digits where s rounds to 1
ties    how many terms equal that of the maximum; they are counted, the other terms are added
======  ====================================================================================================

m - m is added to rest: it is nan where m is not finite, so that the whole row becomes nan, and 0 otherwise.
"""

from nbloss.kernels.cuda.exp import EXP_OF_ROW, LOG2E
from nbloss.kernels.cuda.prims.api import device, exp2
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce


def make_row_max(tile, group):
    """``row_max(x, base, count, edge, rank, held, shared)``: the maximum of the row. Its last chunk stays in ``held``."""
    (reduce, _), held_max = make_reduce(group, tile.maximum), tile.held_max

    def chunk_max(v, m, chunk, x, base, count, rank, held):
        return held_max(x, held, m)

    threads_max = tile.each_chunk(chunk_max, carried=1, load=True, calls=1)

    @device
    def row_max(x, base, count, edge, rank, held, shared):
        return reduce(threads_max(edge, x, base, count, rank, held), shared, 0)

    return row_max


def make_row_sum(tile, group, keep):
    """``row_sum(x, base, count, edge, m, row, rank, held, shared)``: (s, rest) of the row; ``row`` is its reference of ``EXP_OF_ROW``.

    ``keep`` says what replaces the logits x in ``held``: "exponentials" of EXP_OF_ROW, "differences" x - m, or None.
    """
    (_, exp_of_row, unit, inverse), zero, one = EXP_OF_ROW[tile.kind], tile.real(0), tile.real(1)
    words_per_vector, resident, unpack_word, has_vector = tile.words_per_vector, tile.resident, tile.unpack_word, tile.has_vector
    numbers_per_word = tile.width // tile.words_per_vector
    exponentials, differences = keep == "exponentials", keep == "differences"
    _, reduce_two = make_reduce(group, add)

    def add_vector(v, total, low, ties, chunk, x, base, count, rank, held, m, row, peak):
        if exponentials and not has_vector(chunk, v, count, rank):  # without this the compiler mixes the vectors, and spills registers
            return total, low, ties
        part = zero
        for k in range(words_per_vector):
            values = unpack_word(x, held[v * words_per_vector + k])
            for n in range(numbers_per_word):
                value = values[n]  # a loop over the tuple itself stays a loop on sm_100
                e = exp_of_row(value, row)
                if e < peak:
                    part += e
                else:
                    ties += one
                if exponentials:
                    held[v * words_per_vector + k] = e
                if differences:
                    held[v * words_per_vector + k] = value - m
        new_total = total + part
        if not resident:  # a long row has thousands of chunks: low collects the rounding errors of their sum
            low += part - (new_total - total)
        return new_total, low, ties

    add_row = tile.each_chunk(add_vector, carried=3)

    @device
    def row_sum(x, base, count, edge, m, row, rank, held, shared):
        total, ties, low = zero, zero, zero
        peak, e = unit(row), exp_of_row(edge, row)
        if e < peak:
            total = e
        else:
            ties = one
        total, low, ties = add_row(total, low, ties, x, base, count, rank, held, m, row, peak)
        total, ties = reduce_two(total + low, ties, shared, 1)
        rest = total * inverse(row) + (ties - one) + (m - m)
        return rest + one, rest

    return row_sum


def make_probability(tile, kept):
    """``probability(v, row, factor)``: factor exp(v - m), where v is a logit, or its exponential if ``kept``."""
    _, exp_of_row, _, inverse = EXP_OF_ROW[tile.kind]

    @device
    def of_exponential(e, row, factor):
        return e * (factor * inverse(row))

    @device
    def of_half_logit(v, m, factor):
        return exp2((v - m) * LOG2E) * factor  # as exact as a half type can store

    @device
    def of_logit(v, row, factor):
        return exp_of_row(v, row) * (factor * inverse(row))

    return of_exponential if kept else of_half_logit if tile.kind == "half" else of_logit
