"""TODO"""

from numba import cuda

from nbloss.kernels.cuda.exp import EXP, EXP_SCALE
from nbloss.kernels.cuda.prims.api import log1p, put
from nbloss.kernels.cuda.rows.reduce import make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile, unrolled
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce, make_row_index, shared_size


def log_softmax_rows(stored, width, group, vectors, resident, sm80):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = resident and not tile.packed
    place, peak, total = make_row_index(group), make_row_max(tile, group), make_row_sum(tile, group, "gaps" if keep else None)
    split, edge_of, chunks, at, fill, renew, opened, write = tile.steps
    zero = tile.number(0)
    kind, word, numbers, words = tile.shared, tile.word, shared_size(group, 3), tile.held

    def write_vector(v, x, out, place_out, chunk, count, rank, held, m, log_s):
        j = at(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, kind)
            opened(x, held, v, result)
            for n in range(width):
                result[n] = (result[n] - m) - log_s
            write(out, place_out + j * width, result)

    write_vectors = unrolled(write_vector, vectors)

    def kernel(x, out, rows, classes, stride, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        row, rank = place()
        base, base_out = row * stride, row * classes
        head, count, edge = split(base + offset, classes, rank)
        if row >= rows:
            count, edge = 0, -1
        x_edge = edge_of(x, base, edge)
        m = peak(x, base + head, count, x_edge, rank, held, shared)
        _, rest = total(x, base + head, count, x_edge, m, rank, held, shared)
        log_s = log1p(rest)
        taken = zero if keep else m
        renew(held, offset)
        for chunk in range(chunks(count)):
            if not resident:
                fill(x, base + head, chunk, count, rank, held)
            write_vectors(x, out, base_out + head, chunk, count, rank, held, taken, log_s)
        if edge >= 0:
            put(out, base_out + edge, (x_edge - m) - log_s)

    return kernel


def log_softmax_backward_rows(stored, width, group, vectors, resident, sm80):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    place, fold, power = make_row_index(group), make_reduce(group, add), EXP[tile.kind]
    zero, inverse = tile.number(0), tile.number(1) / EXP_SCALE[tile.kind]
    split, edge_of, chunks, at, fill, renew, opened, write = tile.steps
    load, open_, per_vector, per_word = tile.load, tile.open, tile.per_vector, width // tile.per_vector
    kind, word, numbers, words = tile.shared, tile.word, shared_size(group, 1), tile.held

    def add_vector(v, sums, lost, g, chunk, count, rank, held):
        if at(chunk, v, rank) < count:
            result = cuda.local.array(width, kind)
            opened(g, held, v, result)
            part = zero
            for n in range(width):
                part += result[n]
            grown = sums + part
            if not resident:
                lost += part - (grown - sums)
            sums = grown
        return sums, lost

    def write_vector(v, g, y, out, place_y, place_out, chunk, count, rank, held, factor):
        j = at(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, kind)
            opened(g, held, v, result)
            words_y = load(y, place_y + j * width)
            for k in range(per_vector):
                values = open_(y, words_y[k])
                for n in range(per_word):
                    result[k * per_word + n] -= power(values[n]) * factor
            write(out, place_out + j * width, result)

    add_vectors, write_vectors = unrolled(add_vector, vectors, carried=2), unrolled(write_vector, vectors)

    def kernel(g, y, out, rows, classes, stride, stride_y, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        row, rank = place()
        base, base_y, base_out = row * stride, row * stride_y, row * classes
        head, count, edge = split(base + offset, classes, rank)
        if row >= rows:
            count, edge = 0, -1
        g_edge = edge_of(g, base, edge) if edge >= 0 else zero
        y_edge = edge_of(y, base_y, edge)
        sums, lost = g_edge, zero
        for chunk in range(chunks(count)):
            fill(g, base + head, chunk, count, rank, held)
            sums, lost = add_vectors(sums, lost, g, chunk, count, rank, held)
        factor = fold(sums + lost, shared, 0) * inverse
        renew(held, offset)
        for chunk in range(chunks(count)):
            if not resident:
                fill(g, base + head, chunk, count, rank, held)
            write_vectors(g, y, out, base_y + head, base_out + head, chunk, count, rank, held, factor)
        if edge >= 0:
            put(out, base_out + edge, g_edge - power(y_edge) * factor)

    return kernel
