"""The cross entropy of contiguous rows and class numbers: losses, and with ``gradient`` their gradient."""

from numba import cuda

from nbloss.kernels.cuda.epilogue import index_at_target, index_factor, index_loss, options_reader
from nbloss.kernels.cuda.exp import EXP_OF_ROW
from nbloss.kernels.cuda.prims.api import get, integer, log1p, put
from nbloss.kernels.cuda.rows.reduce import make_probability, make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile
from nbloss.kernels.cuda.rows.thread_group import make_row_index, shared_size
from nbloss.kernels.cuda.sums import sum_by_last_block


def cross_entropy_rows(stored, width, group, vectors, resident, sm80, gradient, optioned, summed):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = gradient and resident and not tile.packed
    row_index, row_max = make_row_index(group), make_row_max(tile, group)
    row_sum = make_row_sum(tile, group, "exponentials" if keep else None)
    split_row, edge_value, has_vector, vector_index, make_opaque, unpack_vector, write_vector = tile.steps
    reference, exp_of_row, _, inverse = EXP_OF_ROW[tile.kind]
    owner_rank, probability = tile.owner_rank, make_probability(tile, keep)
    read_options = options_reader(optioned)
    zero, one = tile.real(0), tile.real(1)
    real_type, word_type, shared_numbers, words = tile.real_type, tile.word_type, shared_size(group, 3), tile.words

    def write_one_vector(v, chunk, x, base, count, rank, held, out, base_out, ref, factor):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            result = cuda.local.array(width, real_type)
            unpack_vector(x, held, v, result)
            for n in range(width):
                result[n] = probability(result[n], ref, factor)
            write_vector(out, base_out + j * width, result)

    write_row, write_zeros = tile.each_chunk(write_one_vector), tile.make_zeros()

    threads = group[1]

    def kernel(
        x, target, mask, scale, option, upstream, upstream_stride, loss, out, report, divides, blocks, total_loss,
        rows, classes, stride, offset,
    ):  # fmt: skip
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        options = read_options(option)
        row, rank = row_index()
        base, base_out = row * stride, row * classes
        head, count, edge = split_row(base + offset, classes, rank, row < rows)
        x_y = zero
        if row < rows and get(scale, row) != zero:
            x_y = get(x, base + (integer(target, row) & mask))  # read before anything is written: out may be x
        x_edge = edge_value(x, base, edge)
        m = row_max(x, base + head, count, x_edge, rank, held, shared)
        ref = reference(m)
        s, rest = row_sum(x, base + head, count, x_edge, m, ref, rank, held, shared)
        weight, coef, y = zero, zero, 0
        if row < rows:  # read again here, so that the registers of the sum are free of them
            weight = get(scale, row)
            y = integer(target, row) & mask
            if gradient and weight != zero:  # upstream is inf where the mean has no row to divide by
                coef = weight * get(upstream, row * upstream_stride)
        log_s = log1p(rest) if optioned else zero  # without options no other thread than the one below computes log1p
        if rank == 0 and row < rows:
            put(loss, row, index_loss(weight, log1p(rest), m - x_y, m, options) if weight != zero else zero)
        if gradient:
            of_p = index_factor(coef, log_s, m - x_y, m, options) if coef != zero else zero
            factor = of_p / s if coef != zero else zero
            count = make_opaque(held, count, offset)
            if coef == zero:  # the row may hold anything
                write_zeros(out, base_out + head, count, rank, held)
            else:
                write_row(x, base + head, count, rank, held, out, base_out + head, ref, factor)
            if edge >= 0:
                x_edge = edge_value(x, base, edge)
                put(out, base_out + edge, exp_of_row(x_edge, ref) * (factor * inverse(ref)) if coef != zero else zero)
            if coef != zero and rank == owner_rank(y, head, count):
                own, others = one, rest
                if x_y < m:
                    own = exp_of_row(x_y, ref) * inverse(ref)
                    others = s - own
                put(out, base_out + y, index_at_target(coef, of_p, others, own, s, log_s, m, options))
        if summed and rank < threads:  # of a cluster, the block that writes the loss
            sum_by_last_block(loss, rows, report, divides, blocks, total_loss)

    return kernel
