"""The contract (``nbloss.kernels.contract``) on NumPy arrays: each function asks ``choose`` for a kernel and runs it.

Kernels are named as text (``compile.jit``), so that their sources are read only where one is compiled.
"""

from typing import NamedTuple

import numpy as np

from nbloss.kernels.cpu import choose
from nbloss.kernels.cpu.compile import jit
from nbloss.kernels.cpu.compile.jit import run
from nbloss.kernels.cpu.per_target.partial_sums import added
from nbloss.kernels.cpu.tuning import MAPPED_HESSIAN_ELEMENTS, SERIAL_BELOW_ELEMENTS, SUM_GROUP_ROWS
from nbloss.kernels.math.epilogue import typed

WRITTEN = {"loss", "out", "lse", "log_prob", "argmax", "correct", "entropy", "rank", "confidence", "is_argmax"}


def _run(operation, variant, arguments, inputs, result, options=None):
    """Run an operation on (outer, C, inner) ``inputs`` and ``result`` (or None), in the view that its kernel asks for."""
    choice = choose.choose(operation, inputs, result, options)
    if choice.view == choose.TRANSPOSED:
        inputs, result = [a.transpose(2, 1, 0) for a in inputs], None if result is None else result.transpose(2, 1, 0)
    x = inputs[0]
    run(choice, (x.dtype, *variant, result is None), arguments(*inputs, result), WRITTEN, x.shape[0] * x.shape[2])


def log_softmax(x, out):
    _run("log_softmax", (), lambda x, out: (x, out), [x], out)


def log_softmax_backward(g, y, out):
    _run("log_softmax_backward", (), lambda g, y, out: (g, y, out), [g, y], out)


def softmax(x, out):
    _run("softmax", (), lambda x, out: (x, out), [x], out)


def softmax_backward(g, y, out):
    _run("softmax_backward", (), lambda g, y, out: (g, y, out), [g, y], out)


def rows(operation, *arrays):
    """An operation of the log-softmax's kind on 2-d arrays in C order, the last one its output."""
    out = arrays[-1]
    count, classes = out.shape
    key = operation, out.dtype, classes
    ready = jit.ready.get(key)
    if ready is not None and count * ready[1] < SERIAL_BELOW_ELEMENTS:
        ready[0](*arrays, count, count, 1, 0)
        return
    *inputs, out = [array[:, :, None] for array in arrays]
    choice = choose.choose(operation, inputs, out)
    globals()[operation](*inputs, out)
    if choice.view == choose.AS_GIVEN:
        jit.keep(key, (jit.kernel(choice, (out.dtype, False)), choice.grain.elements))


def _scale_of_rows(scale, count, classes):
    """The scale as the kernels for this number of classes take it."""
    return np.full(count, scale[0]) if scale.size < count and not choose.one_scale_for_all(classes) else scale


def cross_entropy(x, target, mask, scale, options, upstream, loss, out):
    scale = _scale_of_rows(scale, loss.size, x.shape[1])
    _class_numbers(x, target, mask, scale, None, None, options, upstream, loss, out)


def _class_numbers(x, target, mask, scale, spread, w, options, upstream, loss, out):
    """Class numbers, smoothed where there is a ``spread``."""
    options = typed(options, loss.dtype)
    variant = spread is None, w is None, *_which(options)
    given = target, mask, scale, spread, w, options, upstream, loss
    _run("cross_entropy", variant, lambda x, out: (x, *given, out), [x], out, options)


def cross_entropy_soft(x, y, w, a, b, target, mask, scale, spread, options, upstream, loss, out):
    if y is None:
        _class_numbers(x, target, mask, scale, spread, w, options, upstream, loss, out)
        return
    options = typed(options, loss.dtype)
    given = w, a, b, options, upstream, loss
    variant = y.dtype, w is None, *_which(options)
    _run("cross_entropy_soft", variant, lambda x, y, out: (x, y, *given, out), [x, y], out, options)


def cross_entropy_stats(x, target, mask, scale, lse, log_prob, argmax, correct, entropy):
    if target is not None:
        scale, correct = _scale_of_rows(scale, lse.size, x.shape[1]), correct.view(np.uint8)
    given = target, mask, scale, lse, log_prob, argmax, correct, entropy, None, None, None
    _run("cross_entropy_stats", (target is None, True), lambda x, out: (x, *given), [x], None)


def evaluation(x, target, mask, scale, log_prob, entropy, rank, confidence, is_argmax):
    scale = _scale_of_rows(scale, log_prob.size, x.shape[1])
    given = target, mask, scale, None, log_prob, None, None, entropy, rank, confidence, is_argmax.view(np.uint8)
    _run("cross_entropy_stats", (False, False), lambda x, out: (x, *given), [x], None)


def distillation(x, y, beta, upstream, loss, out):
    _run("distillation", (y.dtype,), lambda x, y, out: (x, y, beta, upstream, loss, out), [x, y], out)


def cross_entropy_hvp(x, v, coef, options, out):
    options = typed(options, coef.dtype)
    _run("cross_entropy_hvp", (v.dtype, options is None), lambda x, v, out: (x, v, coef, options, out), [x, v], out)


def cross_entropy_hessian_diag(x, coef, options, out):
    options = typed(options, coef.dtype)
    _run("cross_entropy_hessian_diag", (options is None,), lambda x, out: (x, coef, options, out), [x], out)


class Part(NamedTuple):
    """A part of the positions of (outer, C, inner) arrays."""

    outer: slice
    inner: slice
    positions: slice

    def of(self, array):
        return array[self.outer, :, self.inner]


def _parts(shape):
    """Parts of about `MAPPED_HESSIAN_ELEMENTS` numbers: rows of the outer axis, or if that is one, of the inner axis."""
    outer, classes, inner = shape
    if outer == 1:
        step = max(1, MAPPED_HESSIAN_ELEMENTS // max(1, classes))
        return [Part(slice(None), slice(i, i + step), slice(i, i + step)) for i in range(0, inner, step)]
    step = max(1, MAPPED_HESSIAN_ELEMENTS // max(1, classes * inner))
    return [Part(slice(i, i + step), slice(None), slice(i * inner, (i + step) * inner)) for i in range(0, outer, step)]


def mapped_hessian(x, v, options, hessian, gradient, out):
    options = typed(options._replace(lse_square_scale=None), x.dtype)  # the kernels below read the others alone
    parts, multiple = _parts(x.shape), choose.MAP_LOGITS.grain.multiple
    room = [-(-part.of(x).size // multiple) * multiple for part in parts]
    memory = np.zeros((7, max(room, default=0)), x.dtype)  # once: new memory costs page faults
    for part, size in zip(parts, room, strict=True):
        logits, into, buffers = part.of(x), part.of(out), memory[:, :size]
        u, slope, bends, moved, product, of_logits, values = buffers
        views = [buffer[: logits.size].reshape(logits.shape) for buffer in buffers]
        views[0][...], views[6][...] = logits, 1 if v is None else part.of(v)
        moved[...] = values
        variant = x.dtype, options.softcap is None
        run(choose.MAP_LOGITS, variant, (u, slope, bends, moved, options), {"u", "slope", "bends", "moved"}, u.size)
        hessian(views[0], None if v is None else views[3], views[4], part)
        if v is None:
            with np.errstate(all="ignore"):
                product *= moved  # the slopes
        gradient(views[0], views[5], part)
        run(choose.UNMAP, (x.dtype,), (product, slope, of_logits, bends, values), {"product"}, u.size)
        into[...] = views[4]


def row_mass(y, w, a, b, classes, scale, spread, mass):
    """The sums over the classes of probabilities are those of ``nll_soft``; the rest are operations per position."""
    total = classes if w is None else float(w.sum(dtype=np.float64))
    with np.errstate(all="ignore"):
        if y is None:
            np.multiply(spread, total, out=mass)
            mass += scale
            return
        minus_one = np.broadcast_to(np.full((1, y.shape[1], 1), -1, mass.dtype), y.shape)  # contiguous classes, as y may have
        nll_soft(minus_one, y, w, mass)
        mass *= a
        mass += b * total


def _which(options):
    """What a variant says about row options: whether there are any, and which, if not lse_square_scale alone."""
    if options is None:
        return (True,)
    given = tuple([field is not None for field in options])
    return (False,) if given == (True, False, False, False) else (False, *given)


def row_scale(target, mask, wide, weight, sample_weight, classes, ignore_index, hit, share, scale, spread):
    """Fill scale and spread.

    Returns (sum of the weights of the rows that count, how many targets are out of range, position of the first one or -1).
    """
    groups = -(-target.size // SUM_GROUP_ROWS)
    totals, wrong = np.zeros(groups), np.zeros(groups, np.int64)
    variant = scale.dtype, spread is None
    nothing = np.empty(0, scale.dtype)
    weights = nothing if weight is None else weight, nothing if sample_weight is None else sample_weight
    arguments = target, mask, wide, *weights, classes, ignore_index, hit, share, scale, spread, totals, wrong, SUM_GROUP_ROWS
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


def tally(log_prob, entropy, rank, confidence, is_argmax, top_k, bins):
    """Counts and sums over the rows that count; the same for any number of threads.

    Returns ``(counts, totals)``. The counts are of rows, of those whose rank is below each of ``top_k``, of those in each bin of the
    confidence, and of those in each bin whose target is the first maximum. The columns of the totals add up to the losses, the entropies,
    and the confidences of each bin. A confidence c is in bin b if b < c bins <= b + 1.
    """
    groups, width = -(-rank.size // SUM_GROUP_ROWS), 1 + top_k.size + 2 * bins
    counts, totals = np.zeros(groups * width, np.int64), np.zeros(2 * groups * (2 + bins))
    arguments = log_prob, entropy, rank, confidence, is_argmax.view(np.uint8), top_k, bins, counts, totals, SUM_GROUP_ROWS
    run(choose.TALLY, (log_prob.dtype,), arguments, {"counts", "totals"}, rank.size)
    return counts.reshape(-1, width).sum(axis=0), totals.reshape(-1, 2 + bins)


def scatter_rows(x, rows, factors, after, out, out_rows):
    """out[out_rows[k]] += after (factors[k] x[rows[k]]), in the order of k; the same bits for any number of threads.

    x may have any strides; ``out`` is in C order. ``after`` is a Python float, ``rows`` and ``out_rows`` are of int64.
    """
    run(choose.scatter_rows(rows.size), (out.dtype,), (x, rows, factors, after, out, out_rows), {"out"}, out.shape[1])


def weigh(values, sample_weight, out):
    """out = sample_weight * values, and 0 where the sample weight is 0: an operation per position, for which NumPy is fast enough."""
    with np.errstate(all="ignore"):
        np.multiply(values, sample_weight, out=out)
    out[sample_weight == 0] = 0


def nll(logp, target, mask, scale, loss):
    run(choose.NLL, (logp.dtype,), (logp, target, mask, scale, loss), {"loss"}, loss.size)


def nll_backward(target, mask, scale, upstream, out):
    run(choose.nll_backward(out.shape[1]), (out.dtype,), (target, mask, scale, upstream, out), {"out"}, target.size)


def nll_soft(logp, y, w, loss):
    _run("nll_soft", (y.dtype, w is None), lambda logp, y, out: (logp, y, w, loss), [logp, y], None)


def nll_soft_backward(y, w, upstream, out):
    _run("nll_soft_backward", (y.dtype, w is None), lambda out, y, _: (y, w, upstream, out), [out, y], None)


def _fused(operation, inputs, out, sums, options, sampled=False):
    """The fused Choice, and the arrays as (outer, C, inner) in the view that it asks for."""
    inputs, out = [a if a.ndim == 3 else a[:, :, None] for a in inputs], out if out is None or out.ndim == 3 else out[:, :, None]
    choice = choose.fused(operation, inputs, out, sums, options, sampled)
    if choice.view == choose.TRANSPOSED:
        inputs, out = [a.transpose(2, 1, 0) for a in inputs], None if out is None else out.transpose(2, 1, 0)
    return choice, inputs, out


def fused_loss(operation, x, target, mask, wide, weight, sample_weight, ignore_index, smoothing, options, sums, over, g, loss, out):
    """Fill ``loss`` and, with g times the gradient of their sum or mean, ``out``. No class weights or sample weights are an empty array.

    The ``operation`` is "cross_entropy" or "nll". A sum takes the place of the first loss. It is divided by ``over``, and so is ``g``, if
    that is a number; 0.0: by the sum of the weights that count. Without a gradient it needs an array of one number, where ``choose.adds``
    says so. ``g`` is a number, or an array of a number per position. Arrays may have two axes instead of three.

    Returns ``(NOT_DONE, DONE, POSITIVE or EMPTY (contract), the kernel if a call of this size runs on one thread, its view)``. Nothing has
    been written, NOT_DONE, where a target is out of range, a mean has no positive sum of weights, or ``out`` may share memory that it may
    not. That ``out`` shares none with ``sample_weight`` is the caller's to check.
    """
    count, classes = target.size, x.shape[1]
    options = typed(options, weight.dtype)
    choice, (x,), out = _fused(operation, [x], out, sums, options, sample_weight.size > 0)
    share, w = (smoothing / classes, weight if weight.size else None) if smoothing else (None, None)
    arguments = x, target, mask, wide, weight, sample_weight, ignore_index, 1.0 - smoothing, share, w, options, sums, over, g, loss, out
    variant = x.dtype, out is None, loss is None, share is None, w is None, type(g) is float, *_which(options)
    done = run(choice, variant, arguments, WRITTEN, count)
    small = count * choice.grain.elements < SERIAL_BELOW_ELEMENTS
    return done, jit.kernel(choice, variant) if small else None, choice.view


def fused_soft_loss(x, y, w, a, b, sample_weight, options, sums, over, g, loss, out):
    """As ``fused_loss``, for probabilities y in a float dtype of their own; ``w`` are class weights or None; q = w (a y + b)."""
    options = typed(options, loss.dtype)
    choice, (x, y), out = _fused("cross_entropy_soft", [x, y], out, sums, options)
    arguments = x, y, w, a, b, sample_weight, options, sums, over, g, loss, out
    variant = x.dtype, y.dtype, out is None, w is None, type(g) is float, *_which(options)
    return run(choice, variant, arguments, WRITTEN, x.shape[0] * x.shape[2])
