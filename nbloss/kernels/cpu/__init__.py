"""The CPU's kernels: the contract of ``nbloss.kernels`` on NumPy arrays.

Here a call's layout chooses its kernel. Kernels are named as text (``jit``), so that their sources are read only where one is compiled.
"""

import numpy as np

from nbloss.kernels import SUMMED
from nbloss.kernels.cpu.jit import PACKAGE, run
from nbloss.kernels.cpu.partial_sums import added
from nbloss.kernels.cpu.tuning import FETCHED, GROUP, LEAST, LONGEST, RUN, SHORT, TURNED, WIDE

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


def _walk(module, masses):
    """Names of the kernels of one way to walk; soft targets have a module of their own."""
    names = dict.fromkeys(("log_softmax", "log_softmax_backward", "cross_entropy"), module)
    names |= dict.fromkeys(("cross_entropy_smooth", "cross_entropy_soft"), masses)
    return {name: f"{PACKAGE}.{home}.{name}" for name, home in names.items() if home}


ROWS, LANES, PIXELS = _walk("rows", "row_masses"), _walk("lanes", "lane_masses"), _walk("pixels", None)
PLANES = {"log_softmax_backward": f"{PACKAGE}.planes.log_softmax_backward"}


def _pixels_walk(*arrays):
    """Whether ``pixels.py`` walks (outer, C, inner) inputs, and an output that may be None, which ``lanes.py`` could walk, too."""
    _, classes, inner = arrays[0].shape
    return inner >= LEAST and classes <= SHORT and all(a is None or a.strides[2] == a.itemsize for a in arrays)


def _planes_walk(g, y, out):
    """Whether ``planes.py`` walks (outer, C, inner) arrays, ``out`` in C order or transposed."""
    _, classes, inner = y.shape
    if inner < LEAST or classes <= SHORT or g.strides[2] != g.itemsize or y.strides[2] != y.itemsize:
        return False
    return out.strides[2] == out.itemsize or (classes >= TURNED and out.strides[1] == out.itemsize >= WIDE)


def _planes_share(count):
    """What the positions that a thread takes at a time should be a multiple of, so that none ends in a short run."""
    return min(256, -(-count // 128) * 64)


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
    elif name in PLANES and _planes_walk(*inputs, out):
        kernels, multiple, numbers = PLANES, _planes_share(inputs[0].shape[0] * inputs[0].shape[2]), len(inputs) * classes
    elif classes > LONGEST:
        kernels, multiple, gathered = ROWS, 1, True
        inputs = [_gathered(a) for a in inputs]
        out = None if result is None else np.empty(inputs[0].shape, result.dtype)
    elif name in PIXELS and _pixels_walk(*inputs, out):
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
    _run("cross_entropy", (), lambda x, out: (x, target, mask, scale, upstream, loss, out), [x], out)


def cross_entropy_smooth(x, target, mask, scale, spread, w, upstream, loss, out):
    given = target, mask, scale, spread, w, upstream, loss
    _run("cross_entropy_smooth", (), lambda x, out: (x, *given, out), [x], out)


def cross_entropy_soft(x, y, w, a, b, upstream, loss, out):
    _run("cross_entropy_soft", (), lambda x, y, out: (x, y, w, a, b, upstream, loss, out), [x, y], out)


def row_scale(target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread):
    """Fill scale and spread; returns (sum of the weights that count, how many targets are no class, position of the first or -1)."""
    groups = -(-target.size // GROUP)
    totals, wrong = np.zeros(groups), np.zeros(groups, np.int64)
    variant = scale.dtype, spread is None
    if weight is None:
        weight = np.empty(0, scale.dtype)
    arguments = target, mask, wide, weight, classes, ignore_index, hit, share, scale, spread, totals, wrong, GROUP
    written = {"scale", "spread", "totals", "wrong"}
    run(f"{PACKAGE}.targets.row_scale", variant, arguments, written, target.size, 1, GROUP)
    if scale.size < target.size:
        scale[0] = hit
    bad = int(wrong.sum())
    if not bad:
        return float(added(totals)), 0, -1
    start = int(np.flatnonzero(wrong)[0]) * GROUP
    y = target[start : start + GROUP].astype(np.int64) & mask
    outside = ((y < 0) | (y >= classes)) & ((y != ignore_index) | (wide & (y < 0)))
    return float(added(totals)), bad, start + int(np.flatnonzero(outside)[0])


def row_sum(values):
    """Sum of a contiguous array in float64; the same bits for any number of threads."""
    totals = np.zeros(-(-values.size // GROUP))
    run(f"{PACKAGE}.targets.row_sum", (values.dtype,), (values, totals, GROUP), {"totals"}, values.size, 1, GROUP)
    return float(added(totals))


def nll(logp, target, mask, scale, loss):
    run(f"{PACKAGE}.targets.nll", (logp.dtype,), (logp, target, mask, scale, loss), {"loss"}, loss.size, FETCHED, 64)


def nll_backward(target, mask, scale, upstream, out):
    run(f"{PACKAGE}.targets.nll_backward", (out.dtype,), (target, mask, scale, upstream, out), {"out"}, target.size, out.shape[1], 64)


def nll_soft(logp, y, w, loss):
    run(f"{PACKAGE}.targets.nll_soft", (logp.dtype,), (logp, y, w, loss), {"loss"}, loss.size, logp.shape[1], 16)


def nll_soft_backward(y, w, upstream, out):
    run(f"{PACKAGE}.targets.nll_soft_backward", (out.dtype,), (y, w, upstream, out), {"out"}, out.shape[0] * out.shape[2], out.shape[1], 16)


def whole(operation, x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out):
    """Fill ``loss`` and, with g times the gradient of their sum or mean, ``out``; for arrays in C order; no weights are an empty array.

    The ``operation`` is "cross_entropy" or "nll". A sum (``divides``: by the weights that count) takes the place of the first loss, and
    without a gradient needs room for no more of up to ``SUMMED`` classes; that of "nll" takes rows of any strides. Returns whether that
    was done: where a target is no class, a mean has no positive sum of weights, or ``out`` shares memory that it may not, nothing has
    been written.
    """
    classes, count = x.shape[1], target.size
    numbers, multiple, along = classes, 64, False
    added = sums and out is None and classes <= SUMMED[operation]
    if operation == "nll":
        name = SUM_NLL if added else LOSS_NLL
        numbers = FETCHED if out is None else classes
    elif x.shape[2] > 1 and _pixels_walk(x, out):
        name = SUM_PIXELS if added else LOSS_PIXELS
    elif x.shape[2] > 1 or classes <= SHORT or added:
        name, multiple = SUM_SHORT if added else LOSS_SHORT, 64 if x.shape[2] > 1 else 16
    else:
        name, multiple, along = LOSS_LONG, 1, True
    if added:
        multiple = RUN
    arguments = x, target, mask, wide, weight, ignore_index, sums, divides, g, loss, out
    return run(name, (x.dtype, loss is None, out is None), arguments, WRITTEN, count, numbers, multiple, along, x.shape[2])


SUM_NLL, SUM_SHORT, SUM_PIXELS = (f"{PACKAGE}.fused.sum_{way}" for way in ("nll", "short", "pixels"))
LOSS_NLL, LOSS_SHORT, LOSS_PIXELS, LOSS_LONG = (f"{PACKAGE}.fused.loss_{way}" for way in ("nll", "short", "pixels", "long"))
