"""The functions of `nbloss.functional` as differentiable functions of HIPS autograd, of every order in reverse mode."""

from functools import partial

import numpy as np

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss.functional._distillation import ENTRIES as DISTILLATION
from nbloss.functional._focal_loss import TARGET, WEIGHT
from nbloss.functional._nll_loss import INPUT as LOG_PROBS

try:
    import autograd.numpy as anp
    from autograd.core import make_vjp
    from autograd.extend import defvjp, defvjp_argnums, primitive
    from autograd.tracer import isbox
except ImportError as error:
    raise ImportError('nbloss.interop.autograd needs autograd: pip install "nbloss[autograd]"') from error

__all__ = ["cross_entropy", "distillation_loss", "focal_loss", "log_softmax", "nll_loss", "softmax"]


def _traced(*values):
    """Whether autograd traces one of the values."""
    return any(map(isbox, values))


# ------------------------------ softmax ------------------------------


@primitive
def log_softmax(input, dim=-1):
    """Differentiable `nbloss.functional.log_softmax`: x - log sum_c exp(x_c) along the axis ``dim``, in input's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from nbloss.interop.autograd import log_softmax
    >>> grad(lambda x: log_softmax(x)[0, 0])(np.zeros((1, 2)))
    array([[ 0.5, -0.5]])
    """
    return F.log_softmax(input, dim)


@primitive
def softmax(input, dim=-1):
    """Differentiable `nbloss.functional.softmax`: exp(x) / sum_c exp(x_c) along the axis ``dim``, in input's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from nbloss.interop.autograd import softmax
    >>> grad(lambda x: softmax(x)[0, 0])(np.zeros((1, 2)))
    array([[ 0.25, -0.25]])
    """
    return F.softmax(input, dim)


def _log_softmax_vjp(y, x, dim=-1):
    def vjp(g):
        if _traced(g, y):
            return g - anp.exp(y) * anp.sum(g, dim, keepdims=True)
        return F.log_softmax_backward(g, y, dim)

    return vjp


def _softmax_vjp(y, x, dim=-1):
    def vjp(g):
        if _traced(g, y):
            return y * (g - anp.sum(g * y, dim, keepdims=True))
        return F.softmax_backward(g, y, dim)

    return vjp


defvjp(log_softmax, _log_softmax_vjp)
defvjp(softmax, _softmax_vjp)

# ------------------------------ losses, by kernels ------------------------------


def _differentiable(name, names, formula, hvp=None):
    """``call(options, x, *arrays)``: a loss that autograd differentiates; ``names`` are those of the arrays.

    The value, the gradient and the product with the Hessian are computed by the functions of nbloss. ``formula``, in autograd.numpy, gives
    what they do not: derivatives of a higher order, and those with respect to the other arrays. The forward pass computes the gradient of
    x together with the value and leaves it in a ``cell``: a list, or None where it is not wanted.
    """
    value, both, backward = (getattr(F, name + ending, None) for ending in ("", "_value_and_grad", "_backward"))

    def named(options, arrays):
        return options | dict(zip(names, arrays, strict=True))

    @primitive
    def loss(options, cell, x, *arrays):
        if cell is None:
            return value(x, **named(options, arrays))
        result, grad = both(x, **named(options, arrays))
        cell.append(grad)
        return result

    @primitive
    def gradient(options, g, x, *arrays):
        return backward(float(g) if np.ndim(g) == 0 else g, x, **named(options, arrays))

    def loss_vjp(argnums, _, args, kwargs):
        options, cell, *arrays = args

        def vjp(g, argnum):
            if argnum > 2:
                return _vjp_at(argnum - 2, partial(formula, options), arrays, g)
            if cell and not _traced(g, *arrays) and g == 1:
                return cell.pop()  # it is the caller's: another call makes another one
            return gradient(options, g, *arrays)

        return lambda g: [vjp(g, argnum) for argnum in argnums]

    def gradient_vjp(argnums, _, args, kwargs):
        options, g, x, *arrays = args

        def by_formula(*arrays):
            return _vjp_at(0, partial(formula, options), arrays, g)

        def vjp(v, argnum):
            if argnum == 1:
                product = _wide(v) * _wide(gradient(options, 1.0, x, *arrays))
                return anp.sum(product, None if anp.ndim(g) == 0 else 1)
            if argnum > 2 or hvp is None or _traced(v, g, x, *arrays):
                return _vjp_at(argnum - 2, by_formula, [x, *arrays], v)
            return hvp(v, x, **named(options, arrays), grad_output=g)

        return lambda v: [vjp(v, argnum) for argnum in argnums]

    loss.__name__, gradient.__name__ = name, f"{name}_backward"
    defvjp_argnums(loss, loss_vjp)
    defvjp_argnums(gradient, gradient_vjp)

    def call(options, x, *arrays):
        if not _traced(x, *arrays):
            return value(x, **named(options, arrays))
        wanted = both is not None and isbox(x) and options["reduction"] in ("mean", "sum")
        return loss(options, [] if wanted else None, x, *arrays)

    return call


def _vjp_at(place, function, arrays, g):
    """The derivative of g times function(*arrays) with respect to one of the arrays."""
    with np.errstate(invalid="ignore", divide="ignore"):  # logits of -inf
        return make_vjp(lambda array: function(*arrays[:place], array, *arrays[place + 1 :]), arrays[place])[0](g)


# ------------------------------ losses, by formulas ------------------------------


@primitive
def _times(a, b):
    """a * b, where 0 times anything is 0: what has no weight may be infinite."""
    with np.errstate(invalid="ignore"):
        return np.where((a == 0) | (b == 0), 0.0, a * b)


def _sum_like(g, array):
    """g summed over the axes along which an array was broadcast."""
    g = anp.sum(g, tuple(range(anp.ndim(g) - anp.ndim(array)))) if anp.ndim(g) > anp.ndim(array) else g
    axes = tuple(axis for axis, size in enumerate(anp.shape(array)) if size == 1)
    return anp.sum(g, axes, keepdims=True) if axes else g


defvjp(_times, lambda _, a, b: lambda g: _sum_like(_times(g, b), a), lambda _, a, b: lambda g: _sum_like(_times(g, a), b))


def _wide(array):
    """A float64 array; its derivative has the dtype of the original."""
    array = array if isbox(array) else np.asarray(array)
    return array if array.dtype == np.float64 else array.astype(np.float64)


def _reduced(options, rows, counts, sample_weight):
    """The loss, from those of rows; ``counts`` is each row's part of what a mean divides by."""
    if sample_weight is not None:
        sample_weight = _wide(sample_weight)
        rows, counts = _times(sample_weight, rows), _times(counts, sample_weight)
    if options["reduction"] not in ("mean", "sum"):
        return rows
    if options["reduction"] == "sum":
        return anp.sum(rows)
    total = anp.sum(counts) if options["divisor"] is None else options["divisor"]
    if total == 0 and options.get("empty") == "zero":
        return anp.sum(_times(rows, 0.0))
    is_nan = total == 0 or (total < 0 and sample_weight is not None)
    return anp.sum(rows) / (total * np.nan if is_nan else total)


def _target_loss(options, x, target, weight, sample_weight, log_softmax=log_softmax):
    """`nbloss.functional.cross_entropy`, `focal_loss` (with gamma) and `nll_loss` (with the identity in place of log_softmax)."""
    x, target = _wide(x), target if isbox(target) else np.asarray(target)
    axis = min(x.ndim - 1, 1)
    classes = np.arange(x.shape[axis]).reshape(-1, *[1] * (x.ndim - 1 - axis))
    weight = anp.reshape(np.ones(classes.size) if weight is None else _wide(weight), classes.shape)
    if target.dtype.kind not in "iub":
        y, kept, counts = _wide(target), True, np.ones(x.shape[:axis] + x.shape[axis + 1 :])
    elif isbox(target):
        raise TypeError("target should be probabilities to be differentiated; got class numbers, which have no derivative")
    else:
        kept = np.expand_dims(target != options["ignore_index"], axis)
        y = 1.0 * (kept & (np.expand_dims(target, axis) == classes))
        counts = anp.sum(weight * y, axis)
    smoothing = options.get("label_smoothing", 0.0)
    q = _times(weight, (1 - smoothing) * y + smoothing / classes.size * kept)
    x = options.get("logit_scale", 1.0) * anp.where(kept, x, 0.0)
    if (cap := options.get("softcap")) is not None:
        x = anp.where(x == -np.inf, x, cap * anp.tanh(x / cap))
    log_p = log_softmax(x, axis)
    terms = log_p
    if gamma := options.get("gamma"):
        terms = anp.where((y == 0) | (log_p == 0), 1.0, -anp.expm1(log_p)) ** gamma * log_p
    rows = -anp.sum(_times(q, terms), axis)
    if scale := options.get("lse_square_scale"):
        top = np.expand_dims(anp.argmax(x, axis), axis) == classes
        rows = rows + scale * anp.sum(q, axis) * anp.sum(anp.where(top, x - log_p, 0.0), axis) ** 2
    return _reduced(options, rows, counts, sample_weight)


def _log_prob_loss(options, *arrays):
    return _target_loss(options, *arrays, log_softmax=lambda x, axis: x)


def _distillation_loss(options, x, teacher, sample_weight):
    """`nbloss.functional.distillation_loss`."""
    t, x, teacher = options["temperature"], _wide(x), _wide(teacher)
    axis = min(x.ndim - 1, 1)
    log_p, log_q = log_softmax(x / t, axis), log_softmax(teacher / t, axis)
    rows = t**2 * anp.sum(_times(anp.exp(log_q), log_q - log_p), axis)
    return _reduced(options, rows, np.ones(rows.shape), sample_weight)


_TARGETS = "target", "weight", "sample_weight"
_cross_entropy = _differentiable("cross_entropy", _TARGETS, _target_loss, F.cross_entropy_hvp)
_focal_loss = _differentiable("focal_loss", _TARGETS, _target_loss)
_nll_loss = _differentiable("nll_loss", _TARGETS, _log_prob_loss, lambda v, x, **_: np.zeros_like(x))
_distillation = _differentiable("distillation_loss", ("teacher", "sample_weight"), _distillation_loss)

# ------------------------------ the losses ------------------------------


@documented()
def cross_entropy(
    input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, lse_square_scale=0.0, softcap=None,
    logit_scale=1.0, sample_weight=None, divisor=None, empty="nan", device=None,
):  # fmt: skip
    """Differentiable `nbloss.functional.cross_entropy`, whose forward pass computes the gradient, too.

    It can be differentiated with respect to ``input``, probabilities as ``target``, ``weight`` and ``sample_weight``.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from nbloss.interop.autograd import cross_entropy
    >>> grad(cross_entropy)(np.zeros((1, 2)), np.array([0]))
    array([[-0.5,  0.5]])
    """
    options = {
        "ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing, "lse_square_scale": lse_square_scale,
        "softcap": softcap, "logit_scale": logit_scale, "divisor": divisor, "empty": empty, "device": device,
    }  # fmt: skip
    return _cross_entropy(options, input, target, weight, sample_weight)


@documented(target=TARGET, weight=WEIGHT)
def focal_loss(
    input, target, weight=None, *, gamma=2.0, ignore_index=-100, reduction="mean", sample_weight=None, divisor=None, empty="nan",
    device=None,
):  # fmt: skip
    """Differentiable `nbloss.functional.focal_loss`, whose forward pass computes the gradient, too.

    It can be differentiated with respect to ``input``, ``weight`` and ``sample_weight``.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from nbloss.interop.autograd import focal_loss
    >>> grad(focal_loss)(np.zeros((1, 2)), np.array([0])).round(4)
    array([[-0.2983,  0.2983]])
    """
    options = {
        "gamma": gamma, "ignore_index": ignore_index, "reduction": reduction, "divisor": divisor, "empty": empty, "device": device,
    }  # fmt: skip
    return _focal_loss(options, input, target, weight, sample_weight)


@documented(input=LOG_PROBS)
def nll_loss(
    input, target, weight=None, *, ignore_index=-100, reduction="mean", sample_weight=None, divisor=None, empty="nan", device=None
):
    """Differentiable `nbloss.functional.nll_loss`.

    It can be differentiated with respect to ``input``, ``weight`` and ``sample_weight``.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from nbloss.interop.autograd import nll_loss
    >>> grad(nll_loss)(np.log([[0.25, 0.75]]), np.array([0]))
    array([[-1.,  0.]])
    """
    options = {"ignore_index": ignore_index, "reduction": reduction, "divisor": divisor, "empty": empty, "device": device}
    return _nll_loss(options, input, target, weight, sample_weight)


@documented(**DISTILLATION)
def distillation_loss(input, teacher, *, temperature=1.0, sample_weight=None, divisor=None, reduction="mean", device=None):
    """Differentiable `nbloss.functional.distillation_loss`, whose forward pass computes the gradient, too.

    It can be differentiated with respect to ``input``, ``teacher`` and ``sample_weight``.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns_loss)s

    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from nbloss.interop.autograd import distillation_loss
    >>> grad(distillation_loss)(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])).round(4)
    array([[ 0.25, -0.25]])
    """
    options = {"temperature": temperature, "divisor": divisor, "reduction": reduction, "device": device}
    return _distillation(options, input, teacher, sample_weight)
