"""The kernels of ``vector_per_row`` on blocks of rows: what is not contiguous is copied to a buffer in a cache (``copy``).

The bits are those of the same kernels on contiguous rows. The arrays may have different layouts: only those whose classes are not
contiguous are copied, and each thread copies the rows that it computes.
"""

from numba import njit

from nbloss.kernels.cpu.blocked.copy import block_rows, buffer, copied_bytes, in_buffer, is_copied, positions_to_line, rows_in, rows_out
from nbloss.kernels.cpu.compile.pipeline import INLINE_ONLY, OPTIONS
from nbloss.kernels.cpu.simd.pointers import chunk_from_lines, min_int, pointer
from nbloss.kernels.cpu.simd.workspace import free
from nbloss.kernels.cpu.vector_per_row import cross_entropy as index_targets
from nbloss.kernels.cpu.vector_per_row import cross_entropy_stats as stats
from nbloss.kernels.cpu.vector_per_row import distillation as divergences
from nbloss.kernels.cpu.vector_per_row import log_softmax as logs
from nbloss.kernels.cpu.vector_per_row import nll_soft as nll_soft_of_rows
from nbloss.kernels.cpu.vector_per_row import second_order, soft_targets
from nbloss.kernels.cpu.vector_per_row import softmax as probabilities_of_rows


def _njit(body):
    return njit(**OPTIONS, **INLINE_ONLY)(body)


_log_softmax, _log_softmax_backward = _njit(logs.log_softmax), _njit(logs.log_softmax_backward)

_softmax, _softmax_backward = _njit(probabilities_of_rows.softmax), _njit(probabilities_of_rows.softmax_backward)

_nll_soft, _nll_soft_backward = _njit(nll_soft_of_rows.nll_soft), _njit(nll_soft_of_rows.nll_soft_backward)

_distillation = _njit(divergences.distillation)

_cross_entropy_hvp, _cross_entropy_hessian_diag = _njit(second_order.cross_entropy_hvp), _njit(second_order.cross_entropy_hessian_diag)

_cross_entropy, _cross_entropy_soft = _njit(index_targets.cross_entropy), _njit(soft_targets.cross_entropy_soft)

_cross_entropy_stats = _njit(stats.cross_entropy_stats)


@_njit
def _range(x, other, out, lo, hi):
    """``(first position, end, rows of a block)`` of a chunk. Blocks of positions that share cache lines begin at a line."""
    positions, before = x.shape[0] * x.shape[2], positions_to_line(x) if is_copied(x) else positions_to_line(out)
    first, end = chunk_from_lines(lo, hi, before, positions)
    return first, end, block_rows(copied_bytes(x) + copied_bytes(other) + copied_bytes(out))


def _forward(body, name):
    """The kernel ``name`` of one input and an output, around the kernel ``body`` of contiguous rows."""

    def forward(x, out, lo, hi):
        first, end, size = _range(x, None, out, lo, hi)
        rows, result = buffer(x, size), buffer(out, size)
        for p in range(first, end, size):
            stop = min_int(end, p + size)
            body(rows_in(x, rows, p, stop), in_buffer(out, result, p, stop), p, stop)
            rows_out(out, result, p, stop, pointer(x, 0))
        free(rows)
        free(result)

    forward.__name__ = forward.__qualname__ = name
    return forward


def _backward(body, name):
    """The same of an upstream gradient and the forward's result."""

    def backward(g, y, out, lo, hi):
        first, end, size = _range(y, g, out, lo, hi)
        upstream, rows, result = buffer(g, size), buffer(y, size), buffer(out, size)
        for p in range(first, end, size):
            stop = min_int(end, p + size)
            body(rows_in(g, upstream, p, stop), rows_in(y, rows, p, stop), in_buffer(out, result, p, stop), p, stop)
            rows_out(out, result, p, stop, pointer(y, 0))
        free(upstream)
        free(rows)
        free(result)

    backward.__name__ = backward.__qualname__ = name
    return backward


log_softmax, log_softmax_backward = _forward(_log_softmax, "log_softmax"), _backward(_log_softmax_backward, "log_softmax_backward")
softmax, softmax_backward = _forward(_softmax, "softmax"), _backward(_softmax_backward, "softmax_backward")


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


def cross_entropy_stats(x, target, mask, scale, lse, log_prob, argmax, correct, entropy, rank, confidence, is_argmax, lo, hi):
    first, end, size = _range(x, None, None, lo, hi)
    logits = buffer(x, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        rows = rows_in(x, logits, p, stop)
        _cross_entropy_stats(rows, target, mask, scale, lse, log_prob, argmax, correct, entropy, rank, confidence, is_argmax, p, stop)
    free(logits)


def distillation(x, y, beta, upstream, loss, out, lo, hi):
    first, end, size = _range(x, y, out, lo, hi)
    students, teachers, result = buffer(x, size), buffer(y, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        rows, teacher, into = rows_in(x, students, p, stop), rows_in(y, teachers, p, stop), in_buffer(out, result, p, stop)
        _distillation(rows, teacher, beta, upstream, loss, into, p, stop)
        rows_out(out, result, p, stop, pointer(x, 0))
    free(students)
    free(teachers)
    free(result)


def cross_entropy_hvp(x, v, coef, options, out, lo, hi):
    first, end, size = _range(x, v, out, lo, hi)
    logits, others, result = buffer(x, size), buffer(v, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        rows, vectors, into = rows_in(x, logits, p, stop), rows_in(v, others, p, stop), in_buffer(out, result, p, stop)
        _cross_entropy_hvp(rows, vectors, coef, options, into, p, stop)
        rows_out(out, result, p, stop, pointer(x, 0))
    free(logits)
    free(others)
    free(result)


def cross_entropy_hessian_diag(x, coef, options, out, lo, hi):
    first, end, size = _range(x, None, out, lo, hi)
    logits, result = buffer(x, size), buffer(out, size)
    for p in range(first, end, size):
        stop = min_int(end, p + size)
        _cross_entropy_hessian_diag(rows_in(x, logits, p, stop), coef, options, in_buffer(out, result, p, stop), p, stop)
        rows_out(out, result, p, stop, pointer(x, 0))
    free(logits)
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
