"""TODO"""

from numba import cuda

from nbloss.kernels.cuda.exp import EXP_SCALE, EXP_SHIFTED
from nbloss.kernels.cuda.prims.api import get, integer, log1p, put
from nbloss.kernels.cuda.rows.reduce import grad_at_target, index_loss, make_probability, make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile, unrolled
from nbloss.kernels.cuda.rows.thread_group import make_row_index, shared_size


def cross_entropy_rows(stored, width, group, vectors, resident, sm80, gradient):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = gradient and resident and not tile.packed
    place, peak, total = make_row_index(group), make_row_max(tile, group), make_row_sum(tile, group, "powers" if keep else None)
    split, edge_of, chunks, at, fill, renew, opened, write = tile.steps
    owner, gap, share = tile.owner, EXP_SHIFTED[tile.kind], make_probability(tile, keep)
    zero, inverse = tile.number(0), tile.number(1) / EXP_SCALE[tile.kind]
    kind, word, numbers, words = tile.shared, tile.word, shared_size(group, 3), tile.held

    def write_vector(v, x, out, place_out, chunk, count, rank, held, m, factor, nothing):
        j = at(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, kind)
            opened(x, held, v, result)
            for n in range(width):
                result[n] = zero if nothing else share(result[n], m, factor)
            write(out, place_out + j * width, result)

    write_vectors = unrolled(write_vector, vectors)

    def kernel(x, target, mask, scale, upstream, step, loss, out, rows, classes, stride, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        row, rank = place()
        base, base_out = row * stride, row * classes
        head, count, edge = split(base + offset, classes, rank)
        hit, coef, y = zero, zero, 0
        if row < rows:
            hit = get(scale, row)
            y = integer(target, row) & mask
            if gradient and hit != zero:  # where no row counts, upstream is inf
                coef = hit * get(upstream, row * step)
        else:
            count, edge = 0, -1
        x_edge = edge_of(x, base, edge)
        x_y = get(x, base + y) if hit != zero else zero  # before anything is written: out may be x
        m = peak(x, base + head, count, x_edge, rank, held, shared)
        s, rest = total(x, base + head, count, x_edge, m, rank, held, shared)
        if rank == 0 and row < rows:
            put(loss, row, index_loss(hit, log1p(rest), m - x_y) if hit != zero else zero)
        if gradient:
            factor = coef / s if coef != zero else zero
            renew(held, offset)
            for chunk in range(chunks(count)):
                if not resident:
                    fill(x, base + head, chunk, count, rank, held)
                write_vectors(x, out, base_out + head, chunk, count, rank, held, m, factor, coef == zero)
            if edge >= 0:
                put(out, base_out + edge, gap(x_edge, m) * (factor * inverse) if coef != zero else zero)
            if coef != zero and rank == owner(y, head, count):
                others = s - gap(x_y, m) * inverse if x_y < m else rest
                put(out, base_out + y, grad_at_target(coef, others, s))

    return kernel
