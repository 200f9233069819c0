"""The kernels of ``vector_per_row`` on blocks of rows: what is not contiguous is copied to a buffer in a cache (``copy``).

The bits are those of the same kernels on contiguous rows. The arrays may have different layouts: only those whose classes are not
contiguous are copied, and each thread copies the rows that it computes.
"""

from numba import njit

from nbloss.kernels.cpu.blocked.copy import (
    block_rows,
    buffer,
    copied_bytes,
    in_buffer,
    is_copied,
    positions_to_line,
    rows_in,
    rows_out,
    run_of_positions,
)
from nbloss.kernels.cpu.channels_first.log_softmax import read, write
from nbloss.kernels.cpu.compile.pipeline import INLINE, INLINE_ONLY, NO_INLINE, OPTIONS
from nbloss.kernels.cpu.simd.load_store import lanes, load_x4
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import min_int, offset, pointer, prefetch_read, stride
from nbloss.kernels.cpu.simd.workspace import carve, free
from nbloss.kernels.cpu.tuning import MANY_CLASSES_PREFETCH
from nbloss.kernels.cpu.vector_per_row import cross_entropy as index_targets
from nbloss.kernels.cpu.vector_per_row import log_softmax as logs
from nbloss.kernels.cpu.vector_per_row import nll_soft as nll_soft_of_rows
from nbloss.kernels.cpu.vector_per_row import soft_targets
from nbloss.kernels.cpu.vector_per_row import softmax as probabilities_of_rows


def _njit(body):
    return njit(**OPTIONS, **INLINE_ONLY)(body)


_log_sums = _njit(logs.log_sums.py_func)

_log_softmax, _log_softmax_backward = _njit(logs.log_softmax), _njit(logs.log_softmax_backward)

_softmax, _softmax_backward = _njit(probabilities_of_rows.softmax), _njit(probabilities_of_rows.softmax_backward)

_nll_soft, _nll_soft_backward = _njit(nll_soft_of_rows.nll_soft), _njit(nll_soft_of_rows.nll_soft_backward)

_cross_entropy, _cross_entropy_soft = _njit(index_targets.cross_entropy), _njit(soft_targets.cross_entropy_soft)


@_njit
def _range(x, other, out, lo, hi):
    """``(first position, end, rows of a block)`` of a chunk. Blocks of positions that share cache lines begin at a line."""
    positions, before = x.shape[0] * x.shape[2], positions_to_line(x) if is_copied(x) else positions_to_line(out)
    first = min_int(lo + before, positions) if lo > 0 else lo
    return first, min_int(hi + before, positions), block_rows(copied_bytes(x) + copied_bytes(other) + copied_bytes(out))


@njit(**NO_INLINE)
def _write_logs(x, out, tops, log_s, p, stop):
    """out = (x - m) - log s at the positions [p, stop), which are contiguous in both arrays; m and log s are those of ``log_sums``."""
    n, class_stride, out_stride, bypass = x.shape[1], stride(x, 1), stride(out, 1), channels_bypass_caches(out, pointer(x, 0))
    part, q = 4 * lanes(pointer(x, 0)), p
    while q < stop:
        first, _, count = run_of_positions(x, q, stop)
        result, _, count = run_of_positions(out, q, q + count)
        for c in range(n):
            line, out_line = offset(first, c * class_stride), offset(result, c * out_stride)
            for k in range(0, count, part):
                prefetch_read(line, MANY_CLASSES_PREFETCH * class_stride + k)
                write(
                    offset(out_line, k),
                    count - k,
                    bypass,
                    (read(offset(line, k), count - k) - load_x4(tops, q - p + k)) - load_x4(log_s, q - p + k),
                )
        q += count


@njit(**INLINE)
def _adjacent(array):
    """Whether neighbouring positions are neighbours in memory, in runs."""
    return stride(array, 2) == 1 and array.shape[2] > 1


def log_softmax(x, out, lo, hi):
    """Where positions are contiguous in both arrays, only the sums need rows: the output is written from the logits as they lie."""
    first, end, size = _range(x, None, out, lo, hi)
    in_place = is_copied(x) and _adjacent(x) and _adjacent(out)
    logits, result = buffer(x, size), buffer(out, 1 if in_place else size)
    tops, log_s = carve(pointer(x, 0), (size + 64, size + 64))
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        rows = rows_in(x, logits, p, stop)
        if in_place:
            _log_sums(rows, None, tops, log_s, p, stop)
            _write_logs(x, out, tops, log_s, p, stop)
        else:
            _log_softmax(rows, in_buffer(out, result, p, stop), p, stop)
            rows_out(out, result, p, stop, pointer(x, 0))
    free(logits)
    free(result)
    free(tops)


def log_softmax_backward(g, y, out, lo, hi):
    first, end, size = _range(y, g, out, lo, hi)
    upstream, logs, result = buffer(g, size), buffer(y, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _log_softmax_backward(rows_in(g, upstream, p, stop), rows_in(y, logs, p, stop), in_buffer(out, result, p, stop), p, stop)
        rows_out(out, result, p, stop, pointer(y, 0))
    free(upstream)
    free(logs)
    free(result)


def softmax(x, out, lo, hi):
    first, end, size = _range(x, None, out, lo, hi)
    logits, result = buffer(x, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _softmax(rows_in(x, logits, p, stop), in_buffer(out, result, p, stop), p, stop)
        rows_out(out, result, p, stop, pointer(x, 0))
    free(logits)
    free(result)


def softmax_backward(g, y, out, lo, hi):
    first, end, size = _range(y, g, out, lo, hi)
    upstream, probabilities, result = buffer(g, size), buffer(y, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _softmax_backward(rows_in(g, upstream, p, stop), rows_in(y, probabilities, p, stop), in_buffer(out, result, p, stop), p, stop)
        rows_out(out, result, p, stop, pointer(y, 0))
    free(upstream)
    free(probabilities)
    free(result)


def cross_entropy(x, target, mask, scale, spread, w, options, upstream, loss, out, lo, hi):
    first, end, size = _range(x, None, out, lo, hi)
    logits, result = buffer(x, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        rows, into = rows_in(x, logits, p, stop), in_buffer(out, result, p, stop)
        _cross_entropy(rows, target, mask, scale, spread, w, options, upstream, loss, into, p, stop)
        rows_out(out, result, p, stop, pointer(x, 0))
    free(logits)
    free(result)


def cross_entropy_soft(x, y, w, a, b, options, upstream, loss, out, lo, hi):
    first, end, size = _range(x, y, out, lo, hi)
    logits, probabilities, result = buffer(x, size), buffer(y, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        rows, q, into = rows_in(x, logits, p, stop), rows_in(y, probabilities, p, stop), in_buffer(out, result, p, stop)
        _cross_entropy_soft(rows, q, w, a, b, options, upstream, loss, into, p, stop)
        rows_out(out, result, p, stop, pointer(x, 0))
    free(logits)
    free(probabilities)
    free(result)


def nll_soft(logp, y, w, loss, lo, hi):
    first, end, size = _range(logp, y, None, lo, hi)
    logs, probabilities = buffer(logp, size), buffer(y, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _nll_soft(rows_in(logp, logs, p, stop), rows_in(y, probabilities, p, stop), w, loss, p, stop)
    free(logs)
    free(probabilities)


def nll_soft_backward(y, w, upstream, out, lo, hi):
    first, end, size = _range(y, None, out, lo, hi)
    probabilities, result = buffer(y, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _nll_soft_backward(rows_in(y, probabilities, p, stop), w, upstream, in_buffer(out, result, p, stop), p, stop)
        rows_out(out, result, p, stop, pointer(y, 0))
    free(probabilities)
    free(result)
