"""The cross entropy of contiguous rows and soft targets: probabilities, or class numbers with label smoothing.

======  ================================================================================================================
symbol  meaning
======  ================================================================================================================
q       target distribution: w (a y + b) for probabilities y; for class numbers w b, where b = spread, without the next
hit     what q has in addition at the target of a class number: its scale
total   sum of q over the classes with ``hit``; ``smooth`` without it
gaps    sum of q (m - x), without ``hit``
======  ================================================================================================================
"""

import numpy as np
from numba import cuda

from nbloss.kernels.cuda.epilogue import index_loss, options_reader, smoothed_at_target, soft_factors, soft_gradient, soft_loss
from nbloss.kernels.cuda.exp import EXP_OF_ROW
from nbloss.kernels.cuda.prims.api import device, get, integer, log1p, put, vector
from nbloss.kernels.cuda.rows.reduce import make_row_max, make_row_sum
from nbloss.kernels.cuda.rows.row_tile import RowTile
from nbloss.kernels.cuda.rows.thread_group import add, make_reduce, make_row_index, shared_size
from nbloss.kernels.cuda.sums import sum_by_last_block
from nbloss.kernels.math.epilogue import CONFIDENT


def make_soft_target(tile, soft):
    """``(target_vector, target_number)``: q of a vector of classes, in a local array, and q of one class."""
    width = tile.width
    size = min(width, 2 if tile.real is np.float64 else 4)  # numbers of a vector of y, whose type may be wider than that of the logits

    @device
    def probability_target(w, y, base, c, a, b):
        return get(w, c) * (a * get(y, base + c) + b)

    @device
    def smoothing_target(w, y, base, c, a, b):
        return get(w, c) * b

    @device
    def by_vectors(w, y, base, c, a, b, q):
        for start in range(0, width, size):
            words = vector(y, base + c + start)
            for n in range(size):
                q[start + n] = get(w, c + start + n) * (a * words[n] + b)

    target_number = probability_target if soft else smoothing_target

    @device
    def by_numbers(w, y, base, c, a, b, q):
        for n in range(width):
            q[n] = target_number(w, y, base, c + n, a, b)

    return by_vectors if soft and width > 1 else by_numbers, target_number


def soft_target_rows(stored, width, group, vectors, resident, sm80, gradient, soft, optioned, summed):
    tile = RowTile(stored, width, group, vectors, resident, sm80)
    keep = gradient and resident and not tile.packed
    row_index, row_max = make_row_index(group), make_row_max(tile, group)
    row_sum = make_row_sum(tile, group, "exponentials" if keep else None)
    split_row, edge_value, has_vector, vector_index, make_opaque, unpack_vector, write_vector = tile.steps
    target_vector, target_number = make_soft_target(tile, soft)
    (_, reduce_two), read_options = make_reduce(group, add), options_reader(optioned)
    owner_rank, (reference, exp_of_row, unit, inverse), real = tile.owner_rank, EXP_OF_ROW[tile.kind], tile.real
    zero, one, confident = real(0), real(1), real(CONFIDENT)
    real_type, word_type, shared_numbers, words = tile.real_type, tile.word_type, shared_size(group, 5), tile.words

    @device
    def weighted_gap(q, v, m):
        """q (m - v). A class with q = 0 adds 0, even where v is -inf."""
        return q * (m - v) if q != zero else zero

    def add_vector(v, total, gaps, chunk, x, base, count, rank, held, w, y, base_y, a, b, head, m):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            logits, q = cuda.local.array(width, real_type), cuda.local.array(width, real_type)
            target_vector(w, y, base_y, head + j * width, a, b, q)
            unpack_vector(x, held, v, logits)
            part, part_gaps = zero, zero
            for n in range(width):
                part += q[n]
                part_gaps += weighted_gap(q[n], logits[n], m)
            total += part
            gaps += part_gaps
        return total, gaps

    def write_one_vector(v, chunk, x, base, count, rank, held, w, y, out, base_y, base_out, a, b, head, ref, total, factor, away, peak, g):
        if has_vector(chunk, v, count, rank):
            j = vector_index(chunk, v, rank)
            result, q = cuda.local.array(width, real_type), cuda.local.array(width, real_type)
            target_vector(w, y, base_y, head + j * width, a, b, q)
            unpack_vector(x, held, v, result)
            for n in range(width):
                e = result[n] if keep else exp_of_row(result[n], ref)
                result[n] = soft_gradient(e, q[n], total, factor, away, peak) * g
            write_vector(out, base_out + head + j * width, result)

    add_row, write_row = tile.each_chunk(add_vector, carried=2), tile.each_chunk(write_one_vector)
    write_zeros = tile.make_zeros()

    threads = group[1]

    def kernel(
        x, y, w, a, b, target, mask, scale, spread, option, upstream, upstream_stride, loss, out,
        report, divides, blocks, total_loss, rows, classes, stride, stride_y, offset,
    ):  # fmt: skip
        shared = cuda.shared.array(shared_numbers, real_type)
        held = cuda.local.array(words, word_type)
        options = read_options(option)
        row, rank = row_index()
        base, base_y, base_out = row * stride, row * stride_y, row * classes
        head, count, edge = split_row(base + offset, classes, rank, row < rows)
        counts = row < rows
        hit, g, t = zero, zero, 0
        if gradient and counts:
            g = get(upstream, row * upstream_stride)
        if counts and not soft:
            b = get(spread, row)
            counts = b != zero
            hit = get(scale, row)
            t = integer(target, row) & mask
        is_zero = not counts or g == zero
        x_edge = edge_value(x, base, edge)
        x_t = get(x, base + t) if counts and not soft else zero  # read before anything is written: out may be x
        m = row_max(x, base + head, count, x_edge, rank, held, shared)
        smooth, gaps = zero, zero
        if edge >= 0:
            smooth = target_number(w, y, base_y, edge, a, b)
            gaps = weighted_gap(smooth, x_edge, m)
        smooth, gaps = add_row(smooth, gaps, x, base + head, count, rank, held, w, y, base_y, a, b, head, m)
        smooth, gaps = reduce_two(smooth, gaps, shared, 3)
        count = make_opaque(held, count, offset)
        ref = reference(m)
        s, rest = row_sum(x, base + head, count, x_edge, m, ref, rank, held, shared)
        log_s = log1p(rest) if optioned else zero  # without options no other thread than the one below computes log1p
        if rank == 0 and row < rows:
            own_log_s = log1p(rest)
            value = soft_loss(smooth, own_log_s, gaps, m, options)
            if hit != zero:
                value += index_loss(hit, own_log_s, m - x_t, m, options)
            put(loss, row, value if counts else zero)
        if gradient:
            total = smooth + hit
            factor, away = soft_factors(total, rest, s, log_s, m, options)
            factor *= inverse(ref)
            count = make_opaque(held, count, offset)
            peak = unit(ref) if s < confident else -one  # no exponential is negative: -1 matches none
            if is_zero:  # the row may hold anything
                write_zeros(out, base_out + head, count, rank, held)
            else:
                write_row(x, base + head, count, rank, held, w, y, out, base_y, base_out, a, b, head, ref, total, factor, away, peak, g)
            if edge >= 0:
                q_edge = target_number(w, y, base_y, edge, a, b)
                e = exp_of_row(x_edge, ref)
                put(out, base_out + edge, zero if is_zero else soft_gradient(e, q_edge, total, factor, away, peak) * g)
            if not (is_zero or soft) and rank == owner_rank(t, head, count):
                q_t = target_number(w, y, base_y, t, a, b)
                at_peak = s < confident and not x_t < m
                put(out, base_out + t, smoothed_at_target(exp_of_row(x_t, ref), q_t, hit, smooth, factor, away, at_peak) * g)
        if summed and rank < threads:  # of a cluster, the block that writes the loss
            sum_by_last_block(loss, rows, report, divides, blocks, total_loss)

    return kernel
