"""Floor 1, CPU: the contract of ``nbloss.kernels`` on NumPy arrays."""

import numpy as np

import nbloss.kernels.cpu.cache  # noqa: F401  first: it takes the stamp of the sources before they are read
from nbloss.kernels.cpu import lane_masses, lanes, pixels, planes, row_masses, rows, targets
from nbloss.kernels.cpu.jit import run
from nbloss.kernels.cpu.lane_sums import SHORT
from nbloss.kernels.cpu.whole import whole

__all__ = [
    "cross_entropy",
    "cross_entropy_smooth",
    "cross_entropy_soft",
    "log_softmax",
    "log_softmax_backward",
    "nll",
    "nll_backward",
    "nll_soft",
    "nll_soft_backward",
    "row_scale",
    "row_sum",
    "whole",
]

WRITTEN = {"loss", "out"}
WALKS = ("log_softmax", "log_softmax_backward", "cross_entropy"), ("cross_entropy_smooth", "cross_entropy_soft")


def _kernels(*modules):
    return {name: getattr(module, name) for module, names in zip(modules, WALKS, strict=True) for name in names}


PLANES = {"log_softmax_backward": planes.log_softmax_backward}
PIXELS = {name: getattr(pixels, name) for name in WALKS[0]}
ROWS, LANES = _kernels(rows, row_masses), _kernels(lanes, lane_masses)


def _gathered(x):
    """A copy whose classes lie side by side: (positions, C, 1)."""
    return np.ascontiguousarray(np.moveaxis(x, 1, 2)).reshape(-1, x.shape[1], 1)


def _run(name, variant, arguments, inputs, result):
    """Run kernel ``name`` on (outer, C, inner) ``inputs`` and ``result`` (or None), seen in the layout that is walked best."""
    out, classes = result, result.shape[1] if result is not None else inputs[0].shape[1]
    kernels, multiple, numbers, gathered = LANES, 64 if classes <= 1024 else 16, classes, False
    along = classes > SHORT and all(a is None or (a.shape[2] == 1 and a.strides[1] == a.itemsize) for a in (*inputs, result))
    if not along and inputs[0].shape[2] == 1 and inputs[0].strides[0] == inputs[0].itemsize:
        inputs = [a.transpose(2, 1, 0) for a in inputs]  # rows that are neighbours are pixels
        out = result = None if result is None else result.transpose(2, 1, 0)
    if along:
        kernels, multiple = ROWS, 1
    elif name in PLANES and planes.walks(*inputs, out):
        kernels, multiple, numbers = PLANES, planes.share(inputs[0].shape[0] * inputs[0].shape[2]), len(inputs) * classes
    elif classes > lanes.LONGEST:
        kernels, multiple, gathered = ROWS, 1, True
        inputs = [_gathered(a) for a in inputs]
        out = None if result is None else np.empty(inputs[0].shape, result.dtype)
    elif name in PIXELS and pixels.walks(*inputs, out):
        kernels = PIXELS
    x = inputs[0]
    run(
        kernels[name],
        (x.dtype, *variant, out is None),
        arguments(*inputs, out),
        WRITTEN,
        x.shape[0] * x.shape[2],
        numbers,
        multiple,
        kernels is ROWS,
        x.shape[2],
    )
    if gathered and result is not None:
        result[...] = np.moveaxis(out.reshape(result.shape[0], result.shape[2], classes), 2, 1)


def log_softmax(x, out):
    _run("log_softmax", (), lambda x, out: (x, out), [x], out)


def log_softmax_backward(g, y, out):
    _run("log_softmax_backward", (), lambda g, y, out: (g, y, out), [g, y], out)


def cross_entropy(x, target, mask, scale, upstream, loss, out):
    if scale.size < loss.size and x.shape[1] > SHORT:  # rows take one number each; there are few of so many classes
        scale = np.full(loss.size, scale[0])
    _run("cross_entropy", (target.dtype,), lambda x, out: (x, target, mask, scale, upstream, loss, out), [x], out)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out):
    given = target, mask, scale, spread, w, upstream, loss
    _run("cross_entropy_smooth", (target.dtype,), lambda x, out: (x, *given, out), [x], out)


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out):
    _run("cross_entropy_soft", (), lambda x, y, out: (x, y, w, a, b, upstream, loss, out), [x, y], out)


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread):
    """Fill scale and spread; returns (sum of the weights that count, how many targets are no class, position of the first or -1)."""
    groups = -(-target.size // targets.GROUP)
    totals, wrong = np.zeros(groups), np.zeros(groups, np.int64)
    variant = target.dtype, scale.dtype, spread is None
    if weight is None:
        weight = np.empty(0, scale.dtype)
    arguments = target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, totals, wrong, targets.GROUP
    written = {"scale", "spread", "totals", "wrong"}
    run(targets.row_scale, variant, arguments, written, target.size, 1, targets.GROUP)
    if scale.size < target.size:
        scale[0] = hit
    bad = int(wrong.sum())
    if not bad:
        return float(targets.added(totals)), 0, -1
    start = int(np.flatnonzero(wrong)[0]) * targets.GROUP
    y = target[start : start + targets.GROUP].astype(np.int64) & mask
    outside = ((y < 0) | (y >= classes)) & ((y != ignore_index) | (wide & (y < 0)))
    return float(targets.added(totals)), bad, start + int(np.flatnonzero(outside)[0])


def row_sum(values):
    """Sum of a contiguous array in float64; the same bits for any number of threads."""
    totals = np.zeros(-(-values.size // targets.GROUP))
    run(targets.row_sum, (values.dtype,), (values, totals, targets.GROUP), {"totals"}, values.size, 1, targets.GROUP)
    return float(targets.added(totals))


def nll(logp, target, mask, scale, loss):
    run(targets.nll, (logp.dtype, target.dtype), (logp, target, mask, scale, loss), {"loss"}, loss.size, targets.FETCHED, 64)


def nll_backward(target, mask, scale, upstream, out):
    variant = out.dtype, target.dtype
    run(targets.nll_backward, variant, (target, mask, scale, upstream, out), {"out"}, target.size, out.shape[1], 64)


def nll_soft(logp, y, w, loss):
    run(targets.nll_soft, (logp.dtype,), (logp, y, w, loss), {"loss"}, loss.size, logp.shape[1], 16)


def nll_soft_backward(y, w, upstream, out):
    run(targets.nll_soft_backward, (out.dtype,), (y, w, upstream, out), {"out"}, out.shape[0] * out.shape[2], out.shape[1], 16)
