"""The gradient of softmax of contiguous rows; ``log_softmax`` has softmax itself."""

from numba import cuda

from nbloss.kernels.cuda.compensated import add_product
from nbloss.kernels.cuda.prims.api import put
from nbloss.kernels.cuda.rows.row_tile import RowTile
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce, make_row_index, shared_size


def softmax_backward_rows(stored, width, group, vectors, resident, sm80):
    """y (g - sum g y)."""
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    row_index, (reduce, _) = make_row_index(group), make_reduce(group, add)
    zero = tile.real(0)
    split_row, edge_value, has_vector, vector_index, make_opaque, unpack_vector, write_vector = tile.steps
    load_vector, unpack_word = tile.load_vector, tile.unpack_word
    words_per_vector, numbers_per_word = tile.words_per_vector, width // tile.words_per_vector
    real_type, word_type, shared_numbers, words = tile.real_type, tile.word_type, shared_size(group, 1), tile.words

    def add_vector(v, total, low, chunk, g, base, count, rank, held, y, base_y):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            upstream = cuda.local.array(width, real_type)
            unpack_vector(g, held, v, upstream)
            words_y = load_vector(y, base_y + j * width)
            for k in range(words_per_vector):
                values = unpack_word(y, words_y[k])
                for n in range(numbers_per_word):
                    total, low = add_product(total, low, upstream[k * numbers_per_word + n], values[n])
        return total, low

    def write_one_vector(v, chunk, g, base, count, rank, held, y, out, base_y, base_out, total):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            result = cuda.local.array(width, real_type)
            unpack_vector(g, held, v, result)
            words_y = load_vector(y, base_y + j * width)
            for k in range(words_per_vector):
                values = unpack_word(y, words_y[k])
                for n in range(numbers_per_word):
                    result[k * numbers_per_word + n] = values[n] * (result[k * numbers_per_word + n] - total)
            write_vector(out, base_out + j * width, result)

    add_row, write_row = tile.each_chunk(add_vector, carried=2, load=True), tile.each_chunk(write_one_vector)

    def kernel(g, y, out, rows, classes, stride, stride_y, offset):
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        row, rank = row_index()
        base, base_y, base_out = row * stride, row * stride_y, row * classes
        head, count, edge = split_row(base + offset, classes, rank, row < rows)
        g_edge = edge_value(g, base, edge) if edge >= 0 else zero
        y_edge = edge_value(y, base_y, edge) if edge >= 0 else zero
        total, low = add_row(g_edge * y_edge, zero, g, base + head, count, rank, held, y, base_y + head)
        total = reduce(total + low, shared, 0)
        count = make_opaque(held, count, offset)
        write_row(g, base + head, count, rank, held, y, out, base_y + head, base_out + head, total)
        if edge >= 0:
            put(out, base_out + edge, y_edge * (g_edge - total))

    return kernel
