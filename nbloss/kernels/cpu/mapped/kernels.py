"""The kernels of ``vector_per_row`` on blocks of rows whose logits are mapped first (``math.logit_map``).

A block is as many rows as fit a part of the second cache. Its mapped logits go to a buffer of the computed type, whatever the storage type,
and where there is a gradient, their slopes to another one. The kernel of contiguous rows takes both, and multiplies the gradient by the
slopes where it is stored. Rows whose classes are not contiguous are copied before and after (``blocked``).

A scale alone has a constant slope: one row of slopes serves all rows.
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
from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.logit_map import map_run
from nbloss.kernels.cpu.simd.load_store import lanes, splat, store
from nbloss.kernels.cpu.simd.nontemporal import machine_tuning
from nbloss.kernels.cpu.simd.pointers import chunk_from_lines, max_int, min_int, offset, pointer, position_pointer
from nbloss.kernels.cpu.simd.workspace import alloc, as_rows, free
from nbloss.kernels.cpu.vector_per_row.cross_entropy import mapped_cross_entropy
from nbloss.kernels.cpu.vector_per_row.soft_targets import mapped_cross_entropy_soft


def _njit(body):
    return njit(**OPTIONS, **INLINE_ONLY)(body)


_cross_entropy, _cross_entropy_soft = _njit(mapped_cross_entropy), _njit(mapped_cross_entropy_soft)


@_njit
def _range(x, y, out, loss, lo, hi):
    """``(first position, end, rows of a block)`` of a chunk, as in ``blocked``."""
    positions, before = x.shape[0] * x.shape[2], positions_to_line(x) if is_copied(x) else positions_to_line(out)
    first, end = chunk_from_lines(lo, hi, before, positions)
    mapped, copied = 2 * row_pitch(x.shape[1]) * loss.itemsize, copied_bytes(x) + copied_bytes(y) + copied_bytes(out)
    if copied:
        return first, end, block_rows(mapped + copied)
    # an eighth of the second cache: half of it took 1.1 of the time, a sixteenth as long (Zen 3, 2026-11-30)
    return first, end, max_int(1, 2 * machine_tuning("block_elements") // mapped)


@none_of_none
def _row(slopes, at):
    return offset(slopes, at)


@none_of_none
def _rows(slopes, p, count, n, pitch):
    return as_rows(offset(slopes, -p * pitch), count, n, pitch)


@_njit
def _slope_pitch(n, cap):
    if cap is None:
        return 0
    return row_pitch(n)


@none_of_none
def _slope_buffer(out, base, n, pitch, size, scale):
    """A buffer for slopes where there is an ``out``. One row, if ``pitch`` is 0: it is filled here."""
    if pitch:
        return alloc(base, size * pitch)
    slopes = alloc(base, row_pitch(n))
    for c in range(0, n, lanes(slopes)):
        store(slopes, c, splat(slopes, scale))
    return slopes


@_njit
def _map(rows, p, stop, into, slopes, pitch, cap, scale):
    """Fill the buffers with the mapped logits of rows [p, stop) and with their slopes, ``pitch`` numbers apart."""
    n = rows.shape[1]
    for k in range(stop - p):
        map_run(position_pointer(rows, p + k), offset(into, k * row_pitch(n)), _row(slopes, k * pitch), n, cap, scale)


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    n, pitch, base = x.shape[1], row_pitch(x.shape[1]), pointer(x, 0)
    first, end, size = _range(x, None, out, loss, lo, hi)
    logits, result, mapped, apart = buffer(x, size), buffer(out, size), alloc(base, size * pitch), _slope_pitch(n, options.softcap)
    slopes = _slope_buffer(out, base, n, apart, size, options.logit_scale)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _map(rows_in(x, logits, p, stop), p, stop, mapped, slopes, apart, options.softcap, options.logit_scale)
        u, more = _rows(mapped, p, stop - p, n, pitch), _rows(slopes, p, stop - p, n, apart)
        into = in_buffer(out, result, p, stop)
        _cross_entropy(u, more, target, mask, scale, spread, w, options, upstream, loss, into, p, stop)
        rows_out(out, result, p, stop, base)
    free(logits)
    free(result)
    free(mapped)
    free(slopes)


def cross_entropy_soft(x, y, w, a, b, options, upstream, loss, out, lo, hi):
    n, pitch, base = x.shape[1], row_pitch(x.shape[1]), pointer(x, 0)
    first, end, size = _range(x, y, out, loss, lo, hi)
    logits, probabilities, result = buffer(x, size), buffer(y, size), buffer(out, size)
    mapped, apart = alloc(base, size * pitch), _slope_pitch(n, options.softcap)
    slopes = _slope_buffer(out, base, n, apart, size, options.logit_scale)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _map(rows_in(x, logits, p, stop), p, stop, mapped, slopes, apart, options.softcap, options.logit_scale)
        u, more = _rows(mapped, p, stop - p, n, pitch), _rows(slopes, p, stop - p, n, apart)
        q, into = rows_in(y, probabilities, p, stop), in_buffer(out, result, p, stop)
        _cross_entropy_soft(u, more, q, w, a, b, options, upstream, loss, into, p, stop)
        rows_out(out, result, p, stop, base)
    free(logits)
    free(probabilities)
    free(result)
    free(mapped)
    free(slopes)
