"""Statistics of contiguous rows: log-sum-exp, log-probability, argmax, correct, entropy.

After the maximum and the sum a third step over the row finds the first maximum and adds exp(x - m) (m - x). A row that the registers of its
threads hold is read from memory once. m is nan if any logit is nan, and the first nan is then the argmax.
"""

from numba import cuda

from nbloss.kernels.cuda.compensated import add_compensated
from nbloss.kernels.cuda.exp import EXP_OF_ROW
from nbloss.kernels.cuda.prims.api import device
from nbloss.kernels.cuda.row_statistics import make_write_statistics
from nbloss.kernels.cuda.rows.reduce import make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce, make_row_index, shared_size

# An index is reduced in two parts, because float32 has 24 bits: ``index >> INDEX_BITS``, and the lower bits.
INDEX_BITS = 12
INDEX_MASK = (1 << INDEX_BITS) - 1


@device
def _smaller(a, b):
    return a if a < b else b


def cross_entropy_stats_rows(stored, width, group, vectors, resident, sm80, targeted):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    row_index, row_max, row_sum = make_row_index(group), make_row_max(tile, group), make_row_sum(tile, group, None)
    (reduce_sum, _), (reduce_first, _) = make_reduce(group, add), make_reduce(group, _smaller)
    split_row, edge_value, has_vector, vector_index, make_opaque, unpack_vector, _ = tile.steps
    reference, exp_of_row, _, inverse = EXP_OF_ROW[tile.kind]
    real, zero, real_type = tile.real, tile.real(0), tile.real_type
    word_type, shared_numbers, words = tile.word_type, shared_size(group, 6), tile.words
    write = make_write_statistics(targeted, real)

    @device
    def weighted_gap(v, m, ref):
        """exp(v - m) (m - v); 0 where the exponential is 0, even if v is -inf."""
        e = exp_of_row(v, ref)
        return e * (m - v) if e != zero else zero

    def add_vector(v, gaps, low, first, chunk, x, base, count, rank, held, head, m, ref):
        if has_vector(chunk, v, count, rank):
            j = head + vector_index(chunk, v, rank) * width
            logits, part = cuda.local.array(width, real_type), zero
            unpack_vector(x, held, v, logits)
            for n in range(width):
                value = logits[n]
                part += weighted_gap(value, m, ref)
                if (value == m or value != value) and j + n < first:
                    first = j + n
            if resident:
                gaps += part
            else:
                gaps, low = add_compensated(gaps, low, part)
        return gaps, low, first

    add_row = tile.each_chunk(add_vector, carried=3)

    def kernel(x, target, mask, scale, lse, log_prob, argmax, correct, entropy, rows, classes, stride, offset):
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        row, rank = row_index()
        base = row * stride
        head, count, edge = split_row(base + offset, classes, rank, row < rows)
        x_edge = edge_value(x, base, edge)
        m = row_max(x, base + head, count, x_edge, rank, held, shared)
        ref = reference(m)
        s, rest = row_sum(x, base + head, count, x_edge, m, ref, rank, held, shared)
        count = make_opaque(held, count, offset)
        first, gaps = classes, zero
        if edge >= 0:
            gaps = weighted_gap(x_edge, m, ref)
            if x_edge == m or x_edge != x_edge:
                first += edge - classes  # the type of ``classes``
        gaps, low, first = add_row(gaps, zero, first, x, base + head, count, rank, held, head, m, ref)
        gaps = reduce_sum(gaps + low, shared, 3)
        own_high, own_low = real(first >> INDEX_BITS), real(first & INDEX_MASK)
        high = reduce_first(own_high, shared, 4)
        index = reduce_first(own_low if own_high == high else real(INDEX_MASK + 1), shared, 5)
        if rank == 0 and row < rows:
            mean_gap, first = gaps * inverse(ref) / s, (int(high) << INDEX_BITS) + int(index)
            write(x, base, 1, row, target, mask, scale, m, rest, mean_gap, first, lse, log_prob, argmax, correct, entropy)

    return kernel
