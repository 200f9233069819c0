"""Every option of a loss, alone and with every other one, against automatic differentiation of the formula in float64.

The formulas are those of docs/options.md, written for any library of arrays: PyTorch differentiates them, and JAX where it is installed.
A new option is one line of the table of its loss, and a term of the formula.
"""

from itertools import combinations

import numpy as np
import pytest
from layouts import LAYOUTS
from problems import bfloat16, eps, finfo

import nbloss.functional as F

CLASSES = (7, 61)  # below and above 48 classes the kernels add differently
VIEWS = ("negative", "sliced", "transposed", "channels_last", "Fortran")
HALVES = [np.float16, *([bfloat16] if bfloat16 else [])]
TOLERANCE = {np.float64: 1e-13, np.float32: 1e-6}  # of the largest number of a row; half types: float32's, and half a unit of their own


# ---- the options: name -> keywords, from a generator, the shape of the logits and that of the losses ------------------------------


def of_classes(rng, x, rows):
    return {"weight": rng.integers(1, 17, x[1]) / 8}


def of_rows(rng, x, rows):
    return {"sample_weight": rng.integers(0, 9, rows) / 4}  # some are 0


def soft(rng, x, rows):
    """Probabilities that every dtype holds exactly."""
    return {"target": np.moveaxis(rng.multinomial(64, np.ones(x[1]) / x[1], rows) / 64, -1, 1)}


def each(**keywords):
    return lambda rng, x, rows: keywords


ROWS = {
    "weight": of_classes,
    "ignore_index": each(ignore_index=1),
    "sample_weight": of_rows,
    "divisor": each(divisor=7.5),
    "empty": each(empty="zero"),  # `call` leaves nothing to divide by
    "K-d input": each(),
    "sum": each(reduction="sum"),
    "none": each(reduction="none"),
}
OPTIONS = {
    "cross_entropy": ROWS
    | {
        "label_smoothing": each(label_smoothing=0.1),
        "lse_square_scale": each(lse_square_scale=0.03),
        "probabilities": soft,
        "logit_scale": each(logit_scale=0.75),
        "softcap": each(softcap=5.0),
    },
    "focal_loss": ROWS | {"gamma": each(gamma=3.5)},
    "distillation_loss": {name: ROWS[name] for name in ("sample_weight", "divisor", "K-d input", "sum", "none")}
    | {"temperature": each(temperature=2.5)},
}

NEUTRAL = {"K-d input", "empty"}  # these alone do not change what a row that counts adds
EXCLUSIVE = {frozenset(("sum", "none"))}  # one keyword
NO_MEAN, NOT_IGNORED = "divisor should be None unless reduction is 'mean'", "ignore_index should be negative with a target of probabilities"
REFUSED = {
    frozenset(("divisor", "sum")): NO_MEAN,
    frozenset(("divisor", "none")): NO_MEAN,
    frozenset(("ignore_index", "probabilities")): NOT_IGNORED,
}
MORE = {"cross_entropy": [("empty", "weight", "label_smoothing"), ("empty", "weight", "label_smoothing", "sum")]}


def cases():
    """``(loss, names of options)``: none, each alone, every pair, and some more."""
    for loss, table in OPTIONS.items():
        pairs = [pair for pair in combinations(table, 2) if frozenset(pair) not in EXCLUSIVE | {*REFUSED}]
        for names in [(), *((name,) for name in table), *pairs, *MORE.get(loss, ())]:
            yield loss, names


def call(loss, names, classes, dtype):
    """``(logits, target or teacher, keywords, the rows that count)`` in float64, of numbers that ``dtype`` holds exactly."""
    rng = np.random.default_rng(classes)
    shape = (5, classes, 3, 2) if "K-d input" in names else (30, classes)
    rows = (shape[0], *shape[2:])
    x = numbers(rng, shape, dtype)
    keywords = {"target": numbers(rng, shape, dtype) if loss == "distillation_loss" else rng.integers(0, classes, rows)}
    for name in names:
        keywords |= OPTIONS[loss][name](np.random.default_rng([classes, *name.encode()]), shape, rows)
    if "empty" in names:
        _leave_nothing(keywords, rows)
    target = keywords.pop("target")
    kept = np.ones(rows, bool) if target.dtype.kind == "f" else target != keywords.get("ignore_index", -100)
    if "sample_weight" in keywords:
        kept &= keywords["sample_weight"] != 0
    np.moveaxis(x, 1, -1)[~kept] = np.nan  # what a row without weight holds must not matter
    return x, target, keywords, kept


def numbers(rng, shape, dtype):
    if dtype == np.float64:
        return rng.normal(0, 2, shape)
    return rng.integers(-48, 49, shape) / 8  # seven bits, as many as bfloat16 has


def _leave_nothing(keywords, rows):
    """Change a call so that a mean has nothing to divide by: its weights are 0, or all its rows are ignored."""
    if keywords["target"].dtype.kind == "f" or "sample_weight" in keywords:
        keywords["sample_weight"] = np.zeros(rows)
    elif "weight" in keywords:
        keywords["target"] = 2 * (keywords["target"] // 2)
        keywords["weight"] = np.where(np.arange(len(keywords["weight"])) % 2, keywords["weight"], 0)
    else:
        keywords["target"] = np.full(rows, keywords.get("ignore_index", -100))


# ---- the formulas: losses of the rows that count, from the library, their logits (R, C), the target and the keywords ---------------


def log_softmax(lib, u):
    """Of logits of moderate size: no maximum is taken."""
    lse = lib.log(lib.exp(u).sum(-1))
    return u - lse[:, None], lse


def cross_entropy(lib, x, q, *, lse_square_scale=0.0, logit_scale=1.0, softcap=None):
    u = x * logit_scale
    if softcap is not None:
        u = softcap * lib.tanh(u / softcap)
    logp, lse = log_softmax(lib, u)
    return -(lib.array(q) * logp).sum(-1) + lse_square_scale * lib.array(q.sum(-1)) * lse**2


def focal_loss(lib, x, q, *, gamma=2.0):
    loss = -(lib.array(q != 0) * log_softmax(lib, x)[0]).sum(-1)
    return lib.array(q.sum(-1)) * (-lib.expm1(-loss)) ** gamma * loss


def distillation_loss(lib, x, teacher, *, temperature=1.0, sample_weight):
    logp, logq = log_softmax(lib, x / temperature)[0], log_softmax(lib, lib.array(teacher) / temperature)[0]
    return temperature**2 * lib.array(sample_weight) * (lib.exp(logq) * (logq - logp)).sum(-1)


def rows_and_divisor(loss, target, keywords, kept, classes):
    """The arguments of the formula, and what a mean divides by: of class numbers the sum of v w[y], otherwise the sum of v."""
    given = dict(keywords)
    for name in ("reduction", "empty", "ignore_index"):
        given.pop(name, None)
    v = given.pop("sample_weight", np.ones(kept.shape))[kept]
    divisor, weight, e = given.pop("divisor", None), given.pop("weight", np.ones(classes)), given.pop("label_smoothing", 0.0)
    if loss == "distillation_loss":
        return [np.moveaxis(target, 1, -1)[kept]], given | {"sample_weight": v}, v.sum() if divisor is None else divisor
    y = np.moveaxis(target, 1, -1)[kept] if target.dtype.kind == "f" else np.eye(classes)[target[kept]]
    own = v if target.dtype.kind == "f" else v * weight[target[kept]]
    return [v[:, None] * weight * ((1 - e) * y + e / classes)], given, own.sum() if divisor is None else divisor


# ---- automatic differentiation ---------------------------------------------------------------------------------------------------


class ByTorch:
    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.exp, self.expm1, self.log, self.tanh = (getattr(self.torch, name) for name in ("exp", "expm1", "log", "tanh"))

    def array(self, numbers):
        return self.torch.tensor(np.ascontiguousarray(numbers, np.float64))

    def value_and_grad(self, losses, x, g):
        x = self.array(x).requires_grad_()
        each = losses(self, x)
        return each.detach().numpy(), self.torch.autograd.grad((each * self.array(g)).sum(), x)[0].numpy()


class ByJax:
    def __init__(self):
        self.jax = pytest.importorskip("jax")
        self.exp, self.expm1, self.log, self.tanh = (getattr(self.jax.numpy, name) for name in ("exp", "expm1", "log", "tanh"))

    def array(self, numbers):
        return self.jax.numpy.asarray(numbers, np.float64)

    def value_and_grad(self, losses, x, g):
        with self.jax.enable_x64(True):
            each, back = self.jax.vjp(lambda x: losses(self, x), self.array(x))
            return np.asarray(each), np.asarray(back(self.array(g))[0])


every_library = pytest.mark.parametrize("library", [ByTorch, ByJax], ids=["torch", "jax"])


def expected(library, loss, x, target, keywords, kept, g):
    """The loss, and the gradient of g times the loss."""
    formula, reduction = globals()[loss], keywords.get("reduction", "mean")
    arguments, given, divisor = rows_and_divisor(loss, target, keywords, kept, x.shape[1])
    scale = 1.0
    if reduction == "mean":
        scale = 1 / divisor if divisor else 0.0 if keywords.get("empty") == "zero" else np.nan
    upstream = np.broadcast_to(g, kept.shape)[kept] * scale
    grad = np.zeros((*kept.shape, x.shape[1]))
    losses, grad[kept] = library.value_and_grad(
        lambda lib, rows: formula(lib, rows, *arguments, **given), np.moveaxis(x, 1, -1)[kept], upstream
    )
    of_rows = np.zeros(kept.shape)
    of_rows[kept] = losses
    return of_rows if reduction == "none" else of_rows.sum() * scale, np.moveaxis(grad, -1, 1)


# ---- nbloss ----------------------------------------------------------------------------------------------------------------------


def converted(array, dtype, view):
    """An argument in the dtype of the logits and in a layout; class numbers keep their dtype."""
    array = np.asarray(array)
    return LAYOUTS[view](array.astype(dtype) if array.dtype.kind == "f" else array)


def results(loss, x, target, keywords, g, dtype, view):
    """The losses and the gradients of one call for both and, in C order, of one for each."""
    x, target = converted(x, dtype, view), converted(target, dtype, view)
    given = {name: converted(value, dtype, view) if isinstance(value, np.ndarray) else value for name, value in keywords.items()}
    value, grad = getattr(F, f"{loss}_value_and_grad")(x, target, grad_output=g, **given)
    if view != "C":  # fewer kernels to compile
        return [value], [grad]
    return [value, getattr(F, loss)(x, target, **given)], [grad, getattr(F, f"{loss}_backward")(g, x, target, **given)]


def assert_close(actual, wanted, dtype, note, stored=None):
    """Within a part of the row's largest number; exactly 0 where the row has no weight. ``stored``: the half type of the result."""
    actual = np.asarray(actual).astype(np.float64)
    assert actual.shape == wanted.shape, note
    size = np.abs(wanted).max(axis=1, keepdims=True) if wanted.ndim > 1 else np.abs(wanted)
    within = TOLERANCE[dtype] * size
    if stored is not None:
        within = within + eps(stored) / 2 * np.abs(wanted) + float(finfo(stored).smallest_subnormal) / 2 * (size > 0)
    over = ~(np.abs(actual - wanted) <= within)
    assert not over.any(), f"{note}: {actual[over][:3]} not {wanted[over][:3]}, {over.sum()} of {over.size}"


def check(library, loss, names, classes, dtype, view):
    wide = np.float64 if dtype == np.float64 else np.float32
    stored = None if dtype == wide else dtype
    x, target, keywords, kept = call(loss, names, classes, dtype)
    shape = kept.shape if keywords.get("reduction") == "none" else ()
    g = np.random.default_rng(3).choice([-1.5, 0.5, 2.0], shape)
    note = f"{loss} {names}, {classes} classes, {np.dtype(dtype).name}, {view}"
    value, grad = expected(library, loss, x, target, keywords, kept, g)
    values, gradients = results(loss, x, target, keywords, g, dtype, view)
    for found in values:
        assert found.dtype == wide, note
        assert_close(found, value, wide, note)
    for found in gradients:
        assert found.dtype == dtype, note
        assert_close(found, grad, wide, note, stored)


CASES = list(cases())


@every_library
@pytest.mark.parametrize(
    ("number", "loss", "names"),
    [(number, *case) for number, case in enumerate(CASES)],
    ids=[f"{loss}-{'+'.join(names) or 'plain'}" for loss, names in CASES],
)
def test_value_and_gradient(library, number, loss, names):
    """float64 and float32 in C order; by turns, a layout for both, and a half type."""
    library, half = library(), HALVES[number % len(HALVES)]
    views = [VIEWS[(number + step) % len(VIEWS)] for step in range(3)]
    for classes in CLASSES:
        for dtype, view in ((np.float64, "C"), (np.float32, "C"), *zip((np.float64, np.float32, half), views, strict=True)):
            check(library, loss, names, classes, dtype, view)


@pytest.mark.parametrize(("loss", "name"), [(loss, name) for loss, table in OPTIONS.items() for name in table if name not in NEUTRAL])
def test_every_option_of_the_table_changes_the_result(loss, name):
    """So a formula without its term would fail above."""
    plain, with_it = (call(loss, names, CLASSES[0], np.float64)[:3] for names in ((), (name,)))
    x = np.nan_to_num(plain[0])
    one, other = (np.sum(getattr(F, loss)(x, target, **keywords)) for _, target, keywords in (plain, with_it))
    assert abs(one - other) > 1e-3


@pytest.mark.parametrize("loss", ["cross_entropy", "focal_loss"])
def test_a_mean_over_nothing_is_nan_unless_it_is_told_to_be_zero(loss):
    for more in ((), ("weight",), ("sample_weight",), ("K-d input",)):
        x, target, keywords, _ = call(loss, ("empty", *more), CLASSES[0], np.float64)
        assert getattr(F, loss)(x, target, **keywords) == 0
        assert np.isnan(getattr(F, loss)(x, target, **keywords | {"empty": "nan"}))


@pytest.mark.parametrize(
    ("loss", "pair"),
    [(loss, pair) for loss, table in OPTIONS.items() for pair in combinations(table, 2) if frozenset(pair) in REFUSED],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_options_that_do_not_go_together_are_refused(loss, pair):
    x, target, keywords, _ = call(loss, pair, CLASSES[0], np.float64)
    for suffix in ("", "_value_and_grad"):
        with pytest.raises(ValueError, match=REFUSED[frozenset(pair)]):
            getattr(F, loss + suffix)(x, target, **keywords)
