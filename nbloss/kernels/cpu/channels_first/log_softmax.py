"""Pixels: few classes, on an axis of their own, and positions side by side in input and output.

The arithmetic is that of ``lanes.py``, to the last bit. The cross entropy with its gradient walks memory as ``moves.py`` says, alone as
``pixel_losses.py`` does; log_softmax and its gradient have less to compute, and go through in one direction: a slab of eight tiles into L1,
its sums there, and out to where they belong.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end, classes_to_prefetch, positions_to_line
from nbloss.kernels.cpu.row_per_lane.pack import position_pointer
from nbloss.kernels.cpu.row_per_lane.reduce import partial_sums_size, tile_sums
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_n_x4, load_x4, splat, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, prefetch_read, prefetch_write, stride
from nbloss.kernels.cpu.simd.vec import concat_x4, demote, extract_x4, maximum, minimum, promote, repeat_x4
from nbloss.kernels.cpu.simd.vecmath import MAX_EXP_ARGUMENT, exp_scale, exp_scaled, log1p
from nbloss.kernels.cpu.simd.workspace import alloc, free, stack_alloc
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, PIPELINE_TILES


@njit(**INLINE)
def read(line, count):
    """The next pixels of one class, as many as four vectors hold; zeros beyond ``count``."""
    if count >= PIPELINE_TILES * lanes(line):
        return load_x4(line, 0)
    return load_n_x4(line, 0, count, 0.0)


@njit(**INLINE)
def write(line, count, past, value):
    """Write the first ``count`` pixels of four vectors, ``past`` the caches."""
    width = lanes(line)
    if count < PIPELINE_TILES * width:
        store_n(line, 0, count, extract_x4(value, 0))
        store_n(line, width, count - width, extract_x4(value, 1))
        store_n(line, 2 * width, count - 2 * width, extract_x4(value, 2))
        store_n(line, 3 * width, count - 3 * width, extract_x4(value, 3))
    elif past and elements_to_aligned(line) == 0:
        store_nontemporal(line, 0, value)
    else:
        store(line, 0, value)


@njit(**INLINE)
def _prefetch_lines(c, n, part, line, class_stride, later, later_between):
    """Ask for a part of class c of a slab, or where there are no so many classes of a first one of a ``later`` slab."""
    place = offset(line, c * class_stride + part) if c < n else offset(later, (c - n) * later_between + part)
    for k in range(PIPELINE_TILES):
        prefetch_read(place, k * lanes(place))


@njit(**INLINE)
def _ask_place(written, past):
    """Ask for where as many pixels will be ``written`` if not ``past`` the caches."""
    if not past:
        for k in range(PIPELINE_TILES):
            prefetch_write(written, k * lanes(written))


@njit(**INLINE)
def _dealt(line, count, block, n):
    """The next pixels of one class, which are put into four tiles of a slab."""
    width, v = lanes(line), read(line, count)
    store(block, 0, extract_x4(v, 0))
    store(block, n * width, extract_x4(v, 1))
    store(block, 2 * n * width, extract_x4(v, 2))
    store(block, 3 * n * width, extract_x4(v, 3))
    return v


@njit(**INLINE)
def _logs(line, count, past, block, n, tops, logs):
    """Write the log-probabilities of what ``_dealt`` has put down."""
    width = lanes(line)
    v = concat_x4(load(block, 0), load(block, n * width), load(block, 2 * n * width), load(block, 3 * n * width))
    write(line, count, past, (v - load_x4(tops, 0)) - load_x4(logs, 0))


def log_softmax(x, out, lo, hi):
    n = min_int(x.shape[1], LANES_MAX_CLASSES)
    inner, class_stride, out_stride = x.shape[2], stride(x, 1), stride(out, 1)
    base = pointer(x, 0)
    width = lanes(base)
    part = PIPELINE_TILES * width
    full = 2 * part
    block, float64_sums = alloc(base, (n + 2) * full + partial_sums_size(width) * width), stack_alloc(np.float64, 256)
    tops, logs, sums = offset(block, n * full), offset(block, (n + 1) * full), offset(block, (n + 2) * full)
    before, streamed, ahead = positions_to_line(base, out), channels_bypass_caches(out, base), classes_to_prefetch(x, n)
    p = lo
    while p < hi:
        stop = block_end(inner, p, hi, full, before)
        count, row, result = stop - p, position_pointer(x, p), position_pointer(out, p)
        following = position_pointer(x, min_int(stop, hi - 1))
        first = second = repeat_x4(splat(base, -np.inf))
        for c in range(n):
            line, written, into = offset(row, c * class_stride), offset(result, c * out_stride), offset(block, c * width)
            past = streamed and elements_to_aligned(written) == 0
            _ask_place(written, past)
            first = maximum(_dealt(line, count, into, n), first)
            _ask_place(offset(written, part), past)
            second = maximum(_dealt(offset(line, part), count - part, offset(into, n * part), n), second)
        store(tops, 0, first)
        store(tops, part, second)
        for k in range(0, count, width):
            for c in range(ahead):
                prefetch_read(following, c * class_stride + k)
            _, rest = tile_sums(offset(block, k * n), n, load(tops, k), None, None, sums, float64_sums)
            store(logs, k, rest)
        for k in range(0, count, part):
            store(logs, k, log1p(load_x4(logs, k)))
        for c in range(n):
            written, kept = offset(result, c * out_stride), offset(block, c * width)
            for k in range(0, count, part):
                _logs(offset(written, k), count - k, streamed, offset(kept, k * n), n, offset(tops, k), offset(logs, k))
        p = stop
    free(block)


@njit(**INLINE)
def _kept(line, count, into):
    """The next pixels of one class in float64; they are put down."""
    v = read(line, count)
    store(into, 0, v)
    return promote(v)


def log_softmax_backward(g, y, out, lo, hi):
    n = min_int(y.shape[1], LANES_MAX_CLASSES)
    inner, class_stride, upstream_stride, out_stride = y.shape[2], stride(y, 1), stride(g, 1), stride(out, 1)
    base = pointer(y, 0)
    width = lanes(base)
    part = PIPELINE_TILES * width
    full = 2 * part  # longer runs than where memory is walked in two directions at once
    kept = alloc(base, (n + 1) * full)
    factors, zero, one = offset(kept, n * full), repeat_x4(splat(base, 0.0)), np.float64(exp_scale(get(kept, 0)))
    before, streamed, ahead = positions_to_line(base, out), channels_bypass_caches(out, base), classes_to_prefetch(y, n)
    p = lo
    while p < hi:
        stop = block_end(inner, p, hi, full, before)
        count, above, row, result = stop - p, position_pointer(g, p), position_pointer(y, p), position_pointer(out, p)
        following = position_pointer(g, min_int(stop, hi - 1))
        first = second = promote(zero)
        for c in range(n):
            line, written, into = offset(above, c * upstream_stride), offset(result, c * out_stride), offset(kept, c * full)
            past = streamed and elements_to_aligned(written) == 0
            _prefetch_lines(c + ahead, n, 0, above, upstream_stride, row, class_stride)
            _ask_place(written, past)
            first = first + _kept(line, count, into)
            _prefetch_lines(c + ahead, n, part, above, upstream_stride, row, class_stride)
            _ask_place(offset(written, part), past)
            second = second + _kept(offset(line, part), count - part, offset(into, part))
        store(factors, 0, demote(first / one, zero))
        store(factors, part, demote(second / one, zero))
        for c in range(n):
            line, written = offset(row, c * class_stride), offset(result, c * out_stride)
            for k in range(0, count, part):
                _prefetch_lines(c + ahead, n, k, row, class_stride, following, upstream_stride)
                e = exp_scaled(minimum(read(offset(line, k), count - k), MAX_EXP_ARGUMENT), None)
                write(offset(written, k), count - k, streamed, load_x4(kept, c * full + k) - e * load_x4(factors, k))
        p = stop
    free(kept)
