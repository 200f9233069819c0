"""The contract (``nbloss.kernels.contract``) on NumPy arrays: each function asks ``choose`` for a kernel and runs it.

Kernels are named as text (``compile.jit``), so that their sources are read only where one is compiled.
"""

import numpy as np

from nbloss.kernels.cpu import choose
from nbloss.kernels.cpu.compile.jit import run
from nbloss.kernels.cpu.per_target.partial_sums import added
from nbloss.kernels.cpu.tuning import CHANNELS_MIN_POSITIONS, SUM_GROUP_ROWS

WRITTEN = {"loss", "out"}


def _with_contiguous_classes(x):
    """A copy of shape (positions, C, 1)."""
    return np.ascontiguousarray(np.moveaxis(x, 1, 2)).reshape(-1, x.shape[1], 1)


def _run(operation, variant, arguments, inputs, result, options=None):
    """Run an operation on (outer, C, inner) ``inputs`` and ``result`` (or None), in the view that its kernel asks for."""
    choice = choose.choose(operation, inputs, result, options)
    if choice.view == "transposed":
        inputs, result = [a.transpose(2, 1, 0) for a in inputs], None if result is None else result.transpose(2, 1, 0)
    out = result
    if choice.view == "copied":
        inputs = [_with_contiguous_classes(a) for a in inputs]
        out = None if result is None else np.empty(inputs[0].shape, result.dtype)
    x = inputs[0]
    run(choice, (x.dtype, *variant, out is None), arguments(*inputs, out), WRITTEN, x.shape[0] * x.shape[2])
    if choice.view == "copied" and result is not None:
        result[...] = np.moveaxis(out.reshape(result.shape[0], result.shape[2], result.shape[1]), 2, 1)


def log_softmax(x, out):
    _run("log_softmax", (), lambda x, out: (x, out), [x], out)


def log_softmax_backward(g, y, out):
    _run("log_softmax_backward", (), lambda g, y, out: (g, y, out), [g, y], out)


def cross_entropy(x, target, mask, scale, options, upstream, loss, out):
    if scale.size < loss.size and not choose.one_scale_for_all(x.shape[1]):
        scale = np.full(loss.size, scale[0])
    options = _of_type(options, loss.dtype)
    _run(
        "cross_entropy",
        (options is None,),
        lambda x, out: (x, target, mask, scale, None, None, options, upstream, loss, out),
        [x],
        out,
        options,
    )


def cross_entropy_soft(x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out):
    options = _of_type(options, loss.dtype)
    given = w, a, b, target, mask, scale, spread, options, upstream, loss
    variant = y is None, options is None
    if y is None:
        _run("cross_entropy_soft", variant, lambda x, out: (x, None, *given, out), [x], out)
    else:
        _run("cross_entropy_soft", variant, lambda x, y, out: (x, y, *given, out), [x, y], out)


def _of_type(options, dtype):
    """Row options in the type of the arithmetic, so that a row has the same bits in every layout."""
    return options and type(options)(*map(dtype.type, options))


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread):
    """Fill scale and spread.

    Returns (sum of the weights of the rows that count, how many targets are out of range, position of the first one or -1).
    """
    groups = -(-target.size // SUM_GROUP_ROWS)
    totals, wrong = np.zeros(groups), np.zeros(groups, np.int64)
    variant = scale.dtype, spread is None
    if weight is None:
        weight = np.empty(0, scale.dtype)
    arguments = target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, totals, wrong, SUM_GROUP_ROWS
    run(choose.ROW_SCALE, variant, arguments, {"scale", "spread", "totals", "wrong"}, target.size)
    if scale.size < target.size:
        scale[0] = hit
    bad = int(wrong.sum())
    if not bad:
        return float(added(totals)), 0, -1
    start = int(np.flatnonzero(wrong)[0]) * SUM_GROUP_ROWS
    y = target[start : start + SUM_GROUP_ROWS].astype(np.int64) & mask
    outside = ((y < 0) | (y >= classes)) & ((y != ignore_index) | (wide & (y < 0)))
    return float(added(totals)), bad, start + int(np.flatnonzero(outside)[0])


def row_sum(values):
    """Sum of a contiguous array in float64; the same bits for any number of threads."""
    totals = np.zeros(-(-values.size // SUM_GROUP_ROWS))
    run(choose.ROW_SUM, (values.dtype,), (values, totals, SUM_GROUP_ROWS), {"totals"}, values.size)
    return float(added(totals))


def nll(logp, target, mask, scale, loss):
    run(choose.NLL, (logp.dtype,), (logp, target, mask, scale, loss), {"loss"}, loss.size)


def nll_backward(target, mask, scale, upstream, out):
    choice = choose.nll("nll_backward", out.shape[1], 64)
    run(choice, (out.dtype,), (target, mask, scale, upstream, out), {"out"}, target.size)


def nll_soft(logp, y, w, loss):
    run(choose.nll("nll_soft", logp.shape[1], 16), (logp.dtype,), (logp, y, w, loss), {"loss"}, loss.size)


def nll_soft_backward(y, w, upstream, out):
    choice = choose.nll("nll_soft_backward", out.shape[1], 16)
    run(choice, (out.dtype,), (y, w, upstream, out), {"out"}, out.shape[0] * out.shape[2])


def fused_loss(operation, x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out):
    """Fill ``loss`` and, with g times the gradient of their sum or mean, ``out``; for arrays in C order; no weights are an empty array.

    The ``operation`` is "cross_entropy" or "nll". A sum (``divides``: by the weights that count) takes the place of the first loss. Without
    a gradient it needs an array of one number, where ``choose.SUMS_MAX_CLASSES`` allows it; that of "nll" takes rows of any strides.
    Returns whether that was done. It is not where a target is out of range, a mean has no positive sum of weights, or ``out`` shares
    memory that it may not; then nothing has been written.
    """
    _, classes, inner = x.shape
    if inner > CHANNELS_MIN_POSITIONS:  # larger numbers give the same choice, and would fill the table of choices
        inner = CHANNELS_MIN_POSITIONS
    loss_only = out is None
    choice = choose.fused(operation, classes, inner, sums, not loss_only)
    arguments = x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out
    return run(choice, (x.dtype, loss is None, loss_only), arguments, WRITTEN, target.size)
