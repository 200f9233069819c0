"""log_softmax and softmax of contiguous rows, and the gradient of log_softmax."""

from numba import cuda

from nbloss.kernels.cuda.exp import EXP, EXP_OF_ROW, EXP_SCALE
from nbloss.kernels.cuda.prims.api import log1p, put
from nbloss.kernels.cuda.rows.reduce import make_probability, make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce, make_row_index, shared_size


def log_softmax_rows(stored, width, group, vectors, resident, sm80, probabilities):
    """(x - m) - log s; with ``probabilities`` exp(x - m) / s."""
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = resident and not tile.packed
    row_index, row_max = make_row_index(group), make_row_max(tile, group)
    row_sum = make_row_sum(tile, group, None if not keep else "exponentials" if probabilities else "differences")
    split_row, edge_value, has_vector, vector_index, make_opaque, unpack_vector, write_vector = tile.steps
    zero, one, (reference, exp_of_row, _, inverse) = tile.real(0), tile.real(1), EXP_OF_ROW[tile.kind]
    probability = make_probability(tile, keep)
    real_type, word_type, shared_numbers, words = tile.real_type, tile.word_type, shared_size(group, 3), tile.words

    def write_one_vector(v, chunk, x, base, count, rank, held, out, base_out, ref, shift, term):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            result = cuda.local.array(width, real_type)
            unpack_vector(x, held, v, result)
            for n in range(width):
                result[n] = probability(result[n], ref, term) if probabilities else (result[n] - shift) - term
            write_vector(out, base_out + j * width, result)

    write_row = tile.each_chunk(write_one_vector)

    def kernel(x, out, rows, classes, stride, offset):
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        row, rank = row_index()
        base, base_out = row * stride, row * classes
        head, count, edge = split_row(base + offset, classes, rank, row < rows)
        x_edge = edge_value(x, base, edge)
        m = row_max(x, base + head, count, x_edge, rank, held, shared)
        ref = reference(m)
        s, rest = row_sum(x, base + head, count, x_edge, m, ref, rank, held, shared)
        term = one / s if probabilities else log1p(rest)
        shift = zero if keep else m
        count = make_opaque(held, count, offset)
        write_row(x, base + head, count, rank, held, out, base_out + head, ref, shift, term)
        if edge >= 0:
            put(out, base_out + edge, exp_of_row(x_edge, ref) * (term * inverse(ref)) if probabilities else (x_edge - m) - term)

    return kernel


def log_softmax_backward_rows(stored, width, group, vectors, resident, sm80):
    """g - exp(y) sum g."""
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    row_index, (reduce, _), exp = make_row_index(group), make_reduce(group, add), EXP[tile.kind]
    zero, inverse = tile.real(0), tile.real(1) / EXP_SCALE[tile.kind]
    split_row, edge_value, has_vector, vector_index, make_opaque, unpack_vector, write_vector = tile.steps
    load_vector, unpack_word = tile.load_vector, tile.unpack_word
    words_per_vector, numbers_per_word = tile.words_per_vector, width // tile.words_per_vector
    real_type, word_type, shared_numbers, words = tile.real_type, tile.word_type, shared_size(group, 1), tile.words

    def add_vector(v, total, low, chunk, g, base, count, rank, held):
        if has_vector(chunk, v, count, rank):
            result = cuda.local.array(width, real_type)
            unpack_vector(g, held, v, result)
            part = zero
            for n in range(width):
                part += result[n]
            new_total = total + part
            if not resident:
                low += part - (new_total - total)
            total = new_total
        return total, low

    def write_one_vector(v, chunk, g, base, count, rank, held, y, out, base_y, base_out, factor):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            result = cuda.local.array(width, real_type)
            unpack_vector(g, held, v, result)
            words_y = load_vector(y, base_y + j * width)
            for k in range(words_per_vector):
                values = unpack_word(y, words_y[k])
                for n in range(numbers_per_word):
                    result[k * numbers_per_word + n] -= exp(values[n]) * factor
            write_vector(out, base_out + j * width, result)

    add_row, write_row = tile.each_chunk(add_vector, carried=2, load=True), tile.each_chunk(write_one_vector)

    def kernel(g, y, out, rows, classes, stride, stride_y, offset):
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        row, rank = row_index()
        base, base_y, base_out = row * stride, row * stride_y, row * classes
        head, count, edge = split_row(base + offset, classes, rank, row < rows)
        g_edge = edge_value(g, base, edge) if edge >= 0 else zero
        y_edge = edge_value(y, base_y, edge)
        total, low = add_row(g_edge, zero, g, base + head, count, rank, held)
        factor = reduce(total + low, shared, 0) * inverse
        count = make_opaque(held, count, offset)
        write_row(g, base + head, count, rank, held, y, out, base_y + head, base_out + head, factor)
        if edge >= 0:
            put(out, base_out + edge, g_edge - exp(y_edge) * factor)

    return kernel
