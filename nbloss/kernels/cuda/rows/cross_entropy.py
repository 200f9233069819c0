"""The cross entropy of contiguous rows and class numbers: losses, and with ``gradient`` their gradient."""

from numba import cuda

from nbloss.kernels.cuda.epilogue import index_at_target, index_factor, index_loss, options_reader
from nbloss.kernels.cuda.exp import EXP_SCALE, EXP_SHIFTED
from nbloss.kernels.cuda.prims.api import get, integer, log1p, put
from nbloss.kernels.cuda.rows.reduce import make_probability, make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile
from nbloss.kernels.cuda.rows.thread_group import make_row_index, shared_size


def cross_entropy_rows(stored, width, group, vectors, resident, sm80, gradient, optioned):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = gradient and resident and not tile.packed
    row_index, row_max = make_row_index(group), make_row_max(tile, group)
    row_sum = make_row_sum(tile, group, "exponentials" if keep else None)
    split_row, edge_value, vector_index, make_opaque, unpack_vector, write_vector = tile.steps
    owner_rank, exp_shifted, probability = tile.owner_rank, EXP_SHIFTED[tile.kind], make_probability(tile, keep)
    read_options = options_reader(optioned)
    zero, one, inverse = tile.real(0), tile.real(1), tile.real(1) / EXP_SCALE[tile.kind]
    real_type, word_type, shared_numbers, words = tile.real_type, tile.word_type, shared_size(group, 3), tile.words

    def write_one_vector(v, chunk, x, count, rank, held, out, base_out, m, factor, is_zero):
        j = vector_index(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, real_type)
            unpack_vector(x, held, v, result)
            for n in range(width):
                result[n] = zero if is_zero else probability(result[n], m, factor)
            write_vector(out, base_out + j * width, result)

    write_row = tile.each_chunk(write_one_vector)

    def kernel(x, target, mask, scale, lse_square_scale, upstream, upstream_stride, loss, out, rows, classes, stride, offset):
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        options = read_options(lse_square_scale)
        row, rank = row_index()
        base, base_out = row * stride, row * classes
        head, count, edge = split_row(base + offset, classes, rank)
        weight, coef, y = zero, zero, 0
        if row < rows:
            weight = get(scale, row)
            y = integer(target, row) & mask
            if gradient and weight != zero:  # upstream is inf where the mean has no row to divide by
                coef = weight * get(upstream, row * upstream_stride)
        else:
            count, edge = 0, -1
        x_edge = edge_value(x, base, edge)
        x_y = get(x, base + y) if weight != zero else zero  # read before anything is written: out may be x
        m = row_max(x, base + head, count, x_edge, rank, held, shared)
        s, rest = row_sum(x, base + head, count, x_edge, m, rank, held, shared)
        log_s = log1p(rest) if optioned else zero  # without options no other thread than the one below computes log1p
        if rank == 0 and row < rows:
            put(loss, row, index_loss(weight, log1p(rest), m - x_y, m, options) if weight != zero else zero)
        if gradient:
            factor = index_factor(coef, log_s, m, options) / s if coef != zero else zero
            make_opaque(held, offset)
            write_row(x, base + head, count, rank, held, out, base_out + head, m, factor, coef == zero)
            if edge >= 0:
                put(out, base_out + edge, exp_shifted(x_edge, m) * (factor * inverse) if coef != zero else zero)
            if coef != zero and rank == owner_rank(y, head, count):
                own, others = one, rest
                if x_y < m:
                    own = exp_shifted(x_y, m) * inverse
                    others = s - own
                put(out, base_out + y, index_at_target(coef, others, own, s, log_s, m, options))

    return kernel
