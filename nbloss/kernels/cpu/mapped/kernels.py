"""The kernels of ``vector_per_row`` on blocks of rows whose logits are mapped first (``math.logit_map``).

A block is as many rows as fit a part of the second cache. Its mapped logits go to a buffer of the computed type, whatever the storage type,
and where there is a gradient, their slopes to another one. The kernel of contiguous rows replaces the mapped logits by their gradient,
which is multiplied by the slopes on its way to the output. Rows whose classes are not contiguous are copied before and after (``blocked``).
"""

from numba import njit

from nbloss.kernels.cpu.blocked.copy import (
    block_rows,
    buffer,
    copied_bytes,
    in_buffer,
    is_copied,
    positions_to_line,
    row_pitch,
    rows_in,
    rows_out,
)
from nbloss.kernels.cpu.compile.optional import if_given, none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.logit_map import map_run, multiply_slopes, slope_buffer
from nbloss.kernels.cpu.simd.nontemporal import machine_tuning
from nbloss.kernels.cpu.simd.pointers import chunk_from_lines, max_int, min_int, offset, pointer, position_pointer
from nbloss.kernels.cpu.simd.workspace import alloc, as_rows, free
from nbloss.kernels.cpu.vector_per_row import cross_entropy as index_targets
from nbloss.kernels.cpu.vector_per_row import soft_targets


def _njit(body):
    return njit(**OPTIONS, **INLINE_ONLY)(body)


_cross_entropy, _cross_entropy_soft = _njit(index_targets.cross_entropy), _njit(soft_targets.cross_entropy_soft)


@_njit
def _range(x, y, out, loss, lo, hi):
    """``(first position, end, rows of a block)`` of a chunk, as in ``blocked``."""
    positions, before = x.shape[0] * x.shape[2], positions_to_line(x) if is_copied(x) else positions_to_line(out)
    first, end = chunk_from_lines(lo, hi, before, positions)
    mapped, copied = 2 * row_pitch(x.shape[1]) * loss.itemsize, copied_bytes(x) + copied_bytes(y) + copied_bytes(out)
    if copied:
        return first, end, block_rows(mapped + copied)
    return first, end, max_int(1, 8 * machine_tuning("block_elements") // mapped)


@none_of_none
def _row_of(slopes, at):
    return offset(slopes, at)


@_njit
def _map(rows, p, stop, buffer, slopes, cap, scale):
    n = rows.shape[1]
    for k in range(stop - p):
        at = k * row_pitch(n)
        map_run(position_pointer(rows, p + k), offset(buffer, at), _row_of(slopes, at), n, cap, scale)


@_njit
def _multiply(buffer, slopes, out, p, stop, cap, scale):
    n = out.shape[1]
    for k in range(stop - p):
        at = k * row_pitch(n)
        multiply_slopes(offset(buffer, at), _row_of(slopes, at), position_pointer(out, p + k), n, cap, scale)


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    n, pitch, base = x.shape[1], row_pitch(x.shape[1]), pointer(x, 0)
    first, end, size = _range(x, None, out, loss, lo, hi)
    logits, result, mapped, slopes = buffer(x, size), buffer(out, size), alloc(base, size * pitch), slope_buffer(out, options, base, size * pitch)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        u = as_rows(offset(mapped, -p * pitch), stop - p, n, pitch)
        _map(rows_in(x, logits, p, stop), p, stop, mapped, slopes, options.softcap, options.logit_scale)
        _cross_entropy(u, target, mask, scale, spread, w, options, upstream, loss, if_given(out, u), p, stop)
        if out is not None:
            _multiply(mapped, slopes, in_buffer(out, result, p, stop), p, stop, options.softcap, options.logit_scale)
        rows_out(out, result, p, stop, base)
    free(logits)
    free(result)
    free(mapped)
    free(slopes)


def cross_entropy_soft(x, y, w, a, b, options, upstream, loss, out, lo, hi):
    n, pitch, base = x.shape[1], row_pitch(x.shape[1]), pointer(x, 0)
    first, end, size = _range(x, y, out, loss, lo, hi)
    logits, probabilities, result = buffer(x, size), buffer(y, size), buffer(out, size)
    mapped, slopes = alloc(base, size * pitch), slope_buffer(out, options, base, size * pitch)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        u, q = as_rows(offset(mapped, -p * pitch), stop - p, n, pitch), rows_in(y, probabilities, p, stop)
        _map(rows_in(x, logits, p, stop), p, stop, mapped, slopes, options.softcap, options.logit_scale)
        _cross_entropy_soft(u, q, w, a, b, options, upstream, loss, if_given(out, u), p, stop)
        if out is not None:
            _multiply(mapped, slopes, in_buffer(out, result, p, stop), p, stop, options.softcap, options.logit_scale)
        rows_out(out, result, p, stop, base)
    free(logits)
    free(probabilities)
    free(result)
    free(mapped)
    free(slopes)
