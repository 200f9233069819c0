"""What the kernels of contiguous rows have in common: a row's maximum, its sum, its probabilities.

The maximum keeps nan. ``rest``, the sum without one of the maximum's own terms, is what ``rowmath`` asks for: terms below the maximum and
maxima are summed apart. A row whose maximum is no finite number becomes nan as a whole: m - m is nan then, and 0 otherwise.
"""

from nbloss.kernels.cuda.exp import EXP_SCALE, EXP_SHIFTED, LOG2E
from nbloss.kernels.cuda.prims.api import device, exp2
from nbloss.kernels.cuda.rows.row_tile import unrolled
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce
from nbloss.kernels.math import rowmath

index_loss = device(rowmath.loss)

grad_at_target = device(rowmath.pull)

soft_loss = device(rowmath.mass_loss)


def make_row_max(tile, group):
    """``peak(x, base, count, edge, rank, held, shared)``: the row's maximum. The last chunk stays held."""
    fold, chunks, fill, top = make_reduce(group, tile.maximum), tile.chunks, tile.fill, tile.top

    @device
    def peak(x, base, count, edge, rank, held, shared):
        m = edge
        for chunk in range(chunks(count)):
            fill(x, base, chunk, count, rank, held)
            m = top(x, held, m)
        return fold(m, shared, 0)

    return peak


def make_row_sum(tile, group, keep):
    """``total(x, base, count, edge, m, rank, held, shared)``: (s, rest) of the row.

    ``keep`` says what takes the place of the logits x that are held: their "powers" exp(x - m), their "gaps" x - m, or None.
    """
    gap, unit, zero, one = EXP_SHIFTED[tile.kind], EXP_SCALE[tile.kind], tile.number(0), tile.number(1)
    inverse = one / unit
    chunks, fill, open_ = tile.chunks, tile.fill, tile.open
    per_vector, resident = tile.per_vector, tile.resident
    powers, gaps = keep == "powers", keep == "gaps"
    fold = make_reduce(group, add)

    def add_vector(v, below, lost, ties, x, m, held):
        part = zero
        for k in range(per_vector):
            for value in open_(x, held[v * per_vector + k]):
                e = gap(value, m)
                if e < unit:
                    part += e
                else:
                    ties += one
                if powers:
                    held[v * per_vector + k] = e
                if gaps:
                    held[v * per_vector + k] = value - m
        grown = below + part
        if not resident:  # thousands of chunks: what each addition loses is kept
            lost += part - (grown - below)
        return grown, lost, ties

    add_vectors = unrolled(add_vector, tile.vectors, carried=3)

    @device
    def total(x, base, count, edge, m, rank, held, shared):
        below, ties, lost = zero, zero, zero
        e = gap(edge, m)
        if e < unit:
            below = e
        else:
            ties = one
        for chunk in range(chunks(count)):
            if not resident:
                fill(x, base, chunk, count, rank, held)
            below, lost, ties = add_vectors(below, lost, ties, x, m, held)
        rest = fold(below + lost, shared, 1) * inverse + (fold(ties, shared, 2) - one) + (m - m)
        return rest + one, rest

    return total


def make_probability(tile, kept):
    """``share(v, m, factor)``: factor exp(v - m), where v is a logit, or its exponential if that was kept."""
    gap, inverse = EXP_SHIFTED[tile.kind], tile.number(1) / EXP_SCALE[tile.kind]

    @device
    def of_kept(e, m, factor):
        return e * (factor * inverse)

    @device
    def of_half(v, m, factor):
        return exp2((v - m) * LOG2E) * factor  # to the digits that a half type has

    @device
    def of_logit(v, m, factor):
        return gap(v, m) * (factor * inverse)

    return of_kept if kept else of_half if tile.kind == "half" else of_logit
