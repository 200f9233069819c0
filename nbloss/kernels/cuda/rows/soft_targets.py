"""The cross entropy of contiguous rows against masses on every class: smoothed class numbers, or probabilities."""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.exp import EXP_SCALE, EXP_SHIFTED
from nbloss.kernels.cuda.prims.api import device, get, integer, log1p, put, vector
from nbloss.kernels.cuda.rows.reduce import index_loss, make_row_max, make_row_sum, soft_loss
from nbloss.kernels.cuda.rows.row_tile import RowTile, unrolled
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce, make_row_index, shared_size

CONFIDENT = 2


def make_soft_target(tile, soft):
    """``(weigh, mass)``: masses w (a y + b), or w b without ``soft``, of a vector of classes, in a local array, and of one class."""
    width = tile.width
    size = min(width, 2 if tile.number is np.float64 else 4)  # a vector of probabilities: theirs may be wider than the logits

    @device
    def probability_target(w, y, base, c, a, b):
        return get(w, c) * (a * get(y, base + c) + b)

    @device
    def smoothing_target(w, y, base, c, a, b):
        return get(w, c) * b

    @device
    def weigh_vectors(w, y, base, c, a, b, q):
        for start in range(0, width, size):
            words = vector(y, base + c + start)
            for n in range(size):
                q[start + n] = get(w, c + start + n) * (a * words[n] + b)

    mass = probability_target if soft else smoothing_target

    @device
    def weigh_numbers(w, y, base, c, a, b, q):
        for n in range(width):
            q[n] = mass(w, y, base, c + n, a, b)

    return weigh_vectors if soft and width > 1 else weigh_numbers, mass


def soft_target_rows(stored, width, group, vectors, resident, sm80, gradient, soft):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = gradient and resident and not tile.packed
    place, peak, total = make_row_index(group), make_row_max(tile, group), make_row_sum(tile, group, "powers" if keep else None)
    split, edge_of, chunks, at, fill, renew, opened, write = tile.steps
    weigh, mass_of = make_soft_target(tile, soft)
    fold = make_reduce(group, add)
    owner, gap, unit, number = tile.owner, EXP_SHIFTED[tile.kind], EXP_SCALE[tile.kind], tile.number
    zero, inverse, confident = number(0), number(1) / unit, number(CONFIDENT)
    kind, word, numbers, words = tile.shared, tile.word, shared_size(group, 5), tile.held

    @device
    def spread_of(q, v, m):
        """q (m - v); a class without mass adds 0 even at -inf."""
        return q * (m - v) if q != zero else zero

    @device
    def pulled(e, q, total_mass, factor, away, top):
        """total p - q; at the maximum of a confident row (total - q) - total (1 - p), which keeps its digits."""
        return (total_mass - q) - away if e == top else e * factor - q

    def weigh_vector(v, sums, gaps, x, w, y, place_y, a, b, head, chunk, count, rank, held, m):
        j = at(chunk, v, rank)
        if j < count:
            result, q = cuda.local.array(width, kind), cuda.local.array(width, kind)
            weigh(w, y, place_y, head + j * width, a, b, q)
            opened(x, held, v, result)
            part, part_gaps = zero, zero
            for n in range(width):
                part += q[n]
                part_gaps += spread_of(q[n], result[n], m)
            sums += part
            gaps += part_gaps
        return sums, gaps

    def write_vector(
        v, x, w, y, out, place_y, place_out, a, b, head, chunk, count, rank, held, m, total_mass, factor, away, top, g, nothing
    ):
        j = at(chunk, v, rank)
        if j < count:
            result, q = cuda.local.array(width, kind), cuda.local.array(width, kind)
            weigh(w, y, place_y, head + j * width, a, b, q)
            opened(x, held, v, result)
            for n in range(width):
                e = result[n] if keep else gap(result[n], m)
                result[n] = zero if nothing else pulled(e, q[n], total_mass, factor, away, top) * g
            write(out, place_out + head + j * width, result)

    weigh_row, write_vectors = unrolled(weigh_vector, vectors, carried=2), unrolled(write_vector, vectors)

    def kernel(x, y, w, a, b, target, mask, scale, spread, upstream, step, loss, out, rows, classes, stride, stride_y, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        row, rank = place()
        base, base_y, base_out = row * stride, row * stride_y, row * classes
        head, count, edge = split(base + offset, classes, rank)
        live = row < rows
        hit, g, t = zero, zero, 0
        if not live:
            count, edge = 0, -1
        elif gradient:
            g = get(upstream, row * step)
        if live and not soft:
            b = get(spread, row)
            live = b != zero
            hit = get(scale, row)
            t = integer(target, row) & mask
        nothing = not live or g == zero
        x_edge = edge_of(x, base, edge)
        x_t = get(x, base + t) if live and not soft else zero  # before anything is written: out may be x
        m = peak(x, base + head, count, x_edge, rank, held, shared)
        sums, gaps = zero, zero
        if edge >= 0:
            sums = mass_of(w, y, base_y, edge, a, b)
            gaps = spread_of(sums, x_edge, m)
        for chunk in range(chunks(count)):
            if not resident:
                fill(x, base + head, chunk, count, rank, held)
            sums, gaps = weigh_row(sums, gaps, x, w, y, base_y, a, b, head, chunk, count, rank, held, m)
        sums, gaps = fold(sums, shared, 3), fold(gaps, shared, 4)
        renew(held, offset)
        s, rest = total(x, base + head, count, x_edge, m, rank, held, shared)
        if rank == 0 and row < rows:
            log_s = log1p(rest)
            value = soft_loss(sums, log_s, gaps)
            if hit != zero:
                value += index_loss(hit, log_s, m - x_t)
            put(loss, row, value if live else zero)
        if gradient:
            total_mass = sums + hit
            away = total_mass * (rest / s)
            factor = total_mass / s * inverse
            renew(held, offset)
            top = unit if s < confident else -unit  # no exponential is negative
            for chunk in range(chunks(count)):
                if not resident:
                    fill(x, base + head, chunk, count, rank, held)
                write_vectors(
                    x, w, y, out, base_y, base_out, a, b, head, chunk, count, rank, held, m, total_mass, factor, away, top, g, nothing
                )
            if edge >= 0:
                q_edge = mass_of(w, y, base_y, edge, a, b)
                e = gap(x_edge, m)
                put(out, base_out + edge, zero if nothing else pulled(e, q_edge, total_mass, factor, away, top) * g)
            if not (nothing or soft) and rank == owner(t, head, count):
                q_t = mass_of(w, y, base_y, t, a, b)
                d = (sums - q_t) - away
                if x_t < m or not s < confident:
                    d = (gap(x_t, m) * factor - q_t) - hit
                put(out, base_out + t, d * g)

    return kernel
