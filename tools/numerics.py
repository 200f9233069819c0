"""The tables of docs/numerics.md: the largest error of nbloss and of its peers, in units in the last place, against mpmath.

    python tools/numerics.py                  prints both tables: of the peers, and of the options
    python tools/numerics.py --only options   prints one
    python tools/numerics.py --write          and puts them into docs/numerics.md

An error is counted in units in the last place of the exact value, in the dtype of the logits (below the smallest normal number: in
units of that one). A value that should be finite and is not, or the other way round, is an infinite error.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_ENABLE_X64", "1")

import ml_dtypes
import mpmath
import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"
BEGIN, END = "<!-- begin: tools/numerics.py{} -->", "<!-- end -->"
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
PEERS = ["nbloss", "torch", "jax", "scipy", "sklearn", "numpy"]
OPERATIONS = ["log_softmax", "loss", "gradient"]


# ------------------------------ contenders: logits, targets -> arrays in the order of OPERATIONS ------------------------------


def by_nbloss(x, y):
    import nbloss.functional as F

    return F.log_softmax(x), *F.cross_entropy_value_and_grad(x, y, reduction="none")


def by_torch(x, y):
    import torch

    bits = x.view(np.int16) if x.dtype == ml_dtypes.bfloat16 else x
    logits = torch.from_numpy(bits.copy())
    logits = (logits.view(torch.bfloat16) if x.dtype == ml_dtypes.bfloat16 else logits).requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y), reduction="none")
    loss.sum().backward()
    results = torch.nn.functional.log_softmax(logits, 1), loss, logits.grad
    return [r.detach().double().numpy() for r in results]


def by_jax(x, y):
    import jax
    import jax.numpy as jnp

    def losses(x):
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1)[:, 0]

    x = jnp.asarray(x)
    return [np.asarray(a) for a in (jax.nn.log_softmax(x), losses(x), jax.grad(lambda x: losses(x).sum())(x))]


def by_scipy(x, y):
    from scipy.special import log_softmax, softmax

    logp, p = log_softmax(x, axis=1), softmax(x, axis=1)
    p[np.arange(len(y)), y] -= x.dtype.type(1)
    return logp, -logp[np.arange(len(y)), y], p


def by_sklearn(x, y):
    from sklearn._loss.loss import HalfMultinomialLoss

    loss = HalfMultinomialLoss(n_classes=x.shape[1])
    return None, *loss.loss_gradient(y_true=y.astype(x.dtype), raw_prediction=x)


def by_numpy(x, y):
    """What is written by hand: logsumexp with the maximum taken out, and p - 1."""
    rows, m = np.arange(len(y)), x.max(axis=1, keepdims=True)
    e = np.exp(x - m)
    s = e.sum(axis=1, keepdims=True)
    p = e / s
    p[rows, y] -= x.dtype.type(1)
    return (x - m) - np.log(s), (np.log(s) + m)[:, 0] - x[rows, y], p


# ------------------------------ inputs ------------------------------


def inputs(dtype, rows, huge):
    """name -> logits and targets."""
    rng = np.random.default_rng(0)
    half, wide = np.dtype(dtype) == np.float16, np.dtype(dtype) == np.float64

    def normal(count, scale=3.0, rows=rows):
        return rng.normal(0, scale, (rows, count)), rng.integers(0, count, rows)

    yield "ordinary", *normal(10)
    for margin in (5, 10, 20, 50, 100):
        x, y = normal(10, 1.0)
        x[np.arange(rows), y] = x.max(axis=1) + margin
        yield f"confident, margin {margin}", x, y
    for shift in (1e4, 1e8, 1e30):
        if shift == 1e4 or not half:
            x, y = normal(10)
            yield f"shifted by {shift:.0e}".replace("e+0", "e").replace("e+", "e"), x + shift, y
    x, y = normal(10)
    x[rng.random(x.shape) < 0.4] = -np.inf
    x[np.arange(rows), y] = 1.0
    yield "masked (-inf)", x, y
    x, y = normal(10)
    yield "subnormal", x * (1e-310 if wide else 1e-7 if half else 1e-40), y
    yield f"{huge} classes", *normal(huge, rows=2)


# ------------------------------ errors ------------------------------


def exact(x, y):
    """log_softmax, losses and gradients as mpmath numbers, 50 digits."""
    logp, losses, gradient = [], [], []
    for row, target in zip(x.astype(float), y, strict=True):
        numbers = [mpmath.mpf(float(v)) for v in row]
        top = max(range(len(numbers)), key=numbers.__getitem__)
        e = [mpmath.exp(v - numbers[top]) for v in numbers]
        others = mpmath.fsum(e[:top] + e[top + 1 :])
        log_s, s = mpmath.log1p(others), 1 + others
        logp.append([(v - numbers[top]) - log_s for v in numbers])
        losses.append(log_s + (numbers[top] - numbers[target]))
        gradient.append([v / s for v in e])
        gradient[-1][target] = -(others if target == top else mpmath.fsum(e[:target] + e[target + 1 :])) / s
    return logp, losses, gradient


def pairs(wanted):
    """Exact numbers as float64 and what that leaves over."""
    flat = np.array(wanted, dtype=object)
    nearest = flat.astype(float)
    rest = [float(w - mpmath.mpf(n)) if mpmath.isfinite(w) else 0.0 for w, n in zip(flat.ravel(), nearest.ravel(), strict=True)]
    return nearest, np.reshape(rest, nearest.shape)


def worst(actual, wanted, dtype):
    """The largest error, in units in the last place."""
    nearest, rest = wanted
    info = ml_dtypes.finfo(dtype)
    actual, odd = np.asarray(actual).astype(float), ~np.isfinite(nearest)
    if (actual[odd] != nearest[odd]).any() or not np.isfinite(actual[~odd]).all():
        return np.inf
    size = np.maximum(np.abs(nearest[~odd]), float(info.smallest_normal))
    unit = np.ldexp(1.0, np.frexp(size)[1] - 1 - info.nmant)
    return (np.abs((actual[~odd] - nearest[~odd]) - rest[~odd]) / unit).max(initial=0.0)


def written(error):
    if error is None:
        return "–"
    if np.isinf(error):
        return "∞"
    return f"{float(error):.2f}" if error < 100 else f"{float(error):.0e}".replace("e+0", "e").replace("e+", "e")


def best(errors):
    """nbloss is the best, or within a tenth of the best (or half a unit: both are right)."""
    others = [e for e in errors[1:] if e is not None]
    return not others or errors[0] <= max(min(others) * 1.1, 0.5)


def measure(rows, huge):
    """One line of the table per dtype, input and operation: the texts, and whether nbloss is the best."""
    mpmath.mp.dps = 50
    for dtype in DTYPES:
        for name, x, y in inputs(dtype, rows, huge):
            x = x.astype(dtype)
            wanted, found = [pairs(w) for w in exact(x, y)], {}
            for peer in PEERS:
                try:
                    with np.errstate(all="ignore"):
                        found[peer] = globals()[f"by_{peer}"](x, y)
                except (ImportError, TypeError, ValueError, RuntimeError):  # not installed, or not for this dtype
                    found[peer] = [None] * 3
            for k, operation in enumerate(OPERATIONS):
                errors = [None if found[p][k] is None else worst(found[p][k], wanted[k], dtype) for p in PEERS]
                yield np.dtype(dtype).name, name, operation, [written(e) for e in errors], best(errors)


# ------------------------------ options ------------------------------

DIGITS = 150  # so many that even the plain differences below, such as p - 1, keep fifty


class Row:
    """One row in `DIGITS` digits: its logits u, the target, s = sum exp(u), p = softmax(u), L = log s, l = -log p[y], r = 1 - p[y]."""

    def __init__(self, u, target, v):
        self.u, self.target, self.v = [mpmath.mpf(float(a)) for a in u], int(target), [mpmath.mpf(float(a)) for a in v]
        self.e = [mpmath.exp(a) for a in self.u]
        self.s = mpmath.fsum(self.e)
        self.p = [a / self.s for a in self.e]
        self.L = mpmath.log(self.s)
        self.l = self.L - self.u[self.target]
        self.r = 1 - self.p[self.target]

    def minus_target(self, a, factor=1):
        """a_c - factor [c = y]."""
        return [value - factor * (c == self.target) for c, value in enumerate(a)]


def exact_lse_square(row, scale=1e-3):
    scale = mpmath.mpf(scale)
    return row.l + scale * row.L**2, row.minus_target([(1 + 2 * scale * row.L) * a for a in row.p])


def exact_sample_weight(row):
    weight = abs(row.v[0])
    return weight * row.l, [weight * a for a in row.minus_target(row.p)]


def exact_focal(gamma):
    def exact(row):
        slope = row.r**gamma * (1 + gamma * row.p[row.target] * row.l / row.r)
        return row.r**gamma * row.l, [slope * a for a in row.minus_target(row.p)]

    return exact


def exact_distillation(row, temperature=2):
    """``v`` are the logits of the teacher."""
    student, teacher = (Row([a / temperature for a in numbers], 0, []) for numbers in (row.u, row.v))
    terms = [q * (b - a - teacher.L + student.L) for q, a, b in zip(teacher.p, student.u, teacher.u, strict=True)]
    return temperature**2 * mpmath.fsum(terms), [temperature * (a - b) for a, b in zip(student.p, teacher.p, strict=True)]


def exact_stats(row):
    return row.L, -row.l, mpmath.fsum(a * (row.L - b) for a, b in zip(row.p, row.u, strict=True))


def exact_capped(row, scale, cap):
    """u = k tanh(a x / k)."""
    capped = Row([cap * mpmath.tanh(scale * a / cap) for a in row.u], row.target, [])
    slopes = [scale * (1 - (a / cap) ** 2) for a in capped.u]
    return capped.l, [a * b for a, b in zip(slopes, capped.minus_target(capped.p), strict=True)]


def exact_scaled(row, scale):
    scaled = Row([scale * a for a in row.u], row.target, [])
    return scaled.l, [scale * a for a in scaled.minus_target(scaled.p)]


def exact_hvp(row):
    total = mpmath.fsum(a * b for a, b in zip(row.p, row.v, strict=True))
    return ([a * (b - total) for a, b in zip(row.p, row.v, strict=True)],)


def exact_hessian_diag(row):
    return ([a * (1 - a) for a in row.p],)


def of_rows(function, *arguments, **options):
    return function(*arguments, reduction="none", **options)


def first(v):
    """The weights of rows: v's first column, without signs."""
    return np.abs(v[:, 0])


def torch_rows(losses, x, *more):
    """The losses of rows and the gradient of their sum, by autograd."""
    import torch

    x = torch.from_numpy(x.copy()).requires_grad_()
    loss = losses(torch, x, *map(torch.from_numpy, more))
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach().numpy(), gradient.numpy()


def torch_entropy(torch, x):
    p = torch.softmax(x, 1)
    return -torch.special.xlogy(p, p).sum(1)


def torch_stats(x, y):
    import torch

    x, y = torch.from_numpy(x), torch.from_numpy(y)
    log_prob = -torch.nn.functional.cross_entropy(x, y, reduction="none")
    return [a.numpy() for a in (torch.logsumexp(x, 1), log_prob, torch_entropy(torch, x))]


def torch_second_order(x, y, v, diagonal):
    import torch

    p = torch.softmax(torch.from_numpy(x), 1)
    v = torch.from_numpy(v)
    return ((p * (1 - p) if diagonal else p * (v - (p * v).sum(1, keepdim=True))).numpy(),)


def torch_ce(torch, x, y):
    return torch.nn.functional.cross_entropy(x, y, reduction="none")


def torch_focal(gamma):
    def losses(torch, x, y):
        loss = torch_ce(torch, x, y)
        return (1 - torch.exp(-loss)) ** gamma * loss

    return losses


def torch_distillation(torch, x, teacher, temperature=2):
    logp, logq = torch.log_softmax(x / temperature, 1), torch.log_softmax(teacher / temperature, 1)
    return temperature**2 * torch.nn.functional.kl_div(logp, logq, log_target=True, reduction="none").sum(1)


class Option(NamedTuple):
    """What nbloss computes from (F, x, y, v), by mpmath from a `Row`, and by PyTorch from (x, y, v); v is an array of x's shape."""

    results: tuple[str, ...]
    ours: Callable
    exact: Callable
    torch: Callable
    bound: float | None = None  # units for each result but a gradient; None: no rule
    inputs: tuple[str, ...] = ("ordinary", "confident, margin 10", "shifted by 1e4")


LOSS, SECOND = ("loss", "gradient"), ("ordinary", "confident, margin 10")
OPTIONS = {  # a new option is one entry
    "lse_square_scale=1e-3": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.cross_entropy_value_and_grad, x, y, lse_square_scale=1e-3),
        exact_lse_square,
        lambda x, y, v: torch_rows(lambda t, x, y: torch_ce(t, x, y) + 1e-3 * t.logsumexp(x, 1) ** 2, x, y),
        6,
    ),
    "sample_weight": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.cross_entropy_value_and_grad, x, y, sample_weight=first(v)),
        exact_sample_weight,
        lambda x, y, v: torch_rows(lambda t, x, y, w: w * torch_ce(t, x, y), x, y, first(v)),
        4.5,
    ),
    "focal, gamma=2": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.focal_loss_value_and_grad, x, y, gamma=2.0),
        exact_focal(2),
        lambda x, y, v: torch_rows(torch_focal(2), x, y),
        12,
    ),
    "focal, gamma=5": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.focal_loss_value_and_grad, x, y, gamma=5.0),
        exact_focal(5),
        lambda x, y, v: torch_rows(torch_focal(5), x, y),
        24,
    ),
    "distillation, T=2": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.distillation_loss_value_and_grad, x, v, temperature=2.0),
        exact_distillation,
        lambda x, y, v: torch_rows(torch_distillation, x, v),
        6,
        ("student far", "student 1e-2 from its teacher", "student 1e-4 from its teacher"),
    ),
    "cross_entropy_stats": Option(
        ("lse", "log_prob", "entropy"),
        lambda F, x, y, v: [getattr(F.cross_entropy_stats(x, y), name) for name in ("lse", "log_prob", "entropy")],
        exact_stats,
        lambda x, y, v: torch_stats(x, y),
        4,
    ),
    "logit_scale=0.75": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.cross_entropy_value_and_grad, x, y, logit_scale=0.75),
        lambda row: exact_scaled(row, mpmath.mpf(0.75)),
        lambda x, y, v: torch_rows(lambda t, x, y: torch_ce(t, 0.75 * x, y), x, y),
    ),
    "softcap=30": Option(
        LOSS,
        lambda F, x, y, v: of_rows(F.cross_entropy_value_and_grad, x, y, softcap=30.0),
        lambda row: exact_capped(row, 1, 30),
        lambda x, y, v: torch_rows(lambda t, x, y: torch_ce(t, 30 * t.tanh(x / 30), y), x, y),
        inputs=SECOND,
    ),
    "hvp": Option(
        ("product",),
        lambda F, x, y, v: (F.cross_entropy_hvp(v, x, y, reduction="none"),),
        exact_hvp,
        lambda x, y, v: torch_second_order(x, y, v, False),
        inputs=SECOND,
    ),
    "hessian_diag": Option(
        ("diagonal",),
        lambda F, x, y, v: (F.cross_entropy_hessian_diag(x, y, reduction="none"),),
        exact_hessian_diag,
        lambda x, y, v: torch_second_order(x, y, v, True),
        inputs=SECOND,
    ),
}


def option_inputs(rows):
    """name -> logits, targets, and an array of the logits' shape: weights, a teacher's logits, or a direction."""
    rng = np.random.default_rng(1)
    found = {name: (x, y, rng.normal(0, 1, x.shape)) for name, x, y in inputs(np.float64, rows, 12)}
    x, y = rng.normal(0, 3, (rows, 100)), rng.integers(0, 100, rows)
    apart = rng.normal(0, 1, x.shape)
    found["student far"] = x, y, x + 2 * apart
    return found | {f"student {d} from its teacher": (x, y, x + float(d) * apart) for d in ("1e-2", "1e-4")}


def measure_options(rows):
    """(dtype, option, input, result, nbloss's error, torch's error) for each line of the table."""
    import nbloss.functional as F

    mpmath.mp.dps = DIGITS
    given = option_inputs(rows)
    for dtype in (np.float32, np.float64):
        for name, option in OPTIONS.items():
            for of in option.inputs:
                x, y, v = given[of]
                x, v = x.astype(dtype), v.astype(dtype)
                exact = zip(*(option.exact(Row(*row)) for row in zip(x, y, v, strict=True)), strict=True)
                wanted = [pairs(list(w)) for w in exact]
                found = [option.ours(F, x, y, v)]
                try:
                    found.append(option.torch(x, y, v))
                except ImportError:
                    found.append([None] * len(wanted))
                for k, result in enumerate(option.results):
                    yield np.dtype(dtype).name, name, of, result, *(None if f[k] is None else worst(f[k], wanted[k], dtype) for f in found)


def option_table(rows, huge):
    lines = ["| dtype | option | input | | nbloss | torch |", "| --- | --- | --- | --- | --- | --- |"]
    cells = list(measure_options(rows))
    for *texts, ours, theirs in cells:
        error = f"**{written(ours)}**" if best([ours, theirs]) else f"{written(ours)} (not the best)"
        lines.append("| " + " | ".join([*texts, error, written(theirs)]) + " |")
    won = sum(best([ours, theirs]) for *_, ours, theirs in cells)
    words = f"{len(cells)} cells, {rows} rows each; nbloss is the best, or equal, in {won}. {versions('numba', 'torch', 'numpy')}."
    return "\n".join([words, "", *lines])


# ------------------------------ the page ------------------------------


def versions(*names):
    from importlib import metadata

    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def table(rows, huge):
    lines = ["| dtype | input | | " + " | ".join(PEERS) + " |", "| --- | --- | --- |" + " --- |" * len(PEERS)]
    lost = cells = 0
    for dtype, name, operation, texts, won in measure(rows, huge):
        cells, lost = cells + 1, lost + (not won)
        texts[0] = f"**{texts[0]}**" if won else f"{texts[0]} (not the best)"
        lines.append(f"| {dtype} | {name} | {operation} | " + " | ".join(texts) + " |")
    words = f"{cells} cells, {rows} rows each (2 of the largest); nbloss is the best, or equal, in {cells - lost}. "
    words += versions("numba", "torch", "jax", "scipy", "scikit-learn", "numpy") + "."
    return "\n".join([words, "", *lines])


TABLES = {"peers": ("", table), "options": (", options", option_table)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the tables of docs/numerics.md")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="these tables")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--classes", type=int, default=20000, help="of the largest input")
    args = parser.parse_args()
    for name in args.only:
        mark, make = TABLES[name]
        text = make(args.rows, args.classes)
        print(text)
        if args.write:
            head, begin, rest = PAGE.read_text().partition(BEGIN.format(mark))
            PAGE.write_text(f"{head}{begin}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
