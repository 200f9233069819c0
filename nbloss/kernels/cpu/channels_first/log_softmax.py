"""log_softmax, channels first: at most LANES_MAX_CLASSES classes, contiguous positions in input and output.

The arithmetic is that of ``row_per_lane``, to the last bit. These functions compute less than a cross entropy with its gradient, so they
need no ``pipeline``. They load a block of eight tiles into the first cache, reduce it there, and write the output directly to its array.
"""

import numpy as np
from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.row_per_lane.blocks import block_end, classes_to_prefetch, positions_to_line
from nbloss.kernels.cpu.row_per_lane.reduce import tile_sums
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_n_x4, load_x4, splat, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import (
    elements_to_aligned,
    min_int,
    offset,
    pointer,
    position_pointer,
    prefetch_read,
    prefetch_write,
    stride,
)
from nbloss.kernels.cpu.simd.vec import concat_x4, extract_x4, maximum, repeat_x4
from nbloss.kernels.cpu.simd.vecmath import exp_scale, log1p
from nbloss.kernels.cpu.simd.workspace import carve, free
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, PIPELINE_TILES


@njit(**INLINE)
def read(line, count):
    """Load four vectors of positions of one class; lanes beyond ``count`` are 0."""
    if count >= PIPELINE_TILES * lanes(line):
        return load_x4(line, 0)
    return load_n_x4(line, 0, count, 0.0)


@njit(**INLINE)
def write(line, count, nontemporal, value):
    """Store the first ``count`` positions of four vectors: with nontemporal stores, if ``nontemporal`` and all are whole and aligned."""
    width = lanes(line)
    if count < PIPELINE_TILES * width:
        store_n(line, 0, count, extract_x4(value, 0))
        store_n(line, width, count - width, extract_x4(value, 1))
        store_n(line, 2 * width, count - 2 * width, extract_x4(value, 2))
        store_n(line, 3 * width, count - 3 * width, extract_x4(value, 3))
    elif nontemporal and elements_to_aligned(line) == 0:
        store_nontemporal(line, 0, value)
    else:
        store(line, 0, value)


@njit(**INLINE)
def _prefetch_output(out_line, nontemporal):
    """Prefetch the lines of four vectors of output for writing, unless the stores are nontemporal."""
    if not nontemporal:
        for k in range(PIPELINE_TILES):
            prefetch_write(out_line, k * lanes(out_line))


@njit(**INLINE)
def _load_to_tiles(line, count, block, n):
    """Load four vectors of positions of one class and store them in the four tiles of ``block``; returns them."""
    width, v = lanes(line), read(line, count)
    store(block, 0, extract_x4(v, 0))
    store(block, n * width, extract_x4(v, 1))
    store(block, 2 * n * width, extract_x4(v, 2))
    store(block, 3 * n * width, extract_x4(v, 3))
    return v


@njit(**INLINE)
def _write_logs(line, count, nontemporal, block, n, maxima, logs):
    """Write the log-probabilities of one class of four tiles that ``_load_to_tiles`` has stored."""
    width = lanes(line)
    v = concat_x4(load(block, 0), load(block, n * width), load(block, 2 * n * width), load(block, 3 * n * width))
    write(line, count, nontemporal, (v - load_x4(maxima, 0)) - load_x4(logs, 0))


@njit(**INLINE)
def _write_products(line, count, nontemporal, block, n, factors):
    """Write the probabilities of one class of four tiles of exponentials."""
    width = lanes(line)
    e = concat_x4(load(block, 0), load(block, n * width), load(block, 2 * n * width), load(block, 3 * n * width))
    write(line, count, nontemporal, e * load_x4(factors, 0))


@njit(**INLINE)
def normalized_channels(x, out, probabilities, lo, hi):
    """out = (x - m) - log s; with ``probabilities`` (True or None), out = exp(x - m) / s."""
    n = min_int(x.shape[1], LANES_MAX_CLASSES)
    inner, class_stride, out_stride = x.shape[2], stride(x, 1), stride(out, 1)
    base = pointer(x, 0)
    width = lanes(base)
    part = PIPELINE_TILES * width
    full = 2 * part
    block, maxima, logs = carve(base, (n * full, full, full))
    before, large_output, ahead = positions_to_line(base, out), channels_bypass_caches(out, base), classes_to_prefetch(x, n)
    p = lo
    while p < hi:
        stop = block_end(inner, p, hi, full, before)
        count, row, result = stop - p, position_pointer(x, p), position_pointer(out, p)
        following = position_pointer(x, min_int(stop, hi - 1))
        first = second = repeat_x4(splat(base, -np.inf))
        for c in range(n):
            line, out_line, into = offset(row, c * class_stride), offset(result, c * out_stride), offset(block, c * width)
            nontemporal = large_output and elements_to_aligned(out_line) == 0
            _prefetch_output(out_line, nontemporal)
            first = maximum(_load_to_tiles(line, count, into, n), first)
            _prefetch_output(offset(out_line, part), nontemporal)
            second = maximum(_load_to_tiles(offset(line, part), count - part, offset(into, n * part), n), second)
        store(maxima, 0, first)
        store(maxima, part, second)
        for k in range(0, count, width):
            for c in range(ahead):
                prefetch_read(following, c * class_stride + k)
            tile = offset(block, k * n)
            if probabilities is None:
                _, rest = tile_sums(tile, n, load(maxima, k), None)
                store(logs, k, rest)
            else:
                s, _ = tile_sums(tile, n, load(maxima, k), tile)
                store(logs, k, s)
        for k in range(0, count, part):
            if probabilities is None:
                store(logs, k, log1p(load_x4(logs, k)))
            else:
                store(logs, k, 1.0 / load_x4(logs, k) / exp_scale(get(logs, 0)))
        for c in range(n):
            out_line, saved = offset(result, c * out_stride), offset(block, c * width)
            for k in range(0, count, part):
                here = offset(out_line, k)
                if probabilities is None:
                    _write_logs(here, count - k, large_output, offset(saved, k * n), n, offset(maxima, k), offset(logs, k))
                else:
                    _write_products(here, count - k, large_output, offset(saved, k * n), n, offset(logs, k))
        p = stop
    free(block)


def log_softmax(x, out, lo, hi):
    """out = (x - m) - log s."""
    normalized_channels(x, out, None, lo, hi)
